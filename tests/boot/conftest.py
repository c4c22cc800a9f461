"""What the boot tests share: the images of one run.

Guests' disks are overlays: no test sees what another wrote. Three workers run three guests at
a time; what several need is made by the first that asks, under a lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from filelock import FileLock

from tasks.guests import bare, credentials
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine
from tests.boot.bed import bed, bedinitrd
from tests.boot.cuts import cuts
from tests.boot.lab import saved, shipped
from tests.boot.lab.box import CPUS, SMALL, Box, command, flags, reached, running
from tests.boot.lab.recipes import FEW_MODULES, Recipe
from tests.hosts.guest import Guest

GIB = 2**30
# On a busy machine the first status page of a boot may run out of time; that of the next minute
# clears the failure.
_IS_RUNNING = (
    "timeout 300 sh -c 'until systemctl is-system-running --wait >/dev/null; do sleep 2; done' || "
    "{ systemctl --failed --plain --no-legend >&2; exit 1; }"
)
# What a box needs, on a host that happens to have it: a provision that installs it from an archive
# is test_up_bare's, and takes minutes of emulation. The operation is tried in trees of Debian, too.
INSTALLED = ("bubblewrap", "fdisk", "nftables", "python3-seccomp", "rsync", "units")
# The longest files, in the order in which they are started, so that no worker is left with a long
# one at the end; test_pipeline takes the box that test_up builds. The others are started after.
# While the first two make their images, which waits half of the time, the containers of
# tests/storage have the processors.
_ORDER = (
    "test_up.py",
    "test_rollback.py",
    "storage",
    "test_unprovision.py",
    "test_one_disk.py",
    "test_uefi.py",
    "test_up_bare.py",
    "test_parts.py",
    "test_lvm_host.py",
    "test_pipeline.py",
    "test_finalize.py",
    "test_vagrant.py",
    "test_provisiond.py",
    "test_pressure.py",
    "test_cuts.py",
    "test_cuts_in_file.py",
    "test_late_disk.py",
    "test_operator.py",
    "test_dracut.py",
    "test_no_room.py",
    "test_update.py",
    "test_random_cuts.py",
    "test_hopeless.py",
    "test_login.py",
)


@pytest.hookimpl(trylast=True)  # after -m has selected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the long files first; the order within a file stays."""
    items.sort(key=lambda item: _place(item.path))


def _place(path: Path) -> int:
    """The place in the order of a file that has, or whose folder has, a name of it."""
    return next((place for place, name in enumerate(_ORDER) if name in path.parts), len(_ORDER))


@pytest.fixture(scope="session", autouse=True)
def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("making images needs root")


@pytest.fixture(scope="session")
def lvm_image(shared: Path) -> bare.BaseImage:
    """A host whose root is on LVM, in a VG of another name, with room to spare."""
    return bare.build(Recipe("lvm", disk_size=10 * GIB, extra=INSTALLED), shared)


@pytest.fixture(scope="session")
def full_image(shared: Path) -> bare.BaseImage:
    """A host whose root is on LVM and takes all of its VG."""
    recipe = Recipe("lvm", disk_size=4 * GIB, root_size=None, extra=INSTALLED)
    return bare.build(recipe, shared)


@pytest.fixture(scope="session")
def accel(built: Path, shared: Path) -> accelerator.Accelerator:
    kernel, _ = bedinitrd.take_kernel(built, shared)
    return accelerator.choose(kernel, shared)


Start = Callable[..., AbstractContextManager[Box]]


