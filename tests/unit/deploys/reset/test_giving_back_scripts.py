"""What is noted of a host and how it gets that back: the scripts, run for real on a small host.

Its folders lie in one of the test's; LVM, mounts and the boot loader's tools are stand-ins.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploys.reset.back import before, undo
from deploys.reset.back.before import RECORD, Before, Record
from deploys.reset.back.old_system import OldRoot, OldSystem
from tests.unit.onbox.fakeroot import FakeRoot

pytestmark = pytest.mark.commands

# Not within another path, as that of a folder in /boot.
_PLACES = re.compile(
    r"(?<![\w./$}])(/boot|/mnt|/lib/modules|/etc/lvm|/usr/sbin/lvm|/var/lib/pipeline-before)\b"
)
TOOLS = {
    "unshare": 'shift; exec "$@"',
    "sync": "exit 0",
    "fsfreeze": "exit 0",
    "udevadm": "exit 0",
    "mount": 'echo "mount $*" >>calls',
    "mountpoint": "exit 0",
    "findmnt": "echo $PWD/esp",
    "dpkg-query": "cat installed",
    "lvs": 'case "$*" in *lv_full_name*) echo "  vg/root" ;; *) cat kept-attr 2>/dev/null ;; esac',
    "lvcreate": 'echo "lvcreate $*" >>calls',
    "lvremove": 'echo "lvremove $*" >>calls',
    "lvchange": 'echo "lvchange $*" >>calls; rm -f kept-attr',
    "grub-script-check": 'grep -q menuentry "$1"',
    "lsblk": "ls $PWD/disks/*",
    "wipefs": 'echo "wipefs $*" >>calls',
    "blkid": 'case "$*" in\n*PTUUID*) for last; do :; done; echo "id-${last##*/}" ;;\n'
    "*-U*) echo /dev/x ;;\n*) echo 12-AB ;;\nesac",
}
MENU = """menuentry 'Debian' {
\tsearch --fs-uuid --set=root 12-ab
\tlinux\t/vmlinuz-6.1 root=/dev/mapper/vg-root ro
\tinitrd\t/initrd.img-6.1
}
"""


class SmallHost(FakeRoot):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for name, body in TOOLS.items():
            self.tool(name, f"cd {root}\n{body}")
        self.write("installed", "installed bash\ninstalled dash\ndeinstall old\n")
        self.write("calls")
        for folder in ("boot/grub", "var/lib", "etc/lvm", "mnt", "esp/EFI"):
            (root / folder).mkdir(parents=True)

    def placed(self, command: str) -> str:
        """A command whose absolute paths lead into this host's folder."""
        return _PLACES.sub(lambda match: f"{self.root}{match[1]}", command)

    def does(self, operation: Callable[..., Any], **arguments: object) -> str:
        commands = [each.get_raw_value() for each in operation._inner(**arguments)]  # type: ignore[attr-defined]
        done = [self.shell(command) for command in commands]
        assert all(each.returncode == 0 for each in done), [each.stderr for each in done]
        return "".join(each.stderr for each in done)

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", self.placed(command)],
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )

    def noted(self) -> None:
        lines = {"kind": "lvm", "volgroup": "vg", "lvroot": "root", "lvsnap": "root_snap"}
        self.does(before.note, lines=lines, esp="/dev/esp")

    @property
    def record(self) -> Path:
        return self.root / RECORD[1:]

    def tree(self, name: str) -> dict[str, str]:
        top = self.root / name
        return {
            str(path.relative_to(top)): path.read_text() if path.is_file() else "folder"
            for path in sorted(top.rglob("*"))
        }


@pytest.fixture
def host(tmp_path: Path) -> SmallHost:
    return SmallHost(tmp_path)


def test_a_host_is_noted_once_and_what_provision_chose_anew(host: SmallHost) -> None:
    host.write("etc/lvm/lvmlocal.conf", "mine")
    host.noted()
    host.write("installed", "installed bash\ninstalled dash\ninstalled lvm2\n")
    host.write("etc/lvm/lvmlocal.conf", "ours")
    lines = {"kind": "spare", "volgroup": "other", "lvroot": "r", "lvsnap": "s", "old_root": "1-a"}
    host.does(before.note, lines=lines)
    host.does(before.new_packages)
    read = host.shell(Record().command())
    assert Record().process(read.stdout.splitlines()) == Before(
        "spare", "other", "r", "s", "1-a", ("vg/root",), ("lvm2",)
    )

    (host.root / "etc/lvm/archive").mkdir()
    host.write("usr/sbin/lvm")
    host.does(undo.forgotten)
    assert host.tree("etc/lvm") == {"archive": "folder", "lvmlocal.conf": "mine"}
    assert list((host.root / "var/lib").iterdir()) == []
    assert Record().process(host.shell(Record().command()).stdout.splitlines()) is None


def test_a_host_that_had_no_lvm_keeps_no_folder_of_it(host: SmallHost) -> None:
    host.noted()
    host.write("etc/lvm/lvmlocal.conf", "ours")
    host.write("etc/lvm/backup/vg", "LVM's")
    host.does(undo.forgotten, group="vg")
    assert not (host.root / "etc/lvm").exists()


