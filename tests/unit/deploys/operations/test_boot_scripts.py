"""The scripts that provision runs as one command on a host, run for real with stand-ins."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploys.operations import disks
from deploys.operations.boot import mounted_copy
from deploys.operations.lvm import reclaim_partition
from tests.unit.onbox.fakeroot import FakeRoot

pytestmark = pytest.mark.commands


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of the stand-ins; each is first on PATH."""
    log = tmp_path / "calls"
    for name in ("blkid", "wipefs", "pvcreate", "vgextend", "mount", "mountpoint", "mkdir"):
        FakeRoot(tmp_path).tool(
            name,
            f'echo "{name} $*" >>{shlex.quote(str(log))}\n'
            f'f={shlex.quote(str(tmp_path))}/{name}\n[ ! -e "$f" ] || . "$f"',
        )
    monkeypatch.setenv("PATH", FakeRoot(tmp_path).environment["PATH"])
    return log


def _run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)


def _reclaim() -> str:
    [command] = reclaim_partition._inner(uuid="0a-1b", group="vagrant-pipeline")
    return str(command.get_raw_value())


class _Host:
    """A host of which only its fstab is asked."""

    def __init__(self, fstab: str) -> None:
        self._lines = fstab.splitlines()

    def get_fact(self, _fact: object) -> list[str]:
        return self._lines


FSTAB = "# as installed\nUUID=1 / ext4 defaults 0 1\nUUID=2 /boot ext4 defaults 0 2"


def test_fstab_is_changed_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "fstab"
    file.write_text(f"{FSTAB}\n/dev/old /persistent xfs defaults 0 2")  # no newline at its end
    file.chmod(0o640)
    line = "/dev/new /persistent ext4 defaults,nofail 0 2"
    monkeypatch.setattr(disks, "host", _Host(file.read_text()))
    commands = [*disks.fstab_entry._inner(line=line), *options("/boot", *disks.NOFAIL.split(","))]
    for command in commands:
        text = str(command.get_raw_value()).replace("/etc/", f"{tmp_path}/")
        assert _run(text).returncode == 0
    assert (
        file.read_text()
        == f"{FSTAB.replace('defaults 0 2', f'defaults,{disks.NOFAIL} 0 2')}\n{line}\n"
    )
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


def options(target: str, *names: str) -> list[Any]:
    """The commands that give fstab's entry of a directory these options."""
    return list(disks.with_options._inner(target=target, options=names))


def test_a_box_of_an_older_version_gets_options_and_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, noop = tmp_path / "fstab", list[str]()
    file.write_text(f"{FSTAB}\nLABEL=p\t/persistent\text4\tnoatime,nodev,nofail\t0\t2\n")
    for _ in range(2):
        host = _Host(file.read_text())
        monkeypatch.setattr(host, "noop", noop.append, raising=False)
        monkeypatch.setattr(disks, "host", host)
        for command in options("/persistent", "nodev", "nosuid"):
            text = str(command.get_raw_value()).replace("/etc/", f"{tmp_path}/")
            assert _run(text).returncode == 0
    assert file.read_text() == (
        f"{FSTAB}\nLABEL=p\t/persistent\text4\tnoatime,nodev,nofail,nosuid\t0\t2\n"
    )
    assert noop == ["fstab's entry of /persistent, if any, has them"]


def test_the_old_root_is_found_by_its_uuid(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "blkid").write_text("echo /dev/vda1\n")
    assert _run(_reclaim()).returncode == 0
    assert calls.read_text().splitlines() == [
        "blkid -U 0a-1b",
        "wipefs --all /dev/vda1",
        "vgextend --yes vagrant-pipeline /dev/vda1",
    ]


def test_an_old_root_that_is_gone_was_reclaimed_before(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "blkid").write_text("exit 2\n")
    assert _run(_reclaim()).returncode == 0
    assert calls.read_text() == "blkid -U 0a-1b\n"


def test_an_old_root_in_use_stays_as_it_is(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "blkid").write_text("echo /dev/vda1\n")
    (tmp_path / "wipefs").write_text("echo 'wipefs: /dev/vda1: busy' >&2; exit 1\n")
    assert _run(_reclaim()).returncode == 1
    assert calls.read_text().splitlines()[-1] == "wipefs --all /dev/vda1"


def _mount(esp: str = "") -> str:
    [command] = mounted_copy._inner(group="a-b", volume="root", boot="/dev/vdb2", esp=esp)
    return str(command.get_raw_value())


def test_the_copy_is_mounted_with_what_a_chroot_needs(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "mountpoint").write_text("exit 1\n")
    assert _run(_mount()).returncode == 0
    mounts = [line for line in calls.read_text().splitlines() if line.startswith("mount ")]
    at = "/run/pipeline-golden"
    bound = [
        line
        for name in ("dev", "proc", "sys")
        for line in (f"mount --rbind /{name} {at}/{name}", f"mount --make-rslave {at}/{name}")
    ]
    assert mounts == [f"mount /dev/mapper/a--b-root {at}", f"mount /dev/vdb2 {at}/boot", *bound]


def test_the_partition_of_uefi_is_mounted_below_its_boot(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "mountpoint").write_text("exit 1\n")
    assert _run(_mount("/dev/vdb3")).returncode == 0
    mounts = [line for line in calls.read_text().splitlines() if line.startswith("mount /")]
    assert mounts[-1] == "mount /dev/vdb3 /run/pipeline-golden/boot/efi"


def test_what_is_mounted_already_is_not_mounted_again(calls: Path) -> None:
    assert _run(_mount()).returncode == 0
    assert "\nmount " not in calls.read_text()


def test_a_copy_that_cannot_be_mounted_is_an_error(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "mountpoint").write_text("exit 1\n")
    (tmp_path / "mount").write_text("exit 32\n")
    assert _run(_mount()).returncode != 0
    assert calls.read_text().count("mount /dev") == 1
