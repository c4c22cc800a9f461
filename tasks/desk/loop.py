"""Loop devices, mounts and chroots that are given back whatever happens."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from deploys.errors import BoxError
from tasks.desk import shell


def require_root(purpose: str) -> None:
    """Raises BoxError in one line when this process is not root."""
    if os.geteuid() != 0:
        raise BoxError(f"{purpose} needs root (loop devices, mounts): run it as root or with sudo")


@contextmanager
def attached(file: Path, *, offset: int = 0, size: int | None = None) -> Iterator[Path]:
    """The loop device of a file, or of the part of it from ``offset`` on, ``size`` bytes long.

    Each partition gets a loop device of its own, by offset: a kernel without partition
    scanning makes no nodes for ``losetup --partscan``.
    """
    argv = ["losetup", "--find", "--show", "--offset", str(offset)]
    if size is not None:
        argv += ["--sizelimit", str(size)]
    device = Path(shell.run([*argv, file]).stdout.strip())
    try:
        yield device
    finally:
        _release("losetup", "--detach", str(device))


@contextmanager
def mounted(source: Path | str, target: Path, *options: str) -> Iterator[Path]:
    """``source`` mounted on the folder ``target``."""
    shell.run(["mount", *options, str(source), target])
    try:
        yield target
    finally:
        _release("umount", str(target))


@retry(
    retry=retry_if_exception_type(shell.CommandError),
    stop=stop_after_delay(15),
    wait=wait_fixed(0.2),
    reraise=True,
)
def _release(*argv: str) -> None:
    # Something the chroot started may hold the folder for an instant longer.
    shell.run(argv)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder to mount on."""
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="mount-"))
    try:
        yield folder
    finally:
        folder.rmdir()  # never rmtree: what could not be unmounted stays whole


@contextmanager
def chroot(root: Path, devices: Mapping[str, Path] | None = None) -> Iterator[Path]:
    """``root`` with /proc, /sys and a /dev of its own, ready for commands in it.

    The /dev is private: an image builder must see its own disks and nothing of the host's,
    or GRUB's tools would describe the host. ``devices`` are further nodes in it, each a name
    and the host's device. One of another name than the host's gets that as a link: it is what
    the kernel says of a mount, and by which GRUB's tools come to the name given.
    """
    with ExitStack() as stack:
        stack.enter_context(mounted("proc", root / "proc", "-t", "proc"))
        stack.enter_context(mounted("sys", root / "sys", "-t", "sysfs", "-o", "ro"))
        dev = stack.enter_context(mounted("dev", root / "dev", "-t", "tmpfs", "-o", "mode=755"))
        stack.enter_context(mounted("run", root / "run", "-t", "tmpfs", "-o", "mode=755"))
        nodes = {
            name: Path("/dev") / name for name in ("null", "zero", "full", "random", "urandom")
        }
        for name, source in {**nodes, **(devices or {})}.items():
            _node(dev / name, source)
            if name != source.name:
                (dev / source.name).symlink_to(name)
        (dev / "fd").symlink_to("/proc/self/fd")
        yield root


@contextmanager
def visible(root: Path, device: Path, name: str) -> Iterator[str]:
    """A device in the /dev of a chroot; its path there."""
    node = root / "dev" / name
    _node(node, device)
    try:
        yield f"/dev/{name}"
    finally:
        node.unlink()


def make_scratch(file: Path, size: int, identity: str = "") -> None:
    """Make an ext4 filesystem that no power cut is to be survived in.

    Args:
        file: takes what is written to it, not ``size`` bytes.
        size: in bytes.
        identity: its UUID; empty: one at random.
    """
    with file.open("wb") as empty:
        empty.truncate(size)
    named = ("-U", identity) if identity else ()
    shell.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", *named, file])


@contextmanager
def scratch(folder: Path, size: int, identity: str = "") -> Iterator[Path]:
    """The loop device of such a filesystem, whose file in ``folder`` goes when the block ends."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="scratch-") as file:
        make_scratch(Path(file.name), size, identity)
        with attached(Path(file.name)) as device:
            yield device


@contextmanager
def scratch_copy(made: Path, folder: Path) -> Iterator[Path]:
    """The loop device of a copy of one, whose file in ``folder`` goes when the block ends."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="scratch-") as file:
        shell.run(["cp", made, file.name])  # its holes stay holes
        with attached(Path(file.name)) as device:
            yield device


def scratch_mounted(device: Path, target: Path) -> AbstractContextManager[Path]:
    """Such a filesystem mounted: what asks for its files to be on the disk need not wait for it."""
    return mounted(device, target, "-o", "nobarrier,noinit_itable")


def flush(mounted_at: Path, place: Path) -> None:
    """Have all that was written to a scratch filesystem in its file, which lies in ``place``.

    Raises:
        BoxError: not all of it is; what lies there now is not what was written.
    """
    try:
        shell.run(["sync", "--file-system", mounted_at])
    except shell.CommandError as error:
        raise BoxError(f"{place}: the disk is full or failing") from error


def _node(path: Path, source: Path) -> None:
    status = source.stat()
    kind = stat.S_IFMT(status.st_mode)
    os.mknod(path, kind, status.st_rdev)
    path.chmod(0o660 if kind == stat.S_IFBLK else 0o666)
