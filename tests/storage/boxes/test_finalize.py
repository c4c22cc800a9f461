"""The disk of a box that has run: what is taken from a copy of it, and what a fault leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from deploys.errors import BoxError, PreflightError
from deploys.plan.of_image import plan_disk
from deploys.plan.result import Volume
from deploys.settings import GIB, MIB, Settings
from tasks.boxes import build, finalize
from tasks.boxes.finalize import Finalizing
from tasks.desk import loop
from tasks.desk.flags import load
from tasks.desk.ssh_keys import Identity
from tasks.disks import box_sealed, convert, partitions, volume_group
from tasks.disks.identifiers import Identifiers
from tasks.guests import bare
from tasks.guests.qemu import Guest, _Record
from tasks.guests.qemu.hardware import Machine
from tasks.hosts.provision import Provision
from tests.storage.commands import run
from tests.storage.faults import (
    Steps,
    given_back,
    held,
    interrupted_at,
    last_good_image,
    only_loop_devices,
)

pytestmark = pytest.mark.usefixtures("two_volumes")
_IN_GUEST = Finalizing._in_guest
SECRET = b"a secret of the box's first life "
NAMES = Settings().volumes


USERS = "users_own"  # a volume that a user made, which is in no table of ours


def box_disk(folder: Path) -> Path:
    """A small box's disk; in each volume, and where a snapshot was, there is a secret."""
    plan = replace(
        plan_disk(load(None, ["volumes.boot_size=256M"])),
        size=800 * MIB,
        root=Volume("root", 200 * MIB),
        own=(Volume("persistent", 100 * MIB), Volume("swap", 64 * MIB), Volume(USERS, 32 * MIB)),
    )
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(plan.size)
    _, _, boot, lvm = partitions.partition(
        disk, partitions.gpt(plan.partitions, Identifiers("a test"))
    )
    wanted = [volume_group.Volume(each.name, each.size) for each in plan.volumes]
    lvs = volume_group.make(disk, lvm, NAMES.volgroup, wanted)
    root, persistent, empty = (folder / name for name in ("root", "persistent", "empty"))
    for each in ("boot", "persistent", "proc", "sys", "dev", "run"):
        (root / each).mkdir(parents=True)
    (root / "log").write_bytes(SECRET * 2**16)
    (root / "changed").write_text("by the maintainer")
    persistent.mkdir()
    (persistent / "key").write_bytes(SECRET * 1000)
    empty.mkdir()
    for source, extent in ((root, lvs["root"]), (persistent, lvs["persistent"]), (empty, boot)):
        place = f"offset={extent.offset}"
        size = f"{extent.size // 1024}k"
        run("mke2fs", "-q", "-t", "ext4", "-E", place, "-d", source, disk, size)
    after = lvs[USERS].offset + lvs[USERS].size
    within = (lvs["swap"].offset + MIB, lvs[USERS].offset + MIB)
    with disk.open("r+b") as file:
        for offset in (*within, after, plan.size - 2 * MIB):
            file.seek(offset)
            file.write(SECRET * 1000)
    return disk


@pytest.fixture
def disk(loop_disk: str, tmp_path: Path) -> Path:
    assert loop_disk  # it skips where there is no root
    folder = tmp_path / "box"
    folder.mkdir()
    return box_disk(folder)


def test_nothing_of_its_first_life_is_left(disk: Path, tmp_path: Path) -> None:
    used = disk.stat().st_blocks
    box_sealed.empty(disk, NAMES)
    with box_sealed.opened(disk, NAMES, tmp_path) as root:
        assert [each.name for each in (root / "persistent").iterdir()] == ["lost+found"]
        assert (root / "changed").read_text() == "by the maintainer"
        (root / "log").unlink()
    told = SECRET in disk.read_bytes()
    assert not told
    assert disk.stat().st_blocks < used
    lvm = partitions.extents(disk)[3]
    found = volume_group.find(disk, lvm, NAMES.volgroup)
    assert found.pop(USERS).size == 32 * MIB
    kinds = {}
    for name, extent in found.items():
        with loop.attached(disk, offset=extent.offset, size=extent.size) as device:
            kinds[name] = run("blkid", "-p", "-s", "TYPE", "-o", "value", device).strip()
    assert kinds == {"root": "ext4", "persistent": "ext4", "swap": "swap"}


def test_a_root_in_two_pieces_is_refused(disk: Path) -> None:
    part = partitions.extents(disk)[3]
    with volume_group._lvm(disk, part) as (lvm, _):
        lvm("lvextend", "-qq", "-L", "+4M", f"{NAMES.volgroup}/root")
    with pytest.raises(BoxError, match=r"the volume root of .* is not one plain piece"):
        box_sealed.empty(disk, NAMES)


def test_another_disk_is_refused(disk: Path) -> None:
    part = partitions.extents(disk)[3]
    with volume_group._lvm(disk, part) as (lvm, _):
        lvm("lvremove", "-qq", "-y", f"{NAMES.volgroup}/swap")
    with pytest.raises(BoxError, match="is not the disk of a box: it has no volume swap"):
        box_sealed.empty(disk, NAMES)


