"""From nothing to the disk image of a box: packages, deploys, partitions, all without a guest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path

from filelock import FileLock, Timeout

from deploys.apply import Deploy, Session, Target
from deploys.bundle import PYTHON_PATH
from deploys.disk_plan import DiskPlan, box_plan, fstab, plan_disk
from deploys.errors import BoxError, PreflightError
from deploys.facts.box import HostState, State
from deploys.facts.manifest import SystemState
from deploys.golden import golden
from deploys.machine import machine
from deploys.operations.root import COPIED
from deploys.operations.seal import sealed
from deploys.preflight import SYSTEMS
from deploys.settings import Settings
from deploys.sizes import human
from deploys.stack import stack_packages
from deploys.volumes import PACKAGES as VOLUME_PACKAGES
from tasks import bundle
from tasks.machines import archive, filesystems, grub, layout, loop, partial, pins, volumes
from tasks.machines.identifiers import Identifiers
from tasks.machines.layout import Extent
from tasks.machines.tree import environment, unpack
from tasks.places import BUNDLES, IMAGES
from tasks.progress import HostProgress

_DISK = "/run/disk"
_SOURCE = "/run/source"


@dataclass(frozen=True, slots=True)
class Built:
    """A box's disk image: its file, the bytes that takes, and what the box says it is."""

    path: Path
    used: int
    state: HostState


@dataclass(frozen=True, slots=True)
class _Tree:
    """The trees of an image in the making: a chroot, and the folder that ``/`` is made from."""

    root: Path
    work: Path


