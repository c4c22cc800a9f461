"""One row more in the table of a box's own volumes, and all that deals with them knows it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from deploys.errors import BoxError, PreflightError
from deploys.facts import host_state
from deploys.facts.disks import Mount
from deploys.facts.lvm import LogicalVolume
from deploys.facts.state import HostState
from deploys.facts.status import unhealthy
from deploys.operations.root import copied_fstab
from deploys.plan.of_image import box_plan, fstab, plan_disk
from deploys.plan.preflight import plan_volumes
from deploys.plan.result import Kind, Volume
from deploys.plan.sizes import EXTENT, group_size, largest_root, needed_disk, root_and_snapshot
from deploys.reset.boot import DEFAULTS, sources
from deploys.settings import GIB, MIB, Settings, Volumes, own_volumes
from deploys.settings.own_volumes import OwnVolume
from tasks.debian.worktree import Worktree
from tasks.desk import shell
from tasks.disks import box_sealed, partitions, volume_group
from tasks.disks.partitions import Extent
from tests.unit.deploys.plan.survey_builder import disk, lvm_host, plain_host
from tests.unit.onbox.fakeroot import FakeRoot

pytestmark = pytest.mark.usefixtures("two_volumes")

# It borrows the size of swap: what settings.Volumes has cannot be added to here.
SCRATCH = OwnVolume("scratch", "swap_size", "ext4", "/scratch")
SIZES = Volumes()
LINE = "/dev/mapper/host--vg-scratch /scratch ext4 defaults,nodev,nosuid,nofail 0 2"
SPARE = disk("/dev/vdb", 24 * GIB)
ROOT = LogicalVolume("root", "host-vg", 4 * GIB)
PERSISTENT = LogicalVolume("persistent", "host-vg", 2 * GIB)
SNAP = LogicalVolume("root_snap", "host-vg", 5 * GIB, origin="root")
MADE = LogicalVolume("scratch", "host-vg", GIB)
BEFORE = ("/dev/mapper/host--vg-persistent /persistent ext4 defaults,nodev,nosuid,nofail 0 2",)
SHIPPED = own_volumes.TABLE


@pytest.fixture
def scratch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> OwnVolume:
    """The table has it, and persistent and swap."""
    request.getfixturevalue("two_volumes")
    monkeypatch.setattr(own_volumes, "TABLE", (*own_volumes.TABLE, SCRATCH))
    return SCRATCH


def box(*more: LogicalVolume, free: int, fstab: tuple[str, ...] = BEFORE) -> tuple[Volume, ...]:
    """What a box's next provision is to do to its volumes."""
    lvs = (ROOT, PERSISTENT, SNAP, *more)
    survey = lvm_host(*lvs, free=free, mounted="root_snap", fstab=fstab)
    plan = plan_volumes(survey, SIZES)
    assert plan.kind is Kind.BOX
    return plan.volumes


def test_each_row_has_its_size_in_the_settings_and_a_name_and_place_of_its_own() -> None:
    table = SHIPPED
    assert all(row.size(SIZES) >= 64 * MIB for row in table)
    assert len({row.name for row in table} | {SIZES.lvroot, SIZES.lvsnap}) == len(table) + 2
    places = [row.mount for row in table if row.mount]
    assert len(set(places)) == len(places)
    assert {row.fstype for row in table if not row.mount} == {"swap"}


def test_both_sums_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    room, needed = root_and_snapshot(100 * GIB, SIZES), needed_disk(8 * GIB, SIZES)
    monkeypatch.setattr(own_volumes, "TABLE", (*own_volumes.TABLE, SCRATCH))
    assert root_and_snapshot(100 * GIB, SIZES) == room - GIB
    assert needed_disk(8 * GIB, SIZES) >= needed + GIB