@pytest.fixture(scope="session")
def start(accel: accelerator.Accelerator, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start a bare host of a base image, with a spare disk of so many bytes."""

    def start(base: bare.BaseImage, spare: int = 0) -> AbstractContextManager[Box]:
        folder = tmp_path_factory.mktemp("guest")
        disks = [bare.overlay(base.path, folder / "root.qcow2")]
        if spare:
            disks.append(bare.empty_disk(folder / "spare.qcow2", spare))
        return running(folder, base.identity, Machine(disks=tuple(disks), cpus=CPUS), accel)

    return start


@pytest.fixture(scope="session")
def built(shared: Path) -> Path:
    """A lean box's image, as ``inv box.build`` makes it."""
    disk = shared / "built.raw"
    with FileLock(shared / "built.lock"):
        if not disk.exists():
            # a state of its own: in the shared one inv up is building, and two are refused
            words = ("--out", str(disk), *flags(SMALL))
            ran = command("inv", "box.build", *words, state=shared / "small")
            assert ran.code == 0, ran.stderr
    return disk


StartBox = Callable[[], AbstractContextManager[Box]]


@pytest.fixture(scope="session")
def start_box(
    built: Path,
    accel: accelerator.Accelerator,
    shared: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> StartBox:
    """Start a box in its first fresh snapshot, just booted: each goes on from the one boot.

    It has made its host keys itself, as a box that was shipped does.
    """

    def boot() -> saved.Saved:
        folder = shared / "booted"
        folder.mkdir()
        disk = bare.overlay(built, folder / "root.qcow2")
        identity, given = credentials.make(folder, "vagrant", shared / "id_ed25519")
        del given["ssh_host_ed25519_key"]
        machine = Machine(disks=(disk,), cpus=CPUS, credentials=given)
        with Guest.start(folder, machine, identity, accel) as guest:
            key = shipped.first_key(guest)
            with reached(guest, SMALL) as first:
                first.succeed(_IS_RUNNING)
                first.host.close()
                return saved.save(guest, host_key=key)

    booted = saved.once(shared / "booted.json", boot)
    return lambda: saved.continued(booted, tmp_path_factory.mktemp("box"), accel, SMALL)


@pytest.fixture(scope="session")
def start_in_maintenance(
    start_box: StartBox,
    accel: accelerator.Accelerator,
    shared: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> StartBox:
    """As ``start_box``, but the box was booted into maintenance from there, by ``inv maintain``."""

    def boot() -> saved.Saved:
        state = shared / "maintained"
        state.mkdir()
        with start_box() as box:
            machine_id = box.succeed("cat /etc/machine-id")
            box.host.close()
            (state / "guest").symlink_to(box.guest.directory)
            ran = command("inv", "maintain", state=state)
            assert ran.code == 0, ran.stderr
            assert box.verdict.name == "golden"
            assert box.succeed("cat /etc/machine-id") == machine_id
            box.succeed(FEW_MODULES)
            box.host.close()
            return saved.save(box.guest)

    booted = saved.once(shared / "maintenance.json", boot)
    return lambda: saved.continued(booted, tmp_path_factory.mktemp("box"), accel, SMALL)


@pytest.fixture(scope="module")
def box(start_box: StartBox) -> Iterator[Box]:
    """A box that a module's tests share, in order, in its first fresh snapshot."""
    with start_box() as running_box:
        yield running_box


@pytest.fixture(scope="session")
def rig(built: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> bed.Bed:
    """The test bed of this worker: the built box's kernel and initrd."""
    kernel, of_box = bedinitrd.take_kernel(built, shared)
    common = shared / "bed"
    with FileLock(shared / "bed-folder.lock"):
        if not common.exists():
            made = shared / "bed.new"
            made.mkdir()
            bedinitrd.make_initrd(of_box, made / "initrd")
            made.rename(common)
    folder = tmp_path_factory.mktemp("bed")
    return bed.Bed(
        folder, kernel, common / "initrd", accelerator.choose(kernel, shared), memories=common
    )


@pytest.fixture(scope="session")
def starts(rig: bed.Bed, shared: Path) -> cuts.Starts:
    """The disks that the ways through the reset start from."""
    folder = shared / "starts"
    folder.mkdir(exist_ok=True)
    return cuts.Starts(rig, folder)
