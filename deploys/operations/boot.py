"""Have a root boot as a box: its initrds and GRUB's entries, in place or in a mounted copy."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.host_state import VERDICTS
from deploys.facts.mapper import mapper_path
from deploys.facts.onbox import FileStates

Commands = Generator[StringCommand, None, None]

COPY = "/run/pipeline-golden"
"""Where the copied root is mounted while it is made bootable."""

IN_SNAPSHOT = "/run/resnap/in-snapshot"
"""There while the root is a snapshot: static/onbox/usr/lib/resnap/resnap leaves it."""

# Debian's and Ubuntu's makers of entries that boot the root update-grub happens to run on.
_OTHER_ENTRIES = ("10_linux", "10_linux_zfs", "20_linux_xen", "20_memtest86+", "30_os-prober")

_MOUNT = """
set -eu
golden=$1 boot=$2 copy=$3 esp=$4
mkdir -p "$copy"
mountpoint -q "$copy" || mount "$golden" "$copy"
mountpoint -q "$copy/boot" || mount "$boot" "$copy/boot"
[ -z "$esp" ] || mountpoint -q "$copy/boot/efi" || mount "$esp" "$copy/boot/efi"
for of_the_kernel in dev proc sys; do
    mountpoint -q "$copy/$of_the_kernel" && continue
    mount --rbind "/$of_the_kernel" "$copy/$of_the_kernel"
    mount --make-rslave "$copy/$of_the_kernel"
done
"""


class InitrdsAreCurrent(FactBase[bool]):
    """Whether makeinitrd has run since what it builds from last changed."""

    def command(self, root: str) -> str:
        return (
            f"{chroot_prefix(root)}/usr/sbin/makeinitrd --check 2>/dev/null && echo current || true"
        )

    @staticmethod
    def default() -> bool:
        return False

    def process(self, output: list[str]) -> bool:
        return "current" in output


class UnmarkedSnapshot(FactBase[str]):
    """The verdict on the snapshot that is the root, where /run/resnap/in-snapshot lacks it.

    An initrd that an earlier version of this project made leaves no such file.
    """

    def command(self) -> str:
        names = " ".join(name for name, meaning in VERDICTS.items() if meaning.mode == "snapshot")
        return (
            f"[ -e {IN_SNAPSHOT} ] || for verdict in {names}; do "
            "[ ! -e /run/resnap/$verdict ] || echo $verdict; done"
        )

    @staticmethod
    def default() -> str:
        return ""

    def process(self, output: list[str]) -> str:
        return "".join(output)


@operation()
def marked_snapshot() -> Commands:
    """Have /run/resnap/in-snapshot, which units ask for, whatever version made the initrd."""
    if verdict := host.get_fact(UnmarkedSnapshot):
        yield StringCommand(f"echo {verdict} >{IN_SNAPSHOT}")


@operation()
def initrds(root: str = "", stale: bool = False) -> Commands:
    """Have initrds and GRUB's entries made from the reset's present files.

    ``stale`` says that those files are about to change, by an operation before this one.
    """
    if stale or not host.get_fact(InitrdsAreCurrent, root=root):
        yield StringCommand(f"{chroot_prefix(root)}/usr/sbin/makeinitrd")


@operation()
def stale_initrds() -> Commands:
    """Have the next :func:`initrds` make them, whatever its sources say: others may differ."""
    yield StringCommand("rm", "-f", "/var/lib/resnap/made")


@operation()
def no_other_entries(root: str = "") -> Commands:
    """Have GRUB's menu hold no entry that would boot a root without the reset.

    An executable script of /etc/grub.d makes entries; dpkg keeps the mode of these conffiles.
    """
    paths = [f"{root}/etc/grub.d/{name}" for name in _OTHER_ENTRIES]
    states = host.get_fact(FileStates, paths=paths)
    executable = [path for path, state in states.items() if state.mode & 0o111]
    if executable:
        yield StringCommand("chmod", "a-x", "--", *map(shlex.quote, executable))


@operation()
def mounted_copy(group: str, volume: str, boot: str, esp: str = "") -> Commands:
    """Mount the copied root at :data:`COPY`, with its /boot and the kernel's filesystems.

    ``esp`` is the partition of /boot/efi, where there is one.
    """
    words = ("sh", "-c", _MOUNT, "mount-copy", mapper_path(group, volume), boot, COPY, esp)
    yield StringCommand(shlex.join(words))


@operation()
def unmounted_copy() -> Commands:
    """Undo :func:`mounted_copy`."""
    yield StringCommand(f"sync && umount --recursive {COPY} && rmdir {COPY}")


@operation()
def grub_for_bios(disks: Sequence[str], root: str) -> Commands:
    """Install GRUB for BIOS on whole disks, those that the machine boots from now last.

    Args:
        disks: paths of whole disks.
        root: where the root with the ``/boot`` it is to read is mounted.
    """
    for disk in disks:
        yield StringCommand(
            f"{chroot_prefix(root)}/usr/lib/resnap/install-grub {shlex.quote(disk)}"
        )


@operation()
def next_boot(entry: str, root: str = "") -> Commands:
    """Have the next boot, and that one alone, take one of GRUB's entries by its id."""
    yield StringCommand(f"{chroot_prefix(root)}/usr/lib/resnap/next-boot {shlex.quote(entry)}")


@operation()
def trial(word: str) -> Commands:
    """Run the script ``trial`` with one of its words: ``save``, ``begin``, ``keep`` or ``drop``."""
    yield StringCommand("/usr/lib/resnap/trial", word)


def chroot_prefix(root: str) -> str:
    """What a command begins with that is to run in the root mounted at ``root``; empty: here."""
    return f"chroot {shlex.quote(root)} " if root else ""
