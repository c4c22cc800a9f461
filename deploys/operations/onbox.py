"""Put files and unpacked archives on a box. Each is replaced whole or not at all.

A power cut leaves the old file or the new one: the new content is written beside the old,
flushed to the disk, then renamed. All files that differ are sent as one archive, as a round trip
to an emulated guest takes a tenth of a second.
"""

from __future__ import annotations

import hashlib
import io
import shlex
import stat
import tarfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import OperationValueError
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.errors import DeployError
from deploys.facts.onbox import Entries, FileStates, LinkTarget, Present
from deploys.operations import Commands, Upload, arrived

OWNER = "root:root"
_DIGEST_LENGTH = 16


@dataclass(frozen=True)
class OnboxFile:
    """The content and the permission bits of a file on a box. Root owns it."""

    content: bytes = field(repr=False)
    mode: int = 0o644

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@operation()
def files(sources: Mapping[str, OnboxFile]) -> Commands:
    """Put the files ``sources``, by their paths, on the box.

    Parent directories are made. Only files with other content are sent. If only mode or owner
    differ, they are changed in place.

    Raises:
        OperationValueError: a path is not absolute, or has a newline or a backslash.
    """
    for path in sources:
        _check_path(path)
    states = host.get_fact(FileStates, paths=sorted(sources)) if sources else {}
    missing: dict[str, OnboxFile] = {}
    mend: list[str] = []
    for path, source in sorted(sources.items()):
        state = states.get(path)
        if state is None or state.sha256 != source.sha256:
            missing[path] = source
        elif (state.mode, state.owner) != (source.mode, OWNER):
            # chown is first, as it drops setuid bits, which chmod then sets.
            mend.append(f"chown {OWNER} -- {_quote(path)}")
            mend.append(f"chmod {source.mode:o} -- {_quote(path)}")
    if missing:
        upload = Upload(_pack(missing))
        yield upload.command
        moves = [f"mv -fT -- {_quote(_new(path))} {_quote(path)}" for path in missing]
        new = " ".join(_quote(_new(path)) for path in missing)
        yield _script(
            "umask 022",
            *arrived(upload),
            f"tar -C / -xpmf {upload.path} --numeric-owner",
            f"sync -- {new}",
            *moves,
        )
    if mend:
        yield _script(*mend)


@operation()
def unpacked(archive: Path, digest: str, path: str, compiled: bool = False) -> Commands:
    """Unpack the tar file ``archive`` on the box, and make ``path`` a symbolic link to it.

    The link points to ``path-DIGEST`` beside it. It is changed at the end; then older versions are
    removed. If it points there already, nothing is sent.

    Args:
        archive: a tar file on this machine, compressed or not.
        digest: a hexadecimal digest of the archive's content.
        path: an absolute path on the box.
        compiled: have the box's Python, if there is one, compile the modules.

    Raises:
        OperationValueError: ``path`` or ``digest`` is malformed.
    """
    _check_path(path)
    if len(digest) < _DIGEST_LENGTH or not set(digest) <= set("0123456789abcdef"):
        raise OperationValueError(f"{digest!r} is not a hexadecimal digest")
    version = str(PurePosixPath(path).with_name(unpacked_name(path, digest)))
    if host.get_fact(LinkTarget, path=path) == unpacked_name(path, digest):
        return
    upload = Upload(archive)
    yield upload.command
    target, name = _quote(version), _quote(PurePosixPath(version).name)
    part, link = _quote(f"{version}.part"), _quote(_new(path))
    # Else they are compiled again after each reset.
    compile_all = _compilation(f"-s {part} -p {target} {part}")
    yield _script(
        "umask 022",
        *arrived(upload),
        f"rm -rf -- {part} {target} {link}",
        f"mkdir -p -- {part}",
        f"tar -C {part} -xpf {upload.path} --no-same-owner",
        *([compile_all] if compiled else []),
        f"sync -f -- {part}",
        f"mv -T -- {part} {target}",
        f"ln -s -- {name} {link}",
        # A rename cannot replace a directory of that name.
        f"if [ ! -L {_quote(path)} ]; then rm -rf -- {_quote(path)}; fi",
        f"mv -fT -- {link} {_quote(path)}",
        f'for old in {_quote(path)}-*; do [ "$old" = {target} ] || rm -rf -- "$old"; done',
    )


