"""Builds the disk image of a box from nothing: packages, deploys, partitions; no guest runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from deploys import box
from deploys.box import Golden, Where
from deploys.errors import BoxError, PreflightError
from deploys.facts.manifest import SystemState
from deploys.facts.state import HostState, State
from deploys.operations.seal import sealed
from deploys.plan.of_image import DiskPlan, box_plan, fstab, plan_disk
from deploys.plan.preflight import SYSTEMS
from deploys.plan.sizes import human
from deploys.session import Deploy, Session, Target
from deploys.settings import Settings
from deploys.stack import Parts, stack_packages
from deploys.stack.bundle import PYTHON_PATH
from tasks.debian import archive, pins, worktree
from tasks.debian.chroot import environment
from tasks.debian.layer import Layer, layer
from tasks.debian.worktree import Worktree
from tasks.desk import loop, whole_files
from tasks.desk.places import BUNDLES, IMAGES
from tasks.desk.progress import HostProgress
from tasks.disks import box_disk
from tasks.disks.identifiers import Fixed, Identifiers, source_date_epoch
from tasks.stack import bundle, pinned, prepared
from tasks.stack.packages import PYTHONS


@dataclass(frozen=True, slots=True)
class Built:
    """A box's disk image: its file, the bytes that it takes here, and the state of the box."""

    path: Path
    used: int
    state: HostState


def packages(settings: Settings) -> tuple[str, ...]:
    """Debian's packages that are installed by name: for the system, the stack and the deploys."""
    named = (*settings.image.packages, *stack_packages(settings), *box.packages(settings))
    return tuple(sorted(set(named)))


class Build:
    """Builds one image; ``progress`` shows the steps."""

    def __init__(
        self, settings: Settings, out: Path, progress: HostProgress, manifest: Path | None = None
    ) -> None:
        self._settings = settings
        self._out = out.absolute()
        self._progress = progress
        self._manifest = manifest

    def run(self) -> Built:
        """Make the image; the file gets its name when it is complete.

        Raises:
            BoxError: not root, a build runs already, the image is in use, a setting does not
                fit, or a step failed. No mount, loop device or incomplete file is left.
        """
        remedy = "sudo bin/inv box.build makes it, and then inv up needs no root"
        loop.require_root("making a box's disk image", remedy)
        plan = plan_disk(self._settings)
        epoch = source_date_epoch()
        wanted = pins.read(self._manifest) if self._manifest else None
        whole_files.require_place(self._out)
        whole_files.require_unused(self._out)
        with build_lock(self._out):
            return self._build(plan, epoch, wanted)

    def _build(self, plan: DiskPlan, epoch: int | None, wanted: pins.Manifest | None) -> Built:
        suite = self._settings.image.suite
        self._progress.step("asking the mirror what it has")
        found = archive.read(suite, IMAGES)
        if wanted is not None:
            self._progress.step("looking for the manifest's versions")
            pins.require_available(wanted.packages, found, IMAGES)
        if rows := self._settings.stack.versions:
            pins.require_available(rows, found, IMAGES)
        versions = pinned(self._settings, wanted)
        with layer(
            found, suite, packages(self._settings), IMAGES, self._progress.step, versions
        ) as installed:
            self._check_disk(installed)
            return self._write(plan, epoch, wanted, installed)

    def _write(
        self, plan: DiskPlan, epoch: int | None, wanted: pins.Manifest | None, installed: Layer
    ) -> Built:
        python, step = PYTHONS[self._settings.image.suite], self._progress.step
        parts = prepared(self._settings, python, {}, BUNDLES, step, wanted=wanted).parts
        # Not before the packages' files: compiled Python would be older than its sources.
        epoch = max(bundle.project_time(), installed.date) if epoch is None else epoch
        fixed = Fixed(Identifiers(_seed(self._settings, epoch)), epoch)
        boot_uuid = fixed.identifiers.uuid("boot")
        boot = plan.partitions[box_disk.BOOT]
        self._progress.step("copying the packages")
        with (
            whole_files.replaced(self._out) as disk,
            worktree.copied(installed.file, IMAGES, boot.size or 0, boot_uuid) as tree,
        ):
            state = self._apply(tree, boot_uuid, epoch, wanted, parts)
            for written in (tree.scratch, tree.root / "boot"):
                loop.flush(written, IMAGES)
            self._check_room(tree, plan)
            volgroup = self._settings.volumes.volgroup
            box_disk.write(disk, plan, volgroup, tree, fixed, self._progress.step)
            self._progress.step("flushing it to the disk")
            used = disk.stat().st_blocks * 512
        return Built(self._out, used, state)

    def _apply(
        self, tree: Worktree, boot_uuid: str, epoch: int, wanted: pins.Manifest | None, parts: Parts
    ) -> HostState:
        """Apply the deploys of a new box to the tree."""
        self._progress.step("applying the deploys")
        settings = self._settings
        target = Target("the image", chroot=tree.root, environment=environment(epoch))
        with Session(target) as session:
            state = session.fact(State)
        python = SYSTEMS.get((state.os_id, state.os_version))
        if python is None:
            raise PreflightError(f"no box can be made of {state.os_id} {state.os_version}")
        made = Golden(
            where=Where.IMAGE,
            settings=settings,
            project=bundle.project_version(),
            fstab=fstab(settings, boot_uuid),
            plan=box_plan(settings),
            python=bundle.python_bundle(python, BUNDLES),
            copy=bundle.project_copy(BUNDLES),
            parts=parts,
        )
        deploys: tuple[Deploy, ...] = (*box.deploys(made), partial(sealed, name="Seal the root"))
        with Session(target, self._progress) as session:
            session.prepare(deploys)
            session.run()
        with Session(target) as session:
            if wanted is not None:
                system = session.fact(SystemState, python=PYTHON_PATH)
                pins.require_same({**wanted.packages, **wanted.built}, system.packages)
            return session.fact(State)

    def _check_disk(self, installed: Layer) -> None:
        """Require room for a copy of the layer beside it, and for its files in the image."""
        size = installed.size
        places = {folder.stat().st_dev: folder for folder in (IMAGES, self._out.parent)}
        for place in places.values():
            free = shutil.disk_usage(place).free
            needed = size * 5 // 4 * (2 if len(places) == 1 else 1)
            if free < needed:
                raise PreflightError(
                    f"{place} has {human(free)} free, a build needs {human(needed)}"
                )

    def _check_room(self, tree: Worktree, plan: DiskPlan) -> None:
        status = os.statvfs(tree.scratch)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        if used > plan.root.size * 0.9:
            raise PreflightError(
                f"a root of {human(plan.root.size)} is too small for {human(used)} of files: "
                "raise volumes.root_size or image.disk_size"
            )


@contextmanager
def build_lock(out: Path) -> Iterator[None]:
    """Keep other processes from making an image here while this one makes ``out``.

    Raises:
        BoxError: another process makes one; or a file could not be written.
    """
    IMAGES.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(IMAGES / "build.lock", timeout=0):
            yield
    except Timeout as error:
        raise BoxError("a box is being built here already") from error
    except OSError as error:
        raise BoxError(f"{error.filename or out}: {error.strerror}") from error


def _seed(settings: Settings, epoch: int) -> str:
    version = bundle.project_version()
    parts = [settings.of_image()]
    parts += [version.commit, version.digest, str(epoch)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