@pytest.fixture
def guest(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
    """A guest of that disk, which is as it is to be, and off by the time its disk is read."""
    overlay = bare.overlay(disk, tmp_path / "box" / "root.qcow2")
    who = Identity(user="vagrant", user_key=tmp_path / "key", host_key="ssh-ed25519 A")
    machine = Machine(disks=(overlay,), credentials={"name": tmp_path})
    record = _Record(machine=machine, identity=who, pid=0, port=0)
    monkeypatch.setattr(Guest, "alive", True)
    monkeypatch.setattr(Finalizing, "_in_guest", lambda *_: Settings())
    return Guest(tmp_path / "box", record)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the last good image lies; whatever happens in the test, that and nothing else does."""
    images = tmp_path / "images"
    images.mkdir()
    for module in (build, finalize):
        monkeypatch.setattr(module, "IMAGES", images)
    with last_good_image(tmp_path) as file:
        yield file
    assert [each.name for each in images.iterdir()] in ([], ["build.lock"])


@pytest.mark.parametrize(
    "step", ["copying the guest's disk", "sealing the copy", "flushing it to the disk"]
)
def test_ctrl_c_leaves_nothing(
    guest: Guest, out: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if step.startswith("flushing"):
        monkeypatch.setattr(Finalizing, "_seal", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        Finalizing(guest, out, interrupted_at(step)).run()


def test_ctrl_c_within_the_guest_leaves_it_on(
    guest: Guest, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    closed: list[bool] = []
    host = SimpleNamespace(close=lambda: closed.append(True), locked=lambda _: nullcontext())
    monkeypatch.setattr(Finalizing, "_in_guest", _IN_GUEST)
    monkeypatch.setattr(finalize, "connected", lambda _: host)
    monkeypatch.setattr(finalize, "settings_of", lambda _: Settings())
    monkeypatch.setattr(Provision, "finalize", press)
    monkeypatch.setattr(Guest, "halt", lambda *_: pytest.fail("the guest was powered off"))
    with pytest.raises(KeyboardInterrupt):
        Finalizing(guest, out, Steps()).run()
    assert closed == [True]


def test_ctrl_c_in_the_copys_root_leaves_nothing(
    guest: Guest, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finalize, "Session", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Finalizing(guest, out, Steps()).run()


def test_a_root_that_runs_nothing_is_one_line(guest: Guest, out: Path) -> None:
    with pytest.raises(BoxError, match=r"^the image: connecting: ") as caught:
        Finalizing(guest, out, Steps()).run()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("free", range(1, 7))
def test_without_a_free_loop_device_it_is_one_line(
    guest: Guest, out: Path, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first that is asked for, or from a later one on."""
    only_loop_devices(free, tmp_path, monkeypatch)
    with pytest.raises(BoxError, match=r"^losetup .*: cannot find an unused loop device$"):
        Finalizing(guest, out, Steps()).run()


@pytest.mark.usefixtures("out")
def test_a_full_disk_leaves_nothing(
    guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("qemu-io", "-c", "write -P 7 400M 40M", guest.machine.disks[0])
    small = tmp_path / "small"
    small.mkdir()
    before = held(tmp_path)
    with loop.mounted("small", small, "-t", "tmpfs", "-o", "size=20M"):
        with pytest.raises(PreflightError, match="a copy of the guest's disk may need"):
            Finalizing(guest, small / "box.raw", Steps()).run()
        monkeypatch.setattr(Finalizing, "_require_room", lambda *_: None)
        with pytest.raises(BoxError, match=r"/small/box.raw: No space left on device$"):
            Finalizing(guest, small / "box.raw", Steps()).run()
        assert list(small.iterdir()) == []
    assert given_back(tmp_path, before)


def test_a_second_one_is_refused(guest: Guest, out: Path, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "images" / "build.lock"),
        pytest.raises(BoxError, match="being built here already"),
    ):
        Finalizing(guest, out, Steps()).run()


def test_an_image_in_use_is_refused(guest: Guest, out: Path) -> None:
    with out.open("rb"), pytest.raises(BoxError, match=r"is in use by .*halt the guest first"):
        Finalizing(guest, out, Steps()).run()


def test_the_image_that_the_guest_lies_on_can_be_replaced(
    guest: Guest, out: Path, disk: Path
) -> None:
    """As inv up links it: the guest that runs has it open, by a name of its own."""
    other = out.with_name("linked.raw")
    other.hardlink_to(disk)
    with disk.open("rb"), pytest.raises(BoxError, match=r"^the image: connecting: "):
        Finalizing(guest, other, Steps()).run()
    other.unlink()


def test_a_folder_that_is_not_there_is_refused(guest: Guest, out: Path) -> None:
    with pytest.raises(BoxError, match="is no folder"):
        Finalizing(guest, out.parent / "no" / "box.raw", Steps()).run()
    with pytest.raises(BoxError, match="is a folder: name a file"):
        Finalizing(guest, out.parent, Steps()).run()


def test_the_copy_is_sparse_and_the_same_disk(guest: Guest, tmp_path: Path) -> None:
    overlay, copy = guest.machine.disks[0], tmp_path / "copy.raw"
    run("qemu-io", "-c", "write -P 7 400M 4M", "-c", "discard 16M 64M", overlay)
    seen: list[float] = []
    convert.raw(convert.look(overlay), copy, seen.append)
    assert "identical" in run("qemu-img", "compare", "-F", "raw", overlay, copy)
    assert copy.stat().st_size == 800 * MIB
    assert copy.stat().st_blocks * 512 < sum(convert.chain(overlay).values()) < GIB
    assert seen[-1] == 100