def test_files_that_the_host_did_not_have_go(host: SmallHost) -> None:
    host.noted()
    host.write("usr/sbin/lvm")
    host.write("etc/lvm/devices/system.devices", "ours")
    host.write("etc/lvm/lvmlocal.conf", "ours")
    host.write("usr/sbin/lvm")
    for name in ("backup/vg", "archive/vg_00001-123.vg", "archive/vg_of_mine_00001-123.vg"):
        host.write(f"etc/lvm/{name}", "LVM's")
    host.does(undo.forgotten, group="vg")
    assert {name for name in host.tree("etc/lvm") if "." in name or "/" in name} == {
        "archive/vg_of_mine_00001-123.vg"
    }


@pytest.fixture
def with_boot(host: SmallHost) -> SmallHost:
    """A host on LVM with one kernel."""
    host.write("boot/vmlinuz-6.1", "kernel")
    host.write("boot/initrd.img-6.1", "initrd")
    host.write("boot/grub/grub.cfg", MENU)
    host.write("boot/grub/grubenv", "env")
    return host


def becomes_a_box(host: SmallHost) -> None:
    """A new kernel in the old one's place, and all that a box has in /boot."""
    for name in ("initrd.img-6.1", "grub/grub.cfg", "grub/grubenv"):
        host.write(f"boot/{name}.made", "ours").rename(host.root / "boot" / name)
    (host.root / "boot/vmlinuz-6.1").unlink()
    for name in ("vmlinuz-6.12", "grub/golden/v/menu.cfg", "grub/given-back", "grub/x.made"):
        host.write(f"boot/{name}", "ours")


def test_boot_is_what_it_was(with_boot: SmallHost) -> None:
    host = with_boot
    was = host.tree("boot")
    host.does(before.old_root, group="vg", lvroot="root", size=4096)
    assert host.calls == [
        "lvcreate --yes --snapshot --chunksize 64K --size 4096b --addtag resnap.before --name "
        "root_before vg/root"
    ]
    kept = host.root / "boot/grub/before"
    assert "linux\t/grub/before/boot/vmlinuz-6.1 root" in (kept / "menu.cfg").read_text()
    assert "initrd\t/grub/before/boot/initrd.img-6.1" in (kept / "menu.cfg").read_text()
    becomes_a_box(host)
    host.does(undo.boot_files)
    assert host.tree("boot") == was
    host.does(undo.boot_files)
    assert host.tree("boot") == was


def test_files_of_boot_go_back_after_a_power_cut_in_between(with_boot: SmallHost) -> None:
    host = with_boot
    was = host.tree("boot")
    host.does(before.old_root, group="vg", lvroot="root", size=4096)
    becomes_a_box(host)
    mv = shlex.join(("mv", "-f"))
    host.tool("mv", f'[ "$1" = -f ] && exit 1; exec /bin/{mv} "$@"')  # before GRUB's menu
    [command] = undo.boot_files._inner()
    assert host.shell(command.get_raw_value()).returncode != 0
    assert (host.root / "boot/grub/grub.cfg").read_text() == "ours"
    assert (host.root / "boot/grub/given-back").exists()
    (host.root / "tools/mv").unlink()
    host.does(undo.boot_files)
    assert host.tree("boot") == was


def test_a_snapshot_that_is_kept_is_not_taken_again(with_boot: SmallHost) -> None:
    with_boot.write("kept-attr", "  swi-a-s---\n")
    with_boot.does(before.old_root, group="vg", lvroot="root", size=4096)
    assert with_boot.calls == []
    with_boot.write("kept-attr", "  -wi-a-----\n")  # the power went
    with_boot.does(before.old_root, group="vg", lvroot="root", size=4096)
    assert [call.split()[0] for call in with_boot.calls] == ["lvremove", "lvcreate"]


def test_a_merge_is_awaited(host: SmallHost) -> None:
    host.write("kept-attr", "[root_before]\n")
    host.does(undo.merged, group="vg", lvroot="root")
    assert host.calls == ["lvchange --poll y vg/root"]


def test_grub_is_told_on_the_boxs_own_boot(host: SmallHost) -> None:
    host.does(undo.old_root_first, boot="")
    assert (host.root / "boot/grub/given-back").exists()
    (host.root / "mnt/grub").mkdir()
    host.does(undo.old_root_first, boot="/dev/vdb2")
    assert (host.root / "mnt/grub/given-back").exists()
    assert host.calls[-1] == f"mount /dev/vdb2 {host.root}/mnt"


def test_the_file_of_a_box_goes_and_no_file_of_the_hosts(host: SmallHost) -> None:
    places = {"path": f"{host.root}/pipeline/box.img", "boot": f"{host.root}/pipeline/boot"}
    for name in ("box.img", "box.img.new", "boot/grub/grub.cfg"):
        host.write(f"pipeline/{name}")
    host.does(undo.file_removed, **places)
    assert not (host.root / "pipeline").exists()
    host.write("pipeline/mine")
    host.does(undo.file_removed, **places)
    assert host.tree("pipeline") == {"mine": ""}
    (host.root / "pipeline/mine").unlink()
    host.does(undo.file_removed, **places)
    host.does(undo.file_removed, **places)


