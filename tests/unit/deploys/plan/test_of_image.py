"""The disk of a box that is made from nothing: sizes, refusals, fstab."""

from __future__ import annotations

import pytest

from deploys.errors import PreflightError
from deploys.plan.of_image import box_plan, fstab, plan_disk
from deploys.plan.sizes import EXTENT, group_size, snapshot_size
from deploys.settings import MIB
from tasks.desk.flags import load

pytestmark = pytest.mark.usefixtures("two_volumes")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("image.disk_size=9G", "volumes.persistent_size=256M"),
        ("volumes.root_size=3G", "volumes.lvsize=1G"),
        ("volumes.lvsize=50%ORIGIN", "volumes.boot_size=256M"),
    ],
)
def test_the_first_boot_has_room_for_its_snapshot(overrides: tuple[str, ...]) -> None:
    settings = load(None, overrides)
    plan = plan_disk(settings)
    fixed = sum(part.size or 0 for part in plan.partitions)
    group = group_size(plan.size, fixed)
    taken = sum(volume.size for volume in plan.volumes)
    assert taken + snapshot_size(plan.root.size, settings.volumes) <= group
    assert all((part.size or MIB) % MIB == 0 for part in plan.partitions)


def test_a_root_size_is_taken_as_given() -> None:
    plan = plan_disk(load(None, ["volumes.root_size=3G"]))
    assert plan.root.size == 3 * 2**30


@pytest.mark.parametrize(
    "overrides",
    [
        ("image.disk_size=4G",),
        ("volumes.root_size=12G",),
        ("volumes.lvsize=30G",),
        ("volumes.persistent_size=100G",),
    ],
)
def test_a_disk_that_is_too_small_is_one_line(overrides: tuple[str, ...]) -> None:
    with pytest.raises(PreflightError, match=r"^image\.disk_size .* is too small: .* need"):
        plan_disk(load(None, overrides))


def test_the_size_that_is_asked_for_is_enough() -> None:
    with pytest.raises(PreflightError) as refused:
        plan_disk(load(None, ["volumes.root_size=12G"]))
    needed = str(refused.value).rpartition("need ")[2].removesuffix(" GiB")
    enough = f"image.disk_size={float(needed) + 0.1:.1f}G"
    assert plan_disk(load(None, ["volumes.root_size=12G", enough])).root.size == 12 * 2**30


def test_a_disk_has_whole_mebibytes() -> None:
    """Else a converted disk ends later than its table, which GPT repeats at its end."""
    assert plan_disk(load(None, ["image.disk_size=24.3G"])).size % MIB == 0


def test_each_volume_has_whole_extents() -> None:
    """LVM refuses a number of bytes that is no number of sectors, as 1.3G is."""
    sizes = [f"volumes.{key}_size=1.3G" for key in ("persistent", "swap")]
    disk = plan_disk(load(None, ["volumes.root_size=3.3G", *sizes]))
    assert [volume.size % EXTENT for volume in disk.volumes] == [0] * len(disk.volumes)


@pytest.mark.parametrize("key", ["lvroot", "lvsnap"])
def test_two_volumes_of_one_name_are_refused(key: str) -> None:
    with pytest.raises(PreflightError, match=rf"^volumes\.{key} persistent: another volume"):
        plan_disk(load(None, [f"volumes.{key}=persistent"]))


def test_names_of_the_settings_are_in_fstab_and_plan() -> None:
    settings = load(None, ["volumes.volgroup=a-b", "volumes.lvroot=gold"])
    lines = fstab(settings, "1234").splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["/dev/mapper/a--b-gold", "/"],
        ["UUID=1234", "/boot"],
        ["/dev/mapper/a--b-persistent", "/persistent"],
        ["/dev/mapper/a--b-swap", "none"],
    ]
    plan = box_plan(settings)
    assert (plan.volgroup, plan.lvroot, plan.rows()) == ("a-b", "gold", [])
