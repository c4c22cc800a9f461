"""The copy of a root, made by the very script, of a small root on a filesystem of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.operations.root import _SCRIPT, BOOT_OPTIONS, FILE, HOST, copied_fstab
from tests.storage.commands import run

FSTAB = copied_fstab(["UUID=old / ext4 defaults 0 1", "tmpfs /tmp tmpfs size=1G 0 0"], "test-box")
# A root of its own needs the tools: /usr of this machine is mounted below it, which also shows
# that the copy stays on the one filesystem. All mounts end with the namespace.
IN_SMALL_ROOT = """
set -eu
root=$1 tools=$2; shift 2
mount --bind "$root" "$root"
mount --bind /usr "$root/usr"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
[ -z "${BOOT:-}" ] || mount "$BOOT" "$root/boot"
mkdir "$root/run/tools"
cp "$tools/lvchange" "$root/run/tools/"
PATH="/run/tools:/usr/sbin:/usr/bin" chroot "$root" sh -c "$@"
cp "$root/run/tag" "$tools/" 2>/dev/null || true
"""
LVCHANGE = '#!/bin/sh\necho "$*" >/run/tag\n'


@pytest.fixture
def devices(loop_disk: str) -> tuple[str, str]:
    """A partition for the root and one for /boot."""
    table = r"printf 'label: gpt\nsize=700MiB\nsize=200MiB\nsize=40MiB\n' | sfdisk --quiet "
    run("sh", "-c", table + loop_disk)
    run("partx", "--update", loop_disk)
    run("mkfs.ext4", "-q", f"{loop_disk}p2")
    return f"{loop_disk}p1", f"{loop_disk}p2"


@pytest.fixture
def small_root(tmp_path: Path) -> Iterator[Path]:
    """A root with what a copy can get wrong."""
    root = tmp_path / "root"
    for name in ("usr", "dev", "proc", "run", "etc", "boot"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc/fstab").write_text("UUID=old / ext4 defaults 0 1\n")
    (root / "boot/vmlinuz-6.1").write_text("kernel")
    (root / "etc/one").write_text("linked")
    (root / "etc/two").hardlink_to(root / "etc/one")
    (root / "etc/secret").write_text("s")
    (root / "etc/secret").chmod(0o4600)
    with (root / "sparse").open("wb") as file:
        file.truncate(2**32)
    yield root
    assert not list((root / "run").iterdir()), "a mount was left behind"


def copy(
    root: Path,
    tools: Path,
    golden: str,
    boot: str,
    script: str = _SCRIPT,
    esp: str = "",
    own_boot: str = "",
) -> None:
    tools.mkdir(exist_ok=True)
    (tools / "lvchange").write_text(LVCHANGE)
    (tools / "lvchange").chmod(0o755)
    of_box = ("test-box", "root", "resnap.copied")
    arguments = (golden, boot, BOOT_OPTIONS, FSTAB, *of_box, esp, HOST, FILE)
    places = ("/persistent", "/srv/one")
    outer = (
        "env",
        f"BOOT={own_boot}",
        "unshare",
        "--mount",
        "sh",
        "-c",
        IN_SMALL_ROOT,
        "outer",
        root,
        tools,
    )
    run(*outer, script, "copy-root", *arguments, *places)


def look(device: str, command: str) -> str:
    mounted = 'mount -o ro "$1" /mnt && cd /mnt && ' + command
    return run("unshare", "--mount", "sh", "-c", mounted, "look", device).strip()


def test_the_copy_is_whole_and_has_boot_and_an_fstab_of_its_own(
    devices: tuple[str, str], small_root: Path, tmp_path: Path
) -> None:
    golden, boot = devices
    copy(small_root, tmp_path / "tools", golden, boot)
    assert look(golden, "stat -c '%a %h' etc/secret") == "4600 1"
    assert look(golden, "stat -c %h etc/one etc/two") == "2\n2"
    assert look(golden, "stat -c %s sparse") == str(2**32)  # and it fits in 700 MiB
    assert look(golden, "ls usr boot proc run") == "boot:\n\nproc:\n\nrun:\n\nusr:"
    assert look(golden, "ls -d persistent srv/one") == "persistent\nsrv/one"
    assert look(boot, "cat vmlinuz-6.1") == "kernel"
    uuids = [
        run("blkid", "-p", "-s", "UUID", "-o", "value", device).strip() for device in (golden, boot)
    ]
    assert look(golden, "cat etc/fstab").splitlines() == [
        f"UUID={uuids[0]} / ext4 errors=remount-ro 0 1",
        f"UUID={uuids[1]} /boot ext4 defaults,nofail,x-systemd.before=local-fs.target 0 2",
        *FSTAB.splitlines(),
    ]
    assert (tmp_path / "tools/tag").read_text() == "--addtag resnap.copied test-box/root\n"
    assert (small_root / "etc/fstab").read_text() == "UUID=old / ext4 defaults 0 1\n"


def test_the_partition_of_uefi_is_mounted_below_boot(
    devices: tuple[str, str], small_root: Path, tmp_path: Path
) -> None:
    golden, boot = devices
    esp = f"{boot[:-1]}3"
    fat = tmp_path / "fat"
    with fat.open("wb") as file:
        file.truncate(40 * 2**20)
    sectors = str(40 * 2**20 // 512)
    run("mformat", "-i", fat, "-T", sectors, "-h", "16", "-s", "32", "-N", "0a1b2c3d", "::")
    run("dd", f"if={fat}", f"of={esp}", "bs=1M", "conv=fsync,nocreat", "status=none")
    copy(small_root, tmp_path / "tools", golden, boot, esp=esp)
    assert look(boot, "ls -d efi") == "efi"
    assert look(golden, "grep /boot/efi etc/fstab") == (
        "UUID=0A1B-2C3D /boot/efi vfat umask=0077,defaults,nofail,"
        "x-systemd.before=local-fs.target 0 2"
    )


def test_a_file_of_the_root_itself_may_have_the_copy(
    devices: tuple[str, str], small_root: Path, tmp_path: Path
) -> None:
    """The /boot of the copy is a folder beside that file, which is not copied into itself."""
    golden, _ = devices
    (small_root / "pipeline/boot").mkdir(parents=True)
    (small_root / "pipeline/box.img").write_bytes(b"x")
    copy(small_root, tmp_path / "tools", golden, "/pipeline/boot")
    assert look(golden, "ls -A pipeline boot") == "boot:\n\npipeline:"
    assert (small_root / "pipeline/boot/vmlinuz-6.1").read_text() == "kernel"
    assert (small_root / "pipeline/box.img").read_bytes() == b"x"
    assert look(golden, "grep /boot etc/fstab") == (
        "/run/initramfs/host/pipeline/boot /boot none "
        "bind,defaults,nofail,x-systemd.before=local-fs.target 0 0"
    )


def test_a_folder_of_a_boot_that_is_a_partition_may_have_the_copy_s(
    devices: tuple[str, str], small_root: Path, tmp_path: Path
) -> None:
    """The file beside the root is not copied, nor that folder into itself."""
    golden, boot = devices
    change = 'mount "$1" /mnt; mkdir /mnt/pipeline /mnt/grub; echo menu >/mnt/grub/grub.cfg'
    run("unshare", "--mount", "sh", "-ec", change, "change", boot)
    (small_root / "pipeline").mkdir()
    (small_root / "pipeline/box.img").write_bytes(b"x")
    (small_root / "boot/vmlinuz-6.1").unlink()
    copy(small_root, tmp_path / "tools", golden, "/boot/pipeline", own_boot=boot)
    assert look(golden, "ls -A pipeline boot") == "boot:\n\npipeline:"
    assert look(boot, "ls pipeline pipeline/grub grub") == (
        "grub:\ngrub.cfg\n\npipeline:\ngrub\nlost+found\n\npipeline/grub:\ngrub.cfg"
    )
    uuid = run("blkid", "-p", "-s", "UUID", "-o", "value", boot).strip()
    assert look(golden, "grep /boot etc/fstab") == (
        f"UUID={uuid} /boot ext4 X-mount.subdir=pipeline,defaults,nofail,"
        "x-systemd.before=local-fs.target 0 2"
    )


def test_a_copy_that_broke_off_has_no_tag_and_is_made_again(
    devices: tuple[str, str], small_root: Path, tmp_path: Path
) -> None:
    golden, boot = devices
    broken = _SCRIPT.replace("while read -r swap", "exit 7\nwhile read -r swap")
    with pytest.raises(AssertionError):
        copy(small_root, tmp_path / "tools", golden, boot, broken)
    assert not (tmp_path / "tools/tag").exists()
    (small_root / "etc/secret").unlink()
    copy(small_root, tmp_path / "tools", golden, boot)
    assert (tmp_path / "tools/tag").exists()
    assert look(golden, "ls etc") == "fstab\none\ntwo"