@pytest.mark.parametrize("seed", range(50))
def test_a_disk_of_the_size_that_is_needed_holds_that_root_and_hardly_a_larger_one(
    seed: int, scratch: OwnVolume
) -> None:
    """The sum that plans and the sum that refuses agree."""
    chance = random.Random(seed)
    root = chance.randrange(GIB // EXTENT, 100 * GIB // EXTENT) * EXTENT
    sizes = Volumes(
        lvsize=chance.choice(["100%ORIGIN", "50%ORIGIN", "1G"]),
        persistent_size=chance.randrange(256 * MIB, 20 * GIB),
        swap_size=chance.randrange(64 * MIB, 4 * GIB),
        boot_size=chance.randrange(256, 1024) * MIB,
    )
    least = needed_disk(root, sizes)
    largest = largest_root(root_and_snapshot(group_size(least, sizes.boot_size), sizes), sizes)
    assert root <= largest <= root + 4 * EXTENT
    less = least - least // 50
    assert largest_root(root_and_snapshot(group_size(less, sizes.boot_size), sizes), sizes) < root
    assert scratch in own_volumes.TABLE


@pytest.mark.usefixtures("scratch")
def test_hosts_and_images_get_it() -> None:
    spare = plan_volumes(plain_host(SPARE), SIZES)
    assert spare.volumes[-1] == Volume("scratch", GIB, "ext4")
    assert ("logical volume", "vagrant-pipeline/scratch", "1.0 GiB") in spare.rows()
    assert plan_volumes(lvm_host(free=10 * GIB), SIZES).rows()[-4:] == [
        ("logical volume", "host-vg/scratch", "1.0 GiB"),
        ("filesystem", "/dev/mapper/host--vg-scratch", "ext4"),
        ("fstab", "/persistent", "/dev/mapper/host--vg-persistent"),
        ("fstab", "/scratch", "/dev/mapper/host--vg-scratch"),
    ]
    settings = Settings()
    assert plan_disk(settings).own[-1] == Volume("scratch", GIB, "ext4")
    line = LINE.replace("host--vg", "vagrant--pipeline")
    assert fstab(settings, "1234").splitlines()[-1] == line
    assert not box_plan(settings).volumes


@pytest.mark.usefixtures("scratch")
def test_a_copied_root_has_its_line_and_not_the_hosts() -> None:
    copied = copied_fstab(["/dev/sdb1 /scratch xfs defaults 0 0", "tmpfs /tmp tmpfs x 0 0"], "v")
    assert [line.split()[:2] for line in copied.splitlines()] == [
        ["tmpfs", "/tmp"],
        ["/dev/mapper/v-persistent", "/persistent"],
        ["/dev/mapper/v-swap", "none"],
        ["/dev/mapper/v-scratch", "/scratch"],
    ]


@pytest.mark.usefixtures("scratch")
def test_a_box_of_an_older_version_gets_it_once() -> None:
    assert box(free=GIB) == (Volume("scratch", GIB, "ext4"),)
    # as a power cut, or a change that went back, leaves it
    assert box(MADE, free=0) == (Volume("scratch", GIB, "ext4", exists=True),)
    assert box(MADE, free=0, fstab=(*BEFORE, f"# {LINE}"))[0].exists
    assert box(MADE, free=0, fstab=(*BEFORE, LINE)) == ()


@pytest.mark.usefixtures("scratch")
def test_a_box_without_room_for_it_is_refused_in_one_line() -> None:
    version = LogicalVolume("root_1", "host-vg", 2 * GIB, origin="root", tags=("golden",))
    for more in ((), (version,)):  # what versions have is free for a reset, not for a volume
        with pytest.raises(
            PreflightError,
            match=r"does not have scratch yet, .* lacks 4 MiB .* volumes\.swap_size$",
        ):
            box(*more, free=0)
    assert box(free=8 * MIB + GIB)


@pytest.mark.usefixtures("scratch")
def test_what_is_at_its_mount_point_already_is_not_hidden() -> None:
    own = Mount("/scratch", "nas:/scratch", "nfs4")
    for survey in (plain_host(SPARE), lvm_host(free=10 * GIB)):
        with pytest.raises(PreflightError, match=r"^/scratch is a filesystem already \(nas:/scr"):
            plan_volumes(replace(survey, mounts=(*survey.mounts, own)), SIZES)


@pytest.mark.usefixtures("scratch")
def test_an_image_is_written_from_a_folder_for_it() -> None:
    tree = Worktree(Path("root"), Path("work"))
    assert tree.sources["scratch"] == "/run/source/scratch"


@pytest.mark.parametrize("ships_content", [False, True])
def test_a_volume_is_shipped_empty_unless_its_row_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, ships_content: bool
) -> None:
    """The users_own one is in no row."""
    row = replace(SCRATCH, ships_content=ships_content)
    monkeypatch.setattr(own_volumes, "TABLE", (*own_volumes.TABLE, row))
    names = ("root", "persistent", "swap", "scratch", "users_own")
    lvs = {name: Extent(100 * n, 100) for n, name in enumerate(names)}
    emptied: list[int] = []
    made: list[str] = []

    def run(argv: list[str]) -> None:
        if argv[0] == "fallocate":
            emptied.append(int(argv[3]))
        else:
            made.append(argv[3])

    @contextmanager
    def device(*_: object) -> Iterator[Path]:
        yield Path("/dev/loop0")

    monkeypatch.setattr(partitions, "extents", lambda _: [Extent(0, 500)] * 4)
    monkeypatch.setattr(volume_group, "find", lambda *_: dict(lvs))
    monkeypatch.setattr(volume_group, "unused", lambda *_: iter(()))
    monkeypatch.setattr(shell, "run", run)
    monkeypatch.setattr(box_sealed, "_device", device)
    monkeypatch.setattr(partitions, "make_ext4", lambda _device, label: made.append(label))
    box_sealed.empty(Path("disk"), SIZES)
    rest = () if ships_content else ("scratch",)
    assert emptied == [lvs[name].offset for name in ("persistent", "swap", *rest, "users_own")]
    assert made == ["persistent", "swap", *rest]
    del lvs["scratch"]
    with pytest.raises(BoxError, match="is not the disk of a box: it has no volume scratch"):
        box_sealed.empty(Path("disk"), SIZES)