@operation()
def removed(path: str) -> Commands:
    """Remove what :func:`unpacked` put at ``path``.

    Raises:
        OperationValueError: ``path`` is malformed.
    """
    _check_path(path)
    if host.get_fact(LinkTarget, path=path) is None:
        return
    # The link is removed last: by it a later run sees that this one broke off.
    yield _script(f"rm -rf -- {_quote(path)}-*", f"rm -f -- {_quote(path)}")


@operation()
def byte_compiled(path: str) -> Commands:
    """Have the box's Python, if there is one, compile the modules below ``path``.

    Python checks the result by the module's hash, as :func:`files` gives all files the same time.
    """
    _check_path(path)
    yield _script(_compilation(f"--invalidation-mode checked-hash {_quote(path)}"))


@operation()
def linked(path: str, target: str, replace: bool = True) -> Commands:
    """Make ``path`` on the box a symbolic link to ``target``.

    A directory at ``path`` is replaced if it is empty. Else this fails, as its files may be needed.
    Without ``replace`` whatever is at ``path`` stays.

    Raises:
        OperationValueError: ``path`` is malformed.
    """
    _check_path(path)
    if host.get_fact(LinkTarget, path=path) == target:
        return
    if not replace and host.get_fact(Present, paths=[path]):
        return
    yield _script(
        f"mkdir -p -- {_quote(str(PurePosixPath(path).parent))}",
        f"if [ -d {_quote(path)} ] && [ ! -L {_quote(path)} ]; then rmdir -- {_quote(path)}; fi",
        f"ln -sfnT -- {_quote(target)} {_quote(path)}",
    )


def unpacked_name(path: str, digest: str) -> str:
    """The target of the link ``path`` when the archive with ``digest`` is unpacked there."""
    return f"{PurePosixPath(path).name}-{digest[:_DIGEST_LENGTH]}"


def _pack(sources: Mapping[str, OnboxFile]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, source in sources.items():
            member = tarfile.TarInfo(_new(path).lstrip("/"))
            member.size, member.mode = len(source.content), source.mode
            tar.addfile(member, io.BytesIO(source.content))
    return buffer.getvalue()


def _new(path: str) -> str:
    # The name is hidden, so that run-parts(8) does not run a file that a power cut left.
    place = PurePosixPath(path)
    return str(place.with_name(f".{place.name}.onbox-new"))


def _compilation(arguments: str) -> str:
    return f"python3 -m compileall -q {arguments} >/dev/null || true"


def _check_path(path: str) -> None:
    if not path.startswith("/") or any(character in path for character in "\n\\\0"):
        raise OperationValueError(f"{path!r} is not an absolute path without odd characters")


def _script(*lines: str) -> StringCommand:
    return StringCommand("set -e; " + "; ".join(lines))


def _quote(text: str) -> str:
    return shlex.quote(text)


ONBOX = Path(__file__).resolve().parents[2] / "static" / "onbox"


def tree(*relative_paths: str, root: Path = ONBOX) -> dict[str, OnboxFile]:
    """Read files of this checkout, by the paths that they get on a box.

    A file's mode on the box is 0755 if its owner may execute it here, else 0644. Python's
    ``__pycache__`` is left out.

    Args:
        relative_paths: files below ``root``, as ``usr/sbin/provisiond``, or directories, with all
            files below them.
        root: the directory that has the same tree as a box.

    Raises:
        DeployError: a path does not exist.
    """
    found: dict[str, OnboxFile] = {}
    for relative in relative_paths:
        start = root / relative
        if not start.exists():
            raise DeployError(f"{start}: no such file; is this checkout complete?")
        for file in sorted(start.rglob("*")) if start.is_dir() else [start]:
            if file.is_file() and "__pycache__" not in file.parts:
                executable = file.stat().st_mode & stat.S_IXUSR
                mode = 0o755 if executable else 0o644
                found[f"/{file.relative_to(root)}"] = OnboxFile(file.read_bytes(), mode)
    return found


# The name of an item has its version, so an item that exists is never replaced. A copy is hidden
# until it is whole.
_COPY = """
set -eu
umask 022
part=$2/.part-provision
for item in "$1"/*; do
    [ ! -e "$2/${item##*/}" ] || continue
    rm -rf "$part"
    cp -RP "$item" "$part"
    sync -f "$part"
    mv -T "$part" "$2/${item##*/}"
done
"""


@operation()
def items(names: Collection[str], source: str, target: str) -> Commands:
    """Copy the items ``names`` from one folder on the box to another, if one is missing there."""
    had: set[str] = host.get_fact(Entries, folder=target)
    if set(names) - had:
        yield StringCommand(shlex.join(("sh", "-c", _COPY, "items", source, target)))
