"""Loop devices, mounts and chroots that are released when their block ends."""

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


def require_root(purpose: str, remedy: str = "run it as root or with sudo") -> None:
    """Raise BoxError when this process is not root; ``remedy`` says what to do."""
    if os.geteuid() != 0:
        raise BoxError(f"{purpose} needs root (loop devices, mounts): {remedy}")


@contextmanager
def attached(file: Path, *, offset: int = 0, size: int | None = None) -> Iterator[Path]:
    """Attach a loop device to a file, or to ``size`` bytes of it from byte ``offset`` on.

    Each partition gets its own loop device: without partition scanning in the kernel,
    ``losetup --partscan`` makes no device nodes.
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
    """Mount ``source`` on the folder ``target``."""
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
    # A process of the chroot may hold the folder a moment longer.
    shell.run(argv)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Make a new folder to mount on."""
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="mount-"))
    try:
        yield folder
    finally:
        folder.rmdir()  # not rmtree: a filesystem may still be mounted there


@contextmanager
def chroot(root: Path, devices: Mapping[str, Path] | None = None) -> Iterator[Path]:
    """Mount /proc, /sys, /run and a private /dev in ``root``, so that commands can run in it.

    The /dev shows none of the host's disks; otherwise GRUB's tools would describe the host.
    ``devices`` maps further names in it to devices of the host. Where the two names differ, the
    host's name is a link to the new one: the kernel lists a mount by the host's name, and GRUB's
    tools follow the link.
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
    """Make a device node in the /dev of a chroot; yields its path there."""
    node = root / "dev" / name
    _node(node, device)
    try:
        yield f"/dev/{name}"
    finally:
        node.unlink()


def make_scratch(file: Path, size: int, identity: str = "") -> None:
    """Make an ext4 filesystem without a journal: it need not survive a power cut.

    Args:
        file: sparse; it takes only the room of what is written to it.
        size: in bytes.
        identity: its UUID; empty: a random one.
    """
    with file.open("wb") as empty:
        empty.truncate(size)
    named = ("-U", identity) if identity else ()
    shell.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", *named, file])


@contextmanager
def scratch(folder: Path, size: int, identity: str = "") -> Iterator[Path]:
    """Make such a filesystem in a temporary file in ``folder``; yields its loop device."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="scratch-") as file:
        make_scratch(Path(file.name), size, identity)
        with attached(Path(file.name)) as device:
            yield device


@contextmanager
def scratch_copy(made: Path, folder: Path) -> Iterator[Path]:
    """Copy such a filesystem to a temporary file in ``folder``; yields its loop device."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="scratch-") as file:
        shell.run(["cp", made, file.name])  # cp keeps the holes
        with attached(Path(file.name)) as device:
            yield device


def scratch_mounted(device: Path, target: Path) -> AbstractContextManager[Path]:
    """Mount such a filesystem without write barriers, so that fsync is fast."""
    return mounted(device, target, "-o", "nobarrier,noinit_itable")


def flush(mounted_at: Path, place: Path) -> None:
    """Write all cached data of a scratch filesystem to its file, which is in ``place``.

    Raises:
        BoxError: not all could be written; the filesystem is not to be used.
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
