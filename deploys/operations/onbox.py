"""Put files and unpacked archives on a box, each replaced whole or not at all.

A power cut leaves the old file or the new one: content is written beside its place, flushed to
the disk, then renamed. However many files differ, they travel as one archive: a round trip
costs a tenth of a second and more on an emulated guest.
"""

from __future__ import annotations

import hashlib
import io
import shlex
import stat
import tarfile
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pyinfra.api.command import FileUploadCommand, StringCommand
from pyinfra.api.exceptions import OperationValueError
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.errors import DeployError
from deploys.facts.onbox import Entries, FileStates, LinkTarget

OWNER = "root:root"
# Written by root alone, on every Debian: unlike /tmp nobody can lay a link in the way.
_UPLOAD = "/var/cache/onbox-upload"
_DIGEST_LENGTH = 16

Commands = Generator[StringCommand | FileUploadCommand, None, None]


@dataclass(frozen=True)
class OnboxFile:
    """What a file on a box is to hold, and its permission bits; root owns it."""

    content: bytes = field(repr=False)
    mode: int = 0o644

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@operation()
def files(sources: Mapping[str, OnboxFile]) -> Commands:
    """Have each path of ``sources`` on the box with its content and mode, owned by root.

    Parent directories are made. Only what differs is sent; a wrong mode or owner alone is
    mended in place.

    Raises:
        OperationValueError: a path is not absolute, or holds a newline or a backslash.
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
            # chown first: it drops setuid bits that chmod then sets
            mend.append(f"chown {OWNER} -- {_quote(path)}")
            mend.append(f"chmod {source.mode:o} -- {_quote(path)}")
    if missing:
        yield FileUploadCommand(io.BytesIO(_pack(missing)), _UPLOAD)
        moves = [f"mv -fT -- {_quote(_new(path))} {_quote(path)}" for path in missing]
        new = " ".join(_quote(_new(path)) for path in missing)
        yield _script(
            "umask 022",
            f"tar -C / -xpmf {_UPLOAD} --numeric-owner",
            f"sync -- {new}",
            *moves,
            f"rm -f {_UPLOAD}",
        )
    if mend:
        yield _script(*mend)


@operation()
def unpacked(archive: Path, digest: str, path: str, compiled: bool = False) -> Commands:
    """Have the tar file ``archive`` unpacked at ``path``, a link to the newest of its versions.

    ``path`` becomes a symbolic link to ``path-DIGEST`` beside it, switched at the end; older
    versions are removed. The link's target says what is there, so nothing is sent twice.

    Args:
        archive: a tar file on this machine, compressed or not.
        digest: hexadecimal, names the archive's content.
        path: absolute path on the box.
        compiled: have the box's Python compile the modules in it, once, where it has one.

    Raises:
        OperationValueError: ``path`` or ``digest`` is malformed.
    """
    _check_path(path)
    if len(digest) < _DIGEST_LENGTH or not set(digest) <= set("0123456789abcdef"):
        raise OperationValueError(f"{digest!r} is not a hexadecimal digest")
    version = str(PurePosixPath(path).with_name(unpacked_name(path, digest)))
    if host.get_fact(LinkTarget, path=path) == unpacked_name(path, digest):
        return
    yield FileUploadCommand(str(archive), _UPLOAD)
    target, name = _quote(version), _quote(PurePosixPath(version).name)
    part, link = _quote(f"{version}.part"), _quote(_new(path))
    # Else each start on a root that resets compiles them all again.
    compile_all = _compilation(f"-s {part} -p {target} {part}")
    yield _script(
        "umask 022",
        f"rm -rf -- {part} {target} {link}",
        f"mkdir -p -- {part}",
        f"tar -C {part} -xpf {_UPLOAD} --no-same-owner",
        *([compile_all] if compiled else []),
        f"sync -f -- {part}",
        f"mv -T -- {part} {target}",
        f"ln -s -- {name} {link}",
        # A directory of that name cannot be replaced by a rename.
        f"if [ ! -L {_quote(path)} ]; then rm -rf -- {_quote(path)}; fi",
        f"mv -fT -- {link} {_quote(path)}",
        f'for old in {_quote(path)}-*; do [ "$old" = {target} ] || rm -rf -- "$old"; done',
        f"rm -f {_UPLOAD}",
    )


@operation()
def removed(path: str) -> Commands:
    """Have nothing of what ``unpacked`` put at ``path``.

    Raises:
        OperationValueError: ``path`` is malformed.
    """
    _check_path(path)
    if host.get_fact(LinkTarget, path=path) is None:
        return
    # The link last: by it the next run knows that there is something left.
    yield _script(f"rm -rf -- {_quote(path)}-*", f"rm -f -- {_quote(path)}")


@operation()
def byte_compiled(path: str) -> Commands:
    """Have the box's Python compile the modules below ``path``, where it has one.

    They are known by their hash: ``files`` gives all of them one and the same time.
    """
    _check_path(path)
    yield _script(_compilation(f"--invalidation-mode checked-hash {_quote(path)}"))


@operation()
def linked(path: str, target: str) -> Commands:
    """Have ``path`` on the box a symbolic link to ``target``.

    A directory that was there before must be empty: what is in one is not ours to move.

    Raises:
        OperationValueError: ``path`` is malformed.
    """
    _check_path(path)
    if host.get_fact(LinkTarget, path=path) == target:
        return
    yield _script(
        f"mkdir -p -- {_quote(str(PurePosixPath(path).parent))}",
        f"if [ -d {_quote(path)} ] && [ ! -L {_quote(path)} ]; then rmdir -- {_quote(path)}; fi",
        f"ln -sfnT -- {_quote(target)} {_quote(path)}",
    )


def unpacked_name(path: str, digest: str) -> str:
    """Where the link at ``path`` points when what ``digest`` names is unpacked there."""
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
    # Hidden: what runs every file of a directory must not run one that a power cut left.
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
    """Path on the box to file, for each of ``relative_paths`` and all that lies below it.

    Args:
        relative_paths: files or directories below ``static/onbox``, as ``usr/sbin/provisiond``.
        root: the directory that mirrors the box's own paths.

    A file is 0755 on the box when its owner may execute it here, else 0644. What Python compiled of
    them here is left out.

    Raises:
        DeployError: a path is not there.
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


# An item of a name is one version of it for ever: what is there stays. Hidden until it is whole.
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
def items(names: Collection[str], source: str, target: str) -> Generator[StringCommand, None, None]:
    """Have the items ``names``, which lie in the folder ``source`` by then, in ``target`` too."""
    had: set[str] = host.get_fact(Entries, folder=target)
    if set(names) - had:
        yield StringCommand(shlex.join(("sh", "-c", _COPY, "items", source, target)))
