"""Makes the archives that a box carries (deploys/stack/bundle.py) on this machine.

The same input gives the same bytes. An archive is made once: its name has a digest of its input.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from deploys.errors import PreflightError
from deploys.stack.bundle import (
    COMMIT_FILE,
    PARTS,
    ROOT,
    Archive,
    Project,
    files_digest,
    project_files,
)
from tasks.desk import shell

# glibc of the oldest system a box may be, Ubuntu 22.04, is 2.35; wheels ask for 2.28 at most.
_PLATFORM = "x86_64-manylinux_2_28"
# uv evaluates the lock's markers for the box's Python, pip for its own.
_INSTALL = ("-m", "uv", "pip", "install", "--quiet", "--link-mode=copy")
_LOCK = ROOT / "requirements-box.txt"
# Raise it when _needed or pack changes, so that no older archive is used.
_RECIPE = "1"
_UNUSED = ("tests", "test", "testing", "__pycache__")


def python_bundle(version: str, folder: Path, lock: Path = _LOCK) -> Archive:
    """The libraries of ``requirements-box.txt`` for a box's Python, as a ``.tar.gz``.

    Args:
        version: of the box's ``/usr/bin/python3``, as ``3.13``.
        folder: where archives are kept.
        lock: the requirements, with hashes.

    Raises:
        PreflightError: the libraries do not support this Python.
        CommandError: the libraries cannot be fetched.
    """
    if not re.fullmatch(r"3\.1\d", version):
        raise PreflightError(f"the box's Python is {version!r}; 3.10 or newer is needed")
    source = f"{_RECIPE}\0{version}\0x86_64\0{lock.read_text()}"
    digest = hashlib.sha256(source.encode()).hexdigest()
    path = folder / f"python-{version}-x86_64-{digest[:16]}.tar.gz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".bundle-") as name:
            site_packages = Path(name)
            shell.run(
                [
                    *(sys.executable, *_INSTALL, "--target", site_packages),
                    *("--require-hashes", "--only-binary", ":all:", "--requirement", lock),
                    *("--python-version", version, "--python-platform", _PLATFORM),
                ],
                timeout=900,
            )
            pack(path, site_packages, _needed(site_packages))
    return Archive(path, digest)


def project_copy(folder: Path, root: Path = ROOT) -> Archive:
    """``deploys`` and ``static`` of this checkout, with their commit, as a ``.tar.gz``.

    Raises:
        DeployError: ``root`` is no checkout of this project.
        CommandError: git failed.
    """
    version = project_version(root)
    digest = hashlib.sha256(f"{version.commit}\0{version.digest}".encode()).hexdigest()
    path = folder / f"project-{digest[:16]}.tar.gz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".project-") as name:
            staged = Path(name)
            for file in _project_files(root):
                target = staged / file.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)
            (staged / COMMIT_FILE).write_text(f"{version.commit}\n")
            pack(path, staged)
    return Archive(path, digest)


def project_version(root: Path = ROOT) -> Project:
    """The last commit of this checkout that touched what goes on a box, and the files' digest.

    Raises:
        DeployError: ``root`` is no copy of this project.
        CommandError: git failed.
    """
    return Project(_commit(root), files_digest(_project_files(root), root))


def project_time() -> int:
    """When that commit was made, in seconds since 1970; 0 if there is none.

    Raises:
        CommandError: git is missing.
    """
    if not (ROOT / ".git").exists():
        return 0
    argv = ["git", "log", "-1", "--format=%ct", "--", *PARTS]
    return int(shell.run(argv, cwd=ROOT, check=False).stdout.strip() or 0)


def _project_files(root: Path) -> list[Path]:
    """Those of deploys.stack.bundle.project_files that git does not ignore."""
    files = project_files(root)
    if not (root / ".git").exists():
        return files
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *PARTS]
    listed = shell.run(argv, cwd=root).stdout
    wanted = {root / name for name in listed.split("\0") if name}
    return [file for file in files if file in wanted]


def _commit(root: Path) -> str:
    if not (root / ".git").exists():
        return "unknown"
    paths = ("--", *PARTS)
    # Fails in a repository without a commit.
    log = shell.run(["git", "log", "-1", "--format=%H", *paths], cwd=root, check=False)
    commit = log.stdout.strip()
    if not commit:
        return "unknown"
    changed = shell.run(["git", "status", "--porcelain", *paths], cwd=root).stdout
    return f"{commit}-dirty" if changed else commit


def _needed(site_packages: Path) -> Iterable[Path]:
    for file in site_packages.rglob("*"):
        parts = file.relative_to(site_packages).parts
        # Stubs such as types-paramiko serve type checkers only; scripts in bin/ have the path of
        # this machine's interpreter in them.
        unused = parts[0] in ("bin", ".lock") or parts[0].endswith("-stubs")
        unused = unused or any(part in _UNUSED for part in parts)
        if file.is_file() and not unused and file.suffix not in (".pyi", ".c", ".pyx", ".h"):
            yield file


def pack(path: Path, root: Path, files: Iterable[Path] | None = None) -> None:
    """Write files below ``root`` (not given: all) to a ``.tar.gz``, the same bytes each time.

    Symbolic links stay links.
    """
    found = root.rglob("*") if files is None else files
    chosen = (file for file in found if file.is_symlink() or file.is_file())
    part = path.with_name(f".{path.name}.part")
    with (
        part.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for file in sorted(chosen):
            member = tarfile.TarInfo(str(file.relative_to(root)))
            if file.is_symlink():
                member.type, member.linkname = tarfile.SYMTYPE, str(file.readlink())
                tar.addfile(member)
                continue
            member.size = file.stat().st_size
            member.mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
            with file.open("rb") as content:
                tar.addfile(member, content)
    part.replace(path)