def state(defaults: bytes, *mounted: str) -> HostState:
    mounts = (f"40 22 254:{n} / {at} rw - ext4 x rw" for n, at in enumerate(("/", *mounted)))
    return host_state.parsed(["@defaults", *defaults.decode().splitlines(), "@mounts", *mounts])


@pytest.mark.parametrize("watched", [True, False])
def test_status_looks_after_it_if_the_row_says_so(
    monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    monkeypatch.setattr(
        own_volumes, "TABLE", (*own_volumes.TABLE, replace(SCRATCH, watched=watched))
    )
    settings = Settings()
    defaults = sources(box_plan(settings), settings)[DEFAULTS].content
    assert unhealthy(state(defaults, "/persistent", "/scratch")) == []
    said = ["/scratch is not mounted"] if watched else []
    assert unhealthy(state(defaults, "/persistent")) == said
    assert unhealthy(state(defaults)) == ["/persistent is not mounted", *said]


def test_a_box_of_an_older_version_misses_nothing_but_persistent() -> None:
    assert unhealthy(state(b"VOLGROUP=a\n")) == ["/persistent is not mounted"]
    assert unhealthy(state(b"VOLGROUP=a\n", "/persistent")) == []


@pytest.mark.commands
@pytest.mark.parametrize(
    ("defaults", "asked"),
    [
        ('VOLGROUP=a\nWATCHED="/persistent /scratch"\n', "/ /persistent /scratch"),
        ("VOLGROUP=a\n", "/ /persistent"),
        (None, "/"),
    ],
)
def test_the_box_itself_says_which_filesystems_are_asked(
    tmp_path: Path, defaults: str | None, asked: str
) -> None:
    host = FakeRoot(tmp_path)
    if defaults is not None:
        host.write("etc/default/resnap", defaults)
    host.tool("df", 'shift 2; echo "$*" >>"$PIPELINE_ROOT/calls"')
    script = host.program("state", host_state.command(str(tmp_path)))
    assert host.run(script).returncode == 0
    assert host.calls[0] == asked
