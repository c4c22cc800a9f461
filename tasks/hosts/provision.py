"""From a bare host, or a box, to a box in a fresh snapshot: the passes and boots in between."""

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
from deploys.reset.boot import boot_copy
from deploys.reset.safety import begin_trial, drop_safety, keep_safety, take_safety
from deploys.reset.volumes import volumes
from deploys.session import Deploy
from deploys.settings import LABELS, Role, Settings
from deploys.stack import Parts
from tasks.desk.places import BUNDLES
from tasks.desk.progress import HostProgress
from tasks.hosts.connection import Host
from tasks.hosts.expectations import TRIAL_BOOTS, expect, is_settled, rolled_back
from tasks.stack import Prepared, bundle, prepared

REFERENCE = "/usr/lib/pipeline/reference"


@dataclass(frozen=True)
class Request:
    """What a user asked of a provision, beside the settings.

    ``device`` is the disk to be used, ``force`` allows what it carries to be wiped, ``reclaim``
    gives the old root's partition to the volume group.
    """

    device: str | None = None
    force: bool = False
    reclaim: bool = False


@dataclass(frozen=True)
class Provisioned:
    """How a provision ended well: whether anything was changed, and the box as it stands.

    ``left_out`` says of each part that could not be built for the host why that is.
    """

    changed: bool
    state: HostState
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def manifest(self) -> str:
        return self.state.release.get("MANIFEST", "")


