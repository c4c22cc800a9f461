"""Make a root boot as a box, with its initrds and GRUB's entries; also a mounted copy of a root."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.host_state import VERDICTS
from deploys.facts.mapper import mapper_path
from deploys.facts.onbox import FileStates, Present
from deploys.operations import Commands

COPY = "/run/pipeline-golden"
"""Where the copied root is mounted while it is made bootable."""

IN_SNAPSHOT = "/run/resnap/in-snapshot"
"""A file that exists while the root is a snapshot (static/onbox/usr/lib/resnap/resnap)."""

GIVEN_BACK = "grub/given-back"
"""In /boot: with this file GRUB starts the old root (static/onbox/etc/grub.d/09_resnap)."""

# Scripts of Debian and Ubuntu. Their entries boot the root that update-grub runs on.
_OTHER_ENTRIES = ("10_linux", "10_linux_zfs", "20_linux_xen", "20_memtest86+", "30_os-prober")

_MOUNT = """
set -eu
golden=$1 boot=$2 copy=$3 esp=$4
mkdir -p "$copy"
mountpoint -q "$copy" || mount "$golden" "$copy"
bind=
[ ! -d "$boot" ] || bind=--bind
mountpoint -q "$copy/boot" || mount $bind "$boot" "$copy/boot"
[ -z "$esp" ] || mountpoint -q "$copy/boot/efi" || mount "$esp" "$copy/boot/efi"
for of_the_kernel in dev proc sys; do
    mountpoint -q "$copy/$of_the_kernel" && continue
    mount --rbind "/$of_the_kernel" "$copy/$of_the_kernel"
    mount --make-rslave "$copy/$of_the_kernel"
done
"""


class InitrdsAreCurrent(FactBase[bool]):
    """Whether makeinitrd has run since its sources last changed."""

    default = bool

    def command(self, root: str) -> str:
        return (
            f"{chroot_prefix(root)}/usr/sbin/makeinitrd --check 2>/dev/null && echo current || true"
        )

    def process(self, output: list[str]) -> bool:
        return "current" in output


class UnmarkedSnapshot(FactBase[str]):
    """The verdict, if the root is a snapshot and /run/resnap/in-snapshot is missing; else empty.

    An initrd of an earlier version of this project leaves no such file.
    """

    default = str

    def command(self) -> str:
        names = " ".join(name for name, meaning in VERDICTS.items() if meaning.mode == "snapshot")
        return (
            f"[ -e {IN_SNAPSHOT} ] || for verdict in {names}; do "
            "[ ! -e /run/resnap/$verdict ] || echo $verdict; done"
        )

    def process(self, output: list[str]) -> str:
        return "".join(output)


@operation()
def marked_snapshot() -> Commands:
    """Make /run/resnap/in-snapshot, which units need, if the initrd of an older version did not."""
    if verdict := host.get_fact(UnmarkedSnapshot):
        yield StringCommand(f"echo {verdict} >{IN_SNAPSHOT}")


@operation()
def initrds(root: str = "", stale: bool = False) -> Commands:
    """Make the initrds and GRUB's entries, if the reset's files changed since they were made.

    Args:
        root: where the root is mounted; empty: the running root.
        stale: an operation before this one changes these files.
    """
    if stale or not host.get_fact(InitrdsAreCurrent, root=root):
        yield StringCommand(f"{chroot_prefix(root)}/usr/sbin/makeinitrd")


@operation()
def stale_initrds() -> Commands:
    """Have the next :func:`initrds` make them, even if its sources are unchanged."""
    yield StringCommand("rm", "-f", "/var/lib/resnap/made")


@operation()
def starts_box(root: str = "") -> Commands:
    """Have GRUB start the box again, on a host that ``unprovision`` began to give back."""
    mark = f"{root}/boot/{GIVEN_BACK}"
    if host.get_fact(Present, paths=(mark,)):
        yield StringCommand("rm -f --", shlex.quote(mark))


@operation()
def no_other_entries(root: str = "") -> Commands:
    """Take from GRUB's menu the entries that boot a root without the reset.

    A script in /etc/grub.d makes entries if it is executable. dpkg keeps the mode of a conffile.
    """
    paths = [f"{root}/etc/grub.d/{name}" for name in _OTHER_ENTRIES]
    states = host.get_fact(FileStates, paths=paths)
    executable = [path for path, state in states.items() if state.mode & 0o111]
    if executable:
        yield StringCommand("chmod", "a-x", "--", *map(shlex.quote, executable))


@operation()
def mounted_copy(group: str, volume: str, boot: str, esp: str = "") -> Commands:
    """Mount the copied root at :data:`COPY`, with its /boot and the kernel's filesystems.

    Args:
        group: the VG of the copied root.
        volume: its LV.
        boot: the partition of /boot, or a folder of the running root.
        esp: the partition of /boot/efi; empty if there is none.
    """
    words = ("sh", "-c", _MOUNT, "mount-copy", mapper_path(group, volume), boot, COPY, esp)
    yield StringCommand(shlex.join(words))


@operation()
def unmounted_copy() -> Commands:
    """Undo :func:`mounted_copy`."""
    yield StringCommand(f"sync && umount --recursive {COPY} && rmdir {COPY}")


@operation()
def grub_for_bios(disks: Sequence[str], root: str) -> Commands:
    """Install GRUB for BIOS on whole disks, in this order.

    Args:
        disks: paths of whole disks. The disk that the machine boots from now should be the last.
        root: where the root is mounted whose ``/boot`` GRUB is to read.
    """
    for disk in disks:
        yield StringCommand(
            f"{chroot_prefix(root)}/usr/lib/resnap/install-grub {shlex.quote(disk)}"
        )


@operation()
def next_boot(entry: str, root: str = "") -> Commands:
    """Have only the next boot take one of GRUB's entries. ``entry`` is its id."""
    yield StringCommand(f"{chroot_prefix(root)}/usr/lib/resnap/next-boot {shlex.quote(entry)}")


@operation()
def trial(word: str) -> Commands:
    """Run the script ``trial`` with one of its words: ``save``, ``begin``, ``keep`` or ``drop``."""
    yield StringCommand("/usr/lib/resnap/trial", word)


def chroot_prefix(root: str) -> str:
    """The words before a command that make it run in the root mounted at ``root``."""
    return f"chroot {shlex.quote(root)} " if root else ""
