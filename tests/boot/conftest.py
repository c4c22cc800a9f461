"""What the boot tests share: the images of one run, and a box that was provisioned once.

Guests' disks are overlays: no test sees what another wrote. Two workers run two guests at a
time; what both need is made by the first that asks, under a lock.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from filelock import FileLock

from tasks.machines import accelerator, image
from tasks.machines.hardware import Machine
from tests.boot.box import LEAN, Box, running

GIB = 2**30
# Of two guests at a time on two cores: with two each, they spin on each other's locks.
CPUS = 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the files that need no box made before: two workers would wait for the same one."""
    items.sort(key=lambda item: "box_disk" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("making images needs root")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of this run, the same for all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "boxes"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def lvm_image(shared: Path) -> image.BaseImage:
    """A host whose root is on LVM, in a VG of another name, with room to spare."""
    return image.build(image.Recipe("lvm", disk_size=10 * GIB), shared)


@pytest.fixture(scope="session")
def full_image(shared: Path) -> image.BaseImage:
    """A host whose root takes all of its VG."""
    return image.build(image.Recipe("lvm", disk_size=4 * GIB, root_size=None), shared)


@pytest.fixture(scope="session")
def accel(lvm_image: image.BaseImage, shared: Path) -> accelerator.Accelerator:
    return accelerator.choose(lvm_image.kernel, shared)


Start = Callable[..., AbstractContextManager[Box]]


@pytest.fixture(scope="session")
def start(accel: accelerator.Accelerator, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start a guest on overlays of disks, with a spare disk of so many bytes beside them."""

    def start(base: image.BaseImage, disk: Path, spare: int = 0) -> AbstractContextManager[Box]:
        folder = tmp_path_factory.mktemp("guest")
        disks = [overlay(base, disk, folder / "root.qcow2")]
        if spare:
            disks.append(image.empty_disk(folder / "spare.qcow2", spare))
        return running(folder, base, Machine(disks=tuple(disks), cpus=CPUS), accel)

    return start


def overlay(base: image.BaseImage, disk: Path, file: Path) -> Path:
    """A disk on top of a base image or of a guest's own disk."""
    if disk == base.path:
        return image.overlay(disk, file)
    return image.overlay(disk, file, backing="qcow2")


@pytest.fixture(scope="session")
def box_disk(shared: Path, lvm_image: image.BaseImage, accel: accelerator.Accelerator) -> Path:
    """The disk of a host with its root on LVM, provisioned once, lean, powered off in order."""
    disk = shared / "box.qcow2"
    with FileLock(shared / "box.lock"):
        if not disk.exists():
            folder = shared / "provisioned"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            root = image.overlay(lvm_image.path, folder / "root.qcow2")
            with running(folder, lvm_image, Machine(disks=(root,), cpus=CPUS), accel) as bare:
                assert bare.state.verdict is None, "a bare host left a verdict"
                assert bare.provision(*LEAN).changed
                bare.guest.halt()
            root.rename(disk)
    return disk


@pytest.fixture(scope="module")
def box(start: Start, lvm_image: image.BaseImage, box_disk: Path) -> Iterator[Box]:
    """A box that a module's tests share, in order, in its first fresh snapshot."""
    with start(lvm_image, box_disk) as running_box:
        yield running_box