class Provision:
    """Provisions one host; its steps are told to ``progress``."""

    def __init__(
        self, host: Host, settings: Settings, request: Request, progress: HostProgress
    ) -> None:
        self._host = host
        self._settings = settings
        self._request = request
        self._progress = progress
        self._prepared = Prepared(Parts())

    def plan(self) -> list[tuple[str, str, str]]:
        """What ``run`` would do, as rows of operation, object and detail; changes nothing.

        Raises:
            BoxError: the host is not fit.
        """
        found = self._preflight(build=False)
        rows: list[tuple[str, str, str]] = []
        if found.plan.kind is not Kind.BOX:
            rows += [*found.plan.rows(), ("make", "initrds", f"with {found.state.initrds}")]
        if self._request.reclaim:
            rows.append(("reclaim", found.state.defaults["OLD_ROOT_UUID"], "erased"))
        rows += [("change", name, "") for name in self._pending(found)]
        rows += [("leave out", part, why) for part, why in self._prepared.left_out.items()]
        return rows

    def run(self) -> Provisioned:
        """Make the host a box in a fresh snapshot, or find that it is what it should be.

        Raises:
            BoxError: the host is not fit, or something failed; a golden root that was being
                changed is merged back by then, or will be at the next boot.
        """
        found = self._preflight()
        if found.plan.kind is Kind.BOX and found.state.verdict is not None:
            return self._update(found)
        deploys: list[Deploy] = [partial(volumes, plan=found.plan)]
        if found.plan.kind is Kind.SPARE:
            deploys.append(partial(boot_copy, plan=found.plan, settings=self._settings))
        self._apply("building the volumes", deploys)
        if found.plan.kind is Kind.SPARE:
            self._progress.step("booting the new root")
            expect(self._host, self._host.reboot(None, self._deadline), "golden")
            with self._host.session() as session:
                found = preflight.check(session, self._settings)
        self._change(found)
        return self._fresh()

    def finalize(self, *last: Deploy, maintain: str, history: bool) -> None:
        """In maintenance: make all anew that follows from the golden root, as it is by now.

        That are the initrds and GRUB's entries, the files of a box and its manifest. The host
        stays in maintenance, without a snapshot: the next boot takes one.

        Args:
            last: deploys for the golden root as it then is.
            maintain: what a user is to say to get the host into maintenance.
            history: whether what the golden root was is kept as a version.

        Raises:
            BoxError: the host is not in maintenance, or as ``run``.
        """
        verdict = self._host.state().verdict
        if verdict is None or verdict.name != "golden":
            raise PreflightError(f"{self._host.name} is not in maintenance: {maintain} first")
        anew = partial(stale_initrds, name="Have the initrds made anew")
        with self._going_back():
            self._change_safely(self._preflight(), [anew])
            self._apply("keeping the change", [*last, keep_safety if history else drop_safety])

    @property
    def _deadline(self) -> float:
        return self._settings.boot.reboot_deadline

    def _preflight(self, *, build: bool = True) -> Preflight:
        self._progress.step("looking at the host")
        with self._host.session() as session:
            found = preflight.check(
                session, self._settings, self._request.device, force=self._request.force
            )
            installed = session.fact(SourceDigests)
        self._settings = of_role(self._settings, found.state.release.get("ROLE", ""))
        if self._request.reclaim and not (found.plan.old_root_uuid and found.state.is_box):
            raise PreflightError("there is no old root to reclaim on this host")
        if self._request.reclaim:
            found = replace(found, plan=replace(found.plan, old_root_uuid=""))
        # Before anything is changed: a build may fail, a server be away.
        step = self._progress.step
        self._prepared = prepared(
            self._settings, found.python, installed, BUNDLES, step, build=build
        )
        return found

    def _pending(self, found: Preflight) -> list[str]:
        """The operations on the golden root that would change the host as it is now."""
        self._progress.step("comparing")
        with self._host.session() as session:
            operations = session.prepare(self._golden(found))
        return [operation.name for operation in operations if operation.changes]

    def _update(self, found: Preflight) -> Provisioned:
        verdict = found.state.verdict
        assert verdict is not None
        if verdict.name != "golden":
            wanted = self._request.reclaim or verdict.name == "failed"
            if not wanted and not self._pending(found):
                return Provisioned(False, found.state, self._prepared.left_out)
            self._progress.step("booting into maintenance")
            expect(self._host, self._host.reboot("maintenance", self._deadline), "golden")
        with self._going_back():
            self._change_safely(found)
            self._apply("keeping a way back", [begin_trial])
        return self._tried()

    def _change_safely(self, found: Preflight, first: Sequence[Deploy] = ()) -> None:
        """In maintenance: change the golden root, with a safety snapshot of what it was."""
        safety = partial(take_safety, plan=found.plan)
        self._apply("securing the golden root", [safety, *first])
        if self._request.reclaim:
            self._reclaim(found)
        self._change(found)

    @contextlib.contextmanager
    def _going_back(self) -> Iterator[None]:
        """What fails within has the golden root go back.

        Not on a host that was interrupted: its next boot does it, whenever that is.
        """
        try:
            yield
        except BoxError:
            self._progress.step("merging the golden root back")
            with contextlib.suppress(BoxError):
                self._host.reboot("resnap", self._deadline, is_settled)
            raise

    def _reclaim(self, found: Preflight) -> None:
        """Before the golden root forgets the old one, so that a failure can be tried again."""
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
        self._host.run('test -z "$(dpkg --audit)"')
        self._host.run("/usr/sbin/makeinitrd --check")
        if self._settings.stack.has_reference:
            self._host.run(REFERENCE)

    def _fresh(self) -> Provisioned:
        self._progress.step("booting a fresh snapshot")
        state = self._host.reboot("resnap", self._deadline)
        expect(self._host, state, "fresh")
        return Provisioned(True, state, self._prepared.left_out)

    def _tried(self) -> Provisioned:
        """The box tries the change by itself; it comes back with it, or without."""
        self._progress.step("trying the change in a fresh snapshot")
        before = self._host.state()
        deadline = TRIAL_BOOTS * self._deadline
        state = self._host.reboot("resnap", deadline, is_settled)
        if why := rolled_back(state, before):
            raise DeployError(f"{self._host.name}: the change was rolled back: {why}")
        expect(self._host, state, "fresh")
        return Provisioned(True, state, self._prepared.left_out)

    def _apply(self, step: str, deploys: Sequence[Deploy]) -> None:
        self._progress.step(step)
        with self._host.session(self._progress) as session:
            session.prepare(deploys)
            session.run()


def of_role(settings: Settings, present: str) -> Settings:
    """The settings with the role that a box has, where they name none; ``present``: empty if none.

    A role that is none of provision's making is a label, of an older version: the box is a devel.

    Raises:
        PreflightError: the box has a role that it cannot lose, and they name another; or this
            version of the project does not know it.
    """
    if present in ("", "devel", *LABELS, settings.role):
        return settings
    if present not in get_args(Role):
        raise PreflightError(f"this box is a {present}, which this version does not know")
    if "role" in settings.model_fields_set:
        raise PreflightError(f"this box is a {present}: a {settings.role} is made from nothing")
    return settings.model_copy(update={"role": present})
