"""Provision: the sessions and boots that make a bare host or a box a box in a fresh snapshot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import get_args

from deploys import box
from deploys.box import Golden
from deploys.errors import BoxError, DeployError, PreflightError
from deploys.facts.packages import SourceDigests
from deploys.facts.state import HostState
from deploys.operations.boot import stale_initrds
from deploys.operations.lvm import reclaim_partition
from deploys.plan import preflight
from deploys.plan.preflight import Preflight
from deploys.plan.result import Kind
from deploys.reset.back.before import noted
from deploys.reset.boot import boot_copy
from deploys.reset.safety import begin_trial, drop_safety, keep_safety, take_safety
from deploys.reset.volumes import volumes
from deploys.session import Deploy
from deploys.settings import LABELS, Role, Settings
from deploys.stack import Parts
from tasks.desk.places import BUNDLES
from tasks.desk.progress import HostProgress
from tasks.hosts.connection import Host
from tasks.hosts.expectations import (
    TRIAL_BOOTS,
    expect,
    is_settled,
    keep_deadline,
    rollback_reason,
)
from tasks.stack import Prepared, bundle, prepared

REFERENCE = "/usr/lib/pipeline/reference"


@dataclass(frozen=True)
class Request:
    """The flags of a provision, besides the settings.

    ``device`` is the disk to use; ``force`` allows to wipe its data; ``reclaim`` gives the old
    root's partition to the volume group. ``in_file`` has the box in a file of so many bytes on the
    host's own root, or of as many as it needs (0); None: only where there is no other way.
    """

    device: str | None = None
    force: bool = False
    reclaim: bool = False
    in_file: int | None = None


@dataclass(frozen=True)
class Provisioned:
    """A provision that succeeded: whether it changed anything, and the box's state after it.

    ``left_out`` says of each part that could not be built for the host why that is.
    """

    changed: bool
    state: HostState
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def manifest(self) -> str:
        return self.state.release.get("MANIFEST", "")


class Provision:
    """Provisions one host, and reports its steps to ``progress``."""

    def __init__(
        self, host: Host, settings: Settings, request: Request, progress: HostProgress
    ) -> None:
        self._host = host
        self._settings = settings
        self._request = request
        self._progress = progress
        self._prepared = Prepared(Parts())

    def plan(self) -> list[tuple[str, str, str]]:
        """List what ``run`` would do, as rows of operation, object and detail; change nothing.

        Raises:
            BoxError: the host cannot be provisioned.
        """
        found = self._preflight(build=False)
        rows: list[tuple[str, str, str]] = []
        if found.plan.kind is not Kind.BOX:
            rows += [*found.plan.rows(), ("make", "initrds", f"with {found.state.initrds}")]
        if self._request.reclaim:
            rows.append(("reclaim", found.state.defaults["OLD_ROOT_UUID"], "erased"))
        rows += [("change", name, "") for name in self._would_change(found)]
        rows += [("leave out", part, why) for part, why in self._prepared.left_out.items()]
        return rows

    def run(self) -> Provisioned:
        """Make the host a box in a fresh snapshot; do nothing if it is one and up to date.

        Raises:
            BoxError: the host cannot be provisioned, or a step failed; a golden root that was
                being changed is then merged back, now or at the next boot.
        """
        done = self._run()
        keep_deadline(self._host, self._deadline)
        return done

    def _run(self) -> Provisioned:
        found = self._preflight()
        if found.plan.kind is Kind.BOX and found.state.verdict is not None:
            return self._update(found)
        self._host.require_reboot()
        deploys: list[Deploy] = [partial(volumes, plan=found.plan)]
        if found.plan.kind is not Kind.BOX:
            deploys.insert(0, partial(noted, plan=found.plan))
        if found.plan.copies_root:
            deploys.append(partial(boot_copy, plan=found.plan, settings=self._settings))
        where = f" in {found.plan.file}" if found.plan.file else ""
        self._apply(f"building the volumes{where}", deploys)
        if found.plan.copies_root:
            self._progress.step("booting the new root")
            expect(self._host, self._host.reboot(None, self._deadline), "golden")
            with self._host.session() as session:
                found = preflight.check(session, self._settings)
        self._change(found)
        return self._boot_fresh()

    def finalize(self, *last: Deploy, maintain: str, history: bool) -> None:
        """In maintenance: make the initrds, GRUB's entries, a box's files and manifest anew.

        The settings are the host's own, so nothing is fetched that only they name. The host stays
        in maintenance, without a snapshot: the next boot takes one.

        Args:
            last: deploys that run after these.
            maintain: the command that brings the host into maintenance, for an error line.
            history: keep the golden root from before as a version.

        Raises:
            BoxError: the host is not in maintenance; or see ``run``.
        """
        verdict = self._host.state().verdict
        if verdict is None or verdict.name != "golden":
            raise PreflightError(f"{self._host.name} is not in maintenance: run {maintain} first")
        self._host.require_reboot()
        anew = partial(stale_initrds, name="Have the initrds made anew")
        with self._undo_on_error():
            self._change_safely(self._preflight(is_asked=False), [anew])
            self._apply("keeping the change", [*last, keep_safety if history else drop_safety])

    @property
    def _deadline(self) -> float:
        return self._settings.boot.reboot_deadline

    def _preflight(self, *, build: bool = True, is_asked: bool = True) -> Preflight:
        self._progress.step("looking at the host")
        with self._host.session() as session:
            found = preflight.check(
                session,
                self._settings,
                self._request.device,
                force=self._request.force,
                in_file=self._request.in_file,
            )
            installed = session.fact(SourceDigests)
        self._settings = keep_role(self._settings, found.state.release.get("ROLE", ""))
        if self._request.reclaim and not (found.plan.old_root_uuid and found.state.is_box):
            raise PreflightError("there is no old root to reclaim on this host")
        if self._request.reclaim and found.plan.file:
            raise PreflightError(
                f"the old root has this box's file {found.plan.file}: it must stay"
            )
        if self._request.reclaim:
            found = replace(found, plan=replace(found.plan, old_root_uuid=""))
        # Before any change: a build may fail, a server may not answer.
        step = self._progress.step
        self._prepared = prepared(
            self._settings,
            found.python,
            installed,
            BUNDLES,
            step,
            build=build,
            is_asked=is_asked,
        )
        return found

    def _would_change(self, found: Preflight) -> list[str]:
        """List the operations on the golden root that would change the host as it is now."""
        self._progress.step("comparing")
        with self._host.session() as session:
            operations = session.prepare(self._golden(found))
        return [operation.name for operation in operations if operation.changes]

    def _update(self, found: Preflight) -> Provisioned:
        verdict = found.state.verdict
        assert verdict is not None
        if verdict.name != "golden":
            wanted = self._request.reclaim or verdict.name == "failed"
            if not wanted and not self._would_change(found):
                return Provisioned(False, found.state, self._prepared.left_out)
            self._progress.step("booting into maintenance")
            expect(self._host, self._host.reboot("maintenance", self._deadline), "golden")
        else:
            self._host.require_reboot()
        with self._undo_on_error():
            self._change_safely(found)
            self._apply("keeping a way back", [begin_trial])
        return self._after_trial()

    def _change_safely(self, found: Preflight, first: Sequence[Deploy] = ()) -> None:
        """In maintenance: change the golden root, with a safety snapshot of what it was."""
        safety = partial(take_safety, plan=found.plan)
        self._apply("securing the golden root", [safety, *first])
        if self._request.reclaim:
            self._reclaim(found)
        self._change(found)

    @contextlib.contextmanager
    def _undo_on_error(self) -> Iterator[None]:
        """If the block fails, merge the golden root back.

        After Ctrl-C the host's next boot does this.
        """
        try:
            yield
        except BoxError:
            self._progress.step("merging the golden root back")
            with contextlib.suppress(BoxError):
                self._host.reboot("resnap", self._deadline, is_settled)
            raise

    def _reclaim(self, found: Preflight) -> None:
        """Reclaim before the golden root forgets the old one, so that a failure can be repeated."""
        reclaim = partial(
            reclaim_partition,
            name="Reclaim the old root",
            uuid=found.state.defaults["OLD_ROOT_UUID"],
            group=found.plan.volgroup,
        )
        self._apply("reclaiming the old root", [reclaim])

    def _change(self, found: Preflight) -> None:
        self._apply("changing the golden root", self._golden(found))
        self._check_health()

    def _golden(self, found: Preflight) -> Sequence[Deploy]:
        golden = Golden(
            settings=self._settings,
            project=bundle.project_version(),
            plan=found.plan,
            python=bundle.python_bundle(found.python, BUNDLES),
            copy=bundle.project_copy(BUNDLES),
            parts=self._prepared.parts,
        )
        return box.deploys(golden)

    def _check_health(self) -> None:
        self._progress.step("checking the golden root")
        self._host.run('test -z "$(dpkg --audit)" || ! dpkg --audit >&2')
        self._host.run("/usr/sbin/makeinitrd --check")
        if self._settings.stack.has_reference:
            self._host.run(REFERENCE)

    def _boot_fresh(self) -> Provisioned:
        self._progress.step("booting a fresh snapshot")
        state = self._host.reboot("resnap", self._deadline)
        expect(self._host, state, "fresh")
        return Provisioned(True, state, self._prepared.left_out)

    def _after_trial(self) -> Provisioned:
        """Reboot the box, which tries the change by itself, and keeps it or rolls it back."""
        self._progress.step("trying the change in a fresh snapshot")
        before = self._host.state()
        deadline = TRIAL_BOOTS * self._deadline
        state = self._host.reboot("resnap", deadline, is_settled)
        if why := rollback_reason(state, before):
            raise DeployError(f"{self._host.name}: the change was rolled back: {why}")
        expect(self._host, state, "fresh")
        return Provisioned(True, state, self._prepared.left_out)

    def _apply(self, step: str, deploys: Sequence[Deploy]) -> None:
        self._progress.step(step)
        with self._host.session(self._progress) as session:
            session.prepare(deploys)
            session.run()


def keep_role(settings: Settings, present: str) -> Settings:
    """The settings, with the role that the box has (``present``) if they name none.

    A role that was only a label in older versions (``LABELS``) means devel.

    Raises:
        PreflightError: the settings name another role than the box's, which cannot change; or
            this version of the project does not know the box's role.
    """
    if present in ("", "devel", *LABELS, settings.role):
        return settings
    if present not in get_args(Role):
        raise PreflightError(f"this box is a {present}, which this version does not know")
    if "role" in settings.model_fields_set:
        raise PreflightError(
            f"this box is a {present}, and stays one: provision a new host as {settings.role}"
        )
    return settings.model_copy(update={"role": present})