def test_loaders_that_the_host_did_not_have_go(host: SmallHost) -> None:
    host.write("esp/EFI/BOOT/fbx64.efi", "the host's")
    was = host.tree("esp")
    host.noted()
    host.write("esp/EFI/BOOT/BOOTX64.EFI", "ours")
    host.does(undo.loaders)
    assert host.tree("esp") == was


def test_loaders_that_are_others_now_come_back(host: SmallHost) -> None:
    """And what a box in a file has beside them goes."""
    for name in ("BOOTX64.EFI", "fbx64.efi", "grubx64.efi"):
        host.write(f"esp/EFI/BOOT/{name}", f"the host's {name}")
    host.write("esp/EFI/debian/grubx64.efi", "the host's")
    was = host.tree("esp")
    host.noted()
    (host.root / "esp/EFI/BOOT/fbx64.efi").unlink()
    for path in ("BOOT/BOOTX64.EFI", "BOOT/grub.cfg", "pipeline/grubx64.efi"):
        host.write(f"esp/EFI/{path}", "ours")
    host.does(undo.loaders)
    assert host.tree("esp") == was


def test_a_removable_path_that_was_not_there_goes(host: SmallHost) -> None:
    host.noted()
    host.write("esp/EFI/BOOT/BOOTX64.EFI", "ours")
    host.does(undo.loaders)
    assert host.tree("esp") == {"EFI": "folder"}


def disk(core_at: int, word: bytes) -> bytes:
    """A disk with GRUB: its boot sector, and a core of three sectors at sector ``core_at``."""
    sector = bytearray(512)
    sector[:8] = b"GRUB " + word[:3]
    sector[92:100] = core_at.to_bytes(8, "little")
    sector[440:446] = b"theid\0"
    first = bytearray(word * (512 // len(word)))
    first[508:510] = (2).to_bytes(2, "little")
    whole = bytearray(64 * 512)
    whole[:512] = sector
    whole[core_at * 512 : core_at * 512 + 512] = first
    rest = word * (1024 // len(word))
    whole[core_at * 512 + 512 : core_at * 512 + 512 + len(rest)] = rest
    return bytes(whole)


@pytest.mark.parametrize("overwritten", [False, True])
def test_a_boot_sector_and_its_core_come_back(host: SmallHost, overwritten: bool) -> None:
    (host.root / "disks").mkdir()
    vda = host.root / "disks/vda"
    vda.write_bytes(was := disk(1, b"old-"))
    (host.root / "disks/vdb").write_bytes(b"0" * 4096)
    host.write("boot/grub/i386-pc/core.img", "core")
    host.noted()
    host.does(before.boot_sectors, disks=[str(vda)])

    ours = disk(1 if overwritten else 8, b"ours")
    beside = bytearray(was)
    beside[8 * 512 : 16 * 512] = ours[8 * 512 : 16 * 512]
    beside[:440] = ours[:440]
    vda.write_bytes(ours if overwritten else beside)
    host.does(undo.boot_sectors)
    assert vda.read_bytes()[: 4 * 512] == was[: 4 * 512]
    assert (host.root / "disks/vdb").read_bytes() == b"0" * 4096
    host.does(undo.boot_sectors)


def test_a_grub_of_the_hosts_own_that_came_later_stays(host: SmallHost) -> None:
    (host.root / "disks").mkdir()
    vda = host.root / "disks/vda"
    vda.write_bytes(disk(1, b"old-"))
    host.write("boot/grub/i386-pc/core.img", "core")
    host.noted()
    host.does(before.boot_sectors, disks=[str(vda)])
    host.write("boot/grub/i386-pc/core.img", "newer")
    vda.write_bytes(newer := disk(1, b"new-"))
    host.does(undo.boot_sectors)
    assert vda.read_bytes() == newer


def test_a_host_that_fits_no_record_is_looked_at(host: SmallHost) -> None:
    """An old root that is whole, one whose initrd is gone, and none."""
    look = OldRoot().command("1-a", "")
    assert OldRoot().process(host.shell(look).stdout.splitlines()) == OldSystem(there=True)
    host.write(f"mnt{RECORD}/host")
    for name in ("boot/grub/grub.cfg", "boot/vmlinuz-6.1", "lib/modules/6.1/modules.dep"):
        host.write(f"mnt/{name}")
    assert not OldRoot().process(host.shell(look).stdout.splitlines()).boots
    host.write("mnt/boot/initrd.img-6.1")
    assert OldRoot().process(host.shell(look).stdout.splitlines()) == OldSystem(True, True, True)
    host.tool("blkid", "exit 2")
    assert OldRoot().process(host.shell(look).stdout.splitlines()) == OldSystem()