class Build:
    """Builds one image; its steps are told to ``progress``."""

    def __init__(
        self, settings: Settings, out: Path, progress: HostProgress, manifest: Path | None = None
    ) -> None:
        self._settings = settings
        self._out = out.absolute()
        self._progress = progress
        self._manifest = manifest

    def run(self) -> Built:
        """Make the image; it takes its name when it is whole.

        Raises:
            BoxError: not root, a build runs already, the image is in use, a setting does not
                fit, or a step failed. No mount, loop device or half file is left.
        """
        loop.require_root("making a box's disk image")
        plan = plan_disk(self._settings)
        asked = _asked_epoch()
        wanted = pins.read(self._manifest) if self._manifest else None
        if not self._out.parent.is_dir():
            raise PreflightError(f"{self._out.parent} is no folder")
        partial.require_unused(self._out)
        IMAGES.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(IMAGES / "build.lock", timeout=0):
                return self._build(plan, asked, wanted)
        except Timeout as error:
            raise BoxError("a box is being built here already") from error
        except OSError as error:
            raise BoxError(f"{error.filename or self._out}: {error.strerror}") from error

    def _build(self, plan: DiskPlan, asked: int | None, wanted: pins.Pins | None) -> Built:
        suite = self._settings.image.suite
        self._progress.step("asking the mirror what it has")
        found = archive.read(suite, IMAGES)
        packages = (
            *(self._settings.image.packages),
            *VOLUME_PACKAGES,
            *stack_packages(self._settings),
        )
        if wanted is not None:
            self._progress.step("looking for the manifest's versions")
            pins.require_had(wanted, found, IMAGES)
        layer = archive.layer(
            found, suite, tuple(sorted(set(packages))), IMAGES, self._progress.step, wanted
        )
        self._check_disk(layer)
        # Not before what is in the packages: Python's compiled modules would be older than they.
        epoch = max(bundle.project_time(), layer.date) if asked is None else asked
        fixed = Identifiers(_seed(self._settings, epoch))
        with ExitStack() as stack:
            disk = stack.enter_context(partial.replaced(self._out))
            with disk.open("wb") as file:
                file.truncate(plan.size)
            tree = self._unpacked(stack, plan, layer, fixed)
            state = self._apply(tree, fixed.uuid("boot"), epoch, wanted)
            loop.flush(tree.work)
            self._check_room(tree, plan)
            self._write(disk, plan, tree, fixed, epoch)
            used = disk.stat().st_blocks * 512
            self._progress.step("writing it to the disk")
        return Built(self._out, used, state)

    def _unpacked(
        self, stack: ExitStack, plan: DiskPlan, layer: archive.Layer, fixed: Identifiers
    ) -> _Tree:
        """The system in a chroot, with a /boot and a /persistent of their own."""
        self._progress.step("unpacking the packages")
        room = loop.scratch(IMAGES, 2 * plan.root.size)
        device = stack.enter_context(room)
        work = stack.enter_context(loop.temporary_folder(IMAGES))
        stack.enter_context(loop.mounted(device, work))
        root = stack.enter_context(loop.temporary_folder(IMAGES))
        for name in ("root", "persistent"):
            (work / name).mkdir(mode=0o755)
        stack.enter_context(loop.mounted(work / "root", root, "--bind"))
        # GRUB's entries name the UUID of the /boot that they were made on.
        boot_room = loop.scratch(IMAGES, plan.boot.size or 0, fixed.uuid("boot"))
        boot = stack.enter_context(boot_room)
        for name in ("boot", "persistent"):
            (root / name).mkdir()
        stack.enter_context(loop.mounted(boot, root / "boot"))
        stack.enter_context(loop.mounted(work / "persistent", root / "persistent", "--bind"))
        unpack(layer.tar, root)
        loop.flush(work)
        # update-grub knows /dev/loop0 by its name, and would look for the file it stands for.
        nodes = {"image-root": device, "image-boot": boot}
        stack.enter_context(loop.chroot(root, nodes))
        (root / _SOURCE[1:]).mkdir()
        # Without what is mounted below it.
        stack.enter_context(loop.mounted(work, root / _SOURCE[1:], "--bind"))
        return _Tree(root, work)

    def _apply(
        self, tree: _Tree, boot_uuid: str, epoch: int, wanted: pins.Pins | None
    ) -> HostState:
        """The deploys of every box, and before them those of a machine of our making."""
        self._progress.step("applying the deploys")
        settings = self._settings
        target = Target("the image", chroot=tree.root, environment=environment(epoch))
        with Session(target) as session:
            state = session.fact(State)
            if wanted is not None:
                system = session.fact(SystemState, python=PYTHON_PATH)
                pins.require_same(wanted, system.packages)
        python = SYSTEMS.get((state.os_id, state.os_version))
        if python is None:
            raise PreflightError(f"no box can be made of {state.os_id} {state.os_version}")
        deploys: tuple[Deploy, ...] = (
            bound(machine, image=settings.image, fstab=fstab(settings, boot_uuid)),
            *golden(
                box_plan(settings),
                settings,
                bundle.python_bundle(python, BUNDLES),
                bundle.project_copy(BUNDLES),
                bundle.project_version(),
            ),
            bound(sealed, name="Seal the root"),
        )
        with Session(target, self._progress) as session:
            session.prepare(deploys)
            session.run()
            return session.fact(State)

    def _check_disk(self, layer: archive.Layer) -> None:
        """The tree is unpacked beside the layer, and written once more to the image."""
        size = layer.tar.stat().st_size
        places = {folder.stat().st_dev: folder for folder in (IMAGES, self._out.parent)}
        for place in places.values():
            free = shutil.disk_usage(place).free
            needed = size * 5 // 4 * (2 if len(places) == 1 else 1)
            if free < needed:
                raise PreflightError(
                    f"{place} has {human(free)} free, a build needs {human(needed)}"
                )

    def _check_room(self, tree: _Tree, plan: DiskPlan) -> None:
        status = os.statvfs(tree.work)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        if used > plan.root.size * 0.9:
            raise PreflightError(
                f"a root of {human(plan.root.size)} is too small for {human(used)} of files: "
                "raise volumes.root_size or image.disk_size"
            )

    def _write(
        self, disk: Path, plan: DiskPlan, tree: _Tree, fixed: Identifiers, epoch: int
    ) -> None:
        """Lay the disk out and write everything on it, each part by one tool, once."""
        self._progress.step("laying out the disk")
        volgroup = self._settings.volumes.volgroup
        extents = layout.partition(disk, layout.gpt(plan.partitions, fixed))
        _, esp, boot, lvm = extents
        wanted = [
            volumes.Volume(each.name, each.size, (COPIED,) if each is plan.root else ())
            for each in plan.volumes
        ]
        lvs = volumes.make(disk, lvm, volgroup, wanted, volumes.Fixed(fixed, epoch))
        self._progress.step("installing GRUB")
        grub.install_bios(tree.root, disk, epoch)
        image = grub.uefi_image(tree.root, fixed.uuid("boot"), epoch)
        filesystems.write_esp(disk, esp, grub.UEFI_PATH, image, fixed, epoch)
        filesystems.write_swap(disk, lvs["swap"], fixed)
        (tree.root / _DISK[1:]).touch()
        with loop.mounted(disk, tree.root / _DISK[1:], "--bind"):
            sources: tuple[tuple[str, str, Extent], ...] = (
                ("boot", "/boot", boot),
                ("persistent", f"{_SOURCE}/persistent", lvs["persistent"]),
                ("root", f"{_SOURCE}/root", lvs[plan.root.name]),
            )
            for label, source, extent in sources:
                self._progress.step(f"writing {label}")
                filesystems.write_ext4(tree.root, source, _DISK, extent, label, fixed, epoch)


def _seed(settings: Settings, epoch: int) -> str:
    version = bundle.project_version()
    parts = [settings.model_dump_json(exclude={"guest"}), version.commit, version.digest, epoch]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _asked_epoch() -> int | None:
    asked = os.environ.get("SOURCE_DATE_EPOCH", "")
    if asked and not (asked.isascii() and asked.isdigit()):
        raise PreflightError(f"SOURCE_DATE_EPOCH {asked!r} is not a number of seconds")
    return int(asked) if asked else None
