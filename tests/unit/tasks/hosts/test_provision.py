"""The flow of a provision over a stand-in for a host: its passes, its boots, its ways out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deploys import box
from deploys.box import Golden
from deploys.errors import BoxError, DeployError, PreflightError, UnreachableError
from deploys.facts.state import HostState, Verdict
from deploys.operations.packages import LocalPackage
from deploys.operations.root import FILE
from deploys.plan import preflight
from deploys.plan.preflight import Preflight
from deploys.plan.result import Kind, VolumePlan
from deploys.settings import Settings
from deploys.settings.stack import OPTIONAL
from deploys.stack import Parts
from deploys.stack.bundle import Archive, Project
from tasks.desk.flags import load
from tasks.desk.progress import HostProgress
from tasks.hosts import provision as provisioning
from tasks.hosts.connection import Host
from tasks.hosts.expectations import DEADLINE
from tasks.hosts.provision import Provision, Provisioned, Request, keep_role
from tasks.stack import Prepared, bundle

DEFAULTS = {"VOLGROUP": "vagrant-pipeline", "OLD_ROOT_UUID": "0a-1b"}
MAINTENANCE = "reboot maintenance"
RESNAP = "reboot resnap"
SAFETY = "safety taken"
GOLDEN = "golden root changed"
KEPT = "safety dropped"
TRIED = "trial begun"


def state(verdict: str | None, *, box: bool = True, reason: str = "") -> HostState:
    return HostState(
        os_id="debian",
        os_version="13",
        defaults=DEFAULTS if box else {},
        verdict=Verdict(verdict, reason=reason) if verdict else None,
        release={"MANIFEST": "feed"} if box else {},
    )


@dataclass
class FakeHost:
    """Keeps a record of all that is asked of it; ``fails`` raises at the first match."""

    found: HostState
    kind: Kind = Kind.BOX
    pending: int = 1
    comes_up: dict[str, HostState] = field(default_factory=dict)
    fails: dict[str, BaseException] = field(default_factory=dict)
    parts: object = None
    installed: dict[str, str] = field(default_factory=dict)
    record: list[str] = field(default_factory=list)
    name: str = "box"
    keeps_deadline: str = ""
    waits: bool = False  # for what comes of a trial, at the last boot

    def happens(self, what: str) -> None:
        self.record.append(what)
        if what in self.fails:
            raise self.fails.pop(what)

    @contextlib.contextmanager
    def session(self, _observer: object = None) -> Iterator[FakeSession]:
        yield FakeSession(self)

    def run(self, command: str) -> str:
        if DEADLINE in command:
            self.keeps_deadline = command
        else:
            self.happens(command)
        return ""

    def state(self) -> HostState:
        return self.found

    def require_reboot(self) -> None:
        if "require_reboot" in self.fails:
            raise self.fails["require_reboot"]

    def reboot(
        self,
        entry: str | None,
        _deadline: float,
        settled: Callable[[HostState], bool] = lambda _: True,
    ) -> HostState:
        self.happens(f"reboot {entry or 'default'}")
        usual = {"maintenance": "golden", "resnap": "fresh", "default": "golden"}
        name = entry or "default"
        self.found = self.comes_up.get(name, state(usual[name]))
        assert settled(self.found)
        self.waits = not settled(replace(self.found, in_trial=True))
        return self.found


@dataclass
class FakeSession:
    host: FakeHost
    prepared: Sequence[Any] = ()

    def fact(self, _fact: type) -> Mapping[str, str]:
        return self.host.installed

    def prepare(self, deploys: Sequence[Callable[[], Any]]) -> Sequence[Any]:
        self.prepared = deploys
        return [
            SimpleNamespace(name=f"Operation {number}", changes=number < self.host.pending)
            for number in range(3)
        ]

    def run(self) -> tuple[str, ...]:
        for deploy in self.prepared:
            deploy()
        return ()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    host = FakeHost(state("fresh"))

    def check(
        _session: object,
        _settings: Settings,
        device: str | None = None,
        *,
        force: bool = False,
        in_file: int | None = None,
    ) -> Preflight:
        assert in_file is None
        host.happens("looked at" + (f" {device}" if device else "") + (" by force" * force))
        uuid = "0a-1b" if host.kind is not Kind.LVM else ""
        plan = VolumePlan(
            host.kind, "vagrant-pipeline", "root", "root_snap", "4G", old_root_uuid=uuid
        )
        if "VOLFILE" in host.found.defaults or host.kind is Kind.FILE:
            plan = replace(plan, file=FILE)
        if plan.copies_root:
            host.kind = Kind.BOX  # for the second look, after the boot
        return Preflight(host.found, plan, "3.13")

    def deploys(made: Golden) -> tuple[Callable[[], None], ...]:
        host.parts, way_back = made.parts, made.plan.old_root_uuid
        return (lambda: host.happens(GOLDEN + (" without way back" * (not way_back))),)

    def happening(what: str) -> Callable[..., None]:
        return lambda **_: host.happens(what)

    monkeypatch.setattr(preflight, "check", check)
    monkeypatch.setattr(box, "deploys", deploys)
    monkeypatch.setattr(provisioning, "take_safety", happening(SAFETY))
    monkeypatch.setattr(provisioning, "drop_safety", happening(KEPT))
    monkeypatch.setattr(provisioning, "begin_trial", happening(TRIED))
    monkeypatch.setattr(provisioning, "noted", happening("noted"))
    monkeypatch.setattr(provisioning, "volumes", happening("volumes made"))
    monkeypatch.setattr(provisioning, "boot_copy", happening("copy made to boot"))
    monkeypatch.setattr(
        provisioning, "reclaim_partition", lambda uuid, **_: host.happens(f"reclaimed {uuid}")
    )
    archive = Archive(cast(Any, "a"), "b")
    monkeypatch.setattr(bundle, "python_bundle", lambda *_: archive)
    monkeypatch.setattr(bundle, "project_copy", lambda *_: archive)
    monkeypatch.setattr(bundle, "project_version", lambda: Project("c", "d"))
    return host


class Silent:
    def step(self, _name: str) -> None:
        pass


def provision(host: FakeHost, request: Request | None = None, *parts: str) -> Provision:
    left_out = {part: {"source": "none"} for part in OPTIONAL if part not in parts}
    settings = Settings.model_validate({"stack": left_out})
    return Provision(cast(Host, host), settings, request or Request(), cast(HostProgress, Silent()))


def passes(host: FakeHost) -> list[str]:
    """The record without the questions: what was changed, and the boots."""
    return [what for what in host.record if not what.startswith(("looked", "test ", "/usr"))]


def test_a_bare_host_becomes_a_box(host: FakeHost) -> None:
    host.found, host.kind = state(None, box=False), Kind.SPARE
    result = provision(host, Request("/dev/vdb", force=True)).run()
    assert result.changed
    assert result.manifest == "feed"
    made = ["noted", "volumes made", "copy made to boot"]
    assert passes(host) == [*made, "reboot default", GOLDEN, RESNAP]
    assert host.record[0] == "looked at /dev/vdb by force"
    assert host.record[5] == "looked at"  # again, from the golden root


def test_a_box_in_a_file_is_made_as_one_on_a_spare_disk(host: FakeHost) -> None:
    host.found, host.kind = state(None, box=False), Kind.FILE
    assert provision(host).run().changed
    made = ["noted", "volumes made", "copy made to boot", "reboot default", GOLDEN, RESNAP]
    assert passes(host) == made


def test_the_root_that_has_the_boxs_file_is_not_reclaimed(host: FakeHost) -> None:
    host.found = replace(host.found, defaults={**host.found.defaults, "VOLFILE": FILE})
    with pytest.raises(PreflightError, match=f"^the old root has this box's file {FILE}: "):
        provision(host, Request(reclaim=True)).run()
    assert passes(host) == []


def test_a_host_with_its_root_on_lvm_is_changed_in_place(host: FakeHost) -> None:
    host.found, host.kind = state(None, box=False), Kind.LVM
    assert provision(host).run().changed
    assert passes(host) == ["noted", "volumes made", GOLDEN + " without way back", RESNAP]


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [(None, Kind.SPARE), (None, Kind.LVM), ("golden", Kind.BOX)],
)
def test_a_host_that_may_not_reboot_is_not_changed(
    host: FakeHost, verdict: str | None, kind: Kind
) -> None:
    host.found, host.kind = state(verdict, box=verdict is not None), kind
    host.fails["require_reboot"] = PreflightError("backup blocks it")
    with pytest.raises(PreflightError, match=r"^backup blocks it$"):
        provision(host).run()
    assert passes(host) == []


def test_the_golden_root_is_checked_before_it_is_left(host: FakeHost) -> None:
    provision(host, None, "lammps", "openkim-repository").run()
    checks = host.record[host.record.index(GOLDEN) + 1 : host.record.index(TRIED)]
    assert [check.split("/")[-1] for check in checks] == [
        'test -z "$(dpkg --audit)" || ! dpkg --audit >&2',
        "makeinitrd --check",
        "reference",
    ]


def test_a_new_root_that_did_not_boot_is_said(host: FakeHost) -> None:
    host.found, host.kind = state(None, box=False), Kind.SPARE
    host.comes_up["default"] = state(None, box=False)
    with pytest.raises(DeployError, match=r"^box: booted without the reset"):
        provision(host).run()
    assert GOLDEN not in host.record


def test_a_box_with_nothing_to_change_is_not_rebooted(host: FakeHost) -> None:
    host.pending = 0
    found = host.found
    assert provision(host).run() == Provisioned(False, found)
    assert passes(host) == []
    assert "echo 600 >" in host.keeps_deadline


def test_a_box_is_changed_in_maintenance_with_a_net(host: FakeHost) -> None:
    assert provision(host).run() == Provisioned(True, state("fresh"))
    assert passes(host) == [MAINTENANCE, SAFETY, GOLDEN, TRIED, RESNAP]
    assert "echo 600 >" in host.keeps_deadline


def test_a_change_is_waited_for_until_the_box_has_tried_it(host: FakeHost) -> None:
    provision(host).run()
    assert host.waits


def test_a_bare_hosts_first_boot_is_no_trial(host: FakeHost) -> None:
    host.found, host.kind = state(None, box=False), Kind.LVM
    provision(host).run()
    assert not host.waits


def test_a_change_that_the_box_rolled_back_is_an_error(host: FakeHost) -> None:
    host.comes_up["resnap"] = replace(state("fresh"), rolled_back=(9, "SSH does not answer"))
    line = r"^box: the change was rolled back: SSH does not answer$"
    with pytest.raises(DeployError, match=line):
        provision(host).run()


def test_a_roll_back_of_long_ago_is_no_error(host: FakeHost) -> None:
    old = replace(state("fresh"), rolled_back=(9, "SSH does not answer"))
    host.comes_up["maintenance"] = replace(state("golden"), rolled_back=old.rolled_back)
    host.comes_up["resnap"] = old
    assert provision(host).run().changed


def test_a_box_in_maintenance_is_changed_where_it_is(host: FakeHost) -> None:
    host.found, host.pending = state("golden"), 0
    assert provision(host).run().changed
    assert passes(host) == [SAFETY, GOLDEN, TRIED, RESNAP]


def test_a_box_whose_reset_failed_is_mended_unasked(host: FakeHost) -> None:
    host.found, host.pending = state("failed"), 0
    assert provision(host).run().changed
    assert passes(host)[0] == MAINTENANCE


@pytest.mark.parametrize("at", [SAFETY, GOLDEN, "/usr/sbin/makeinitrd --check", TRIED])
def test_a_change_that_fails_is_merged_back(host: FakeHost, at: str) -> None:
    host.fails[at] = DeployError("box: Install packages: no space left")
    with pytest.raises(DeployError, match="no space left"):
        provision(host).run()
    assert passes(host)[-1] == RESNAP
    assert TRIED not in host.record or at == TRIED


def test_a_merge_back_that_fails_hides_not_what_failed(host: FakeHost) -> None:
    host.fails[GOLDEN] = DeployError("box: Install packages: no space left")
    host.fails[RESNAP] = UnreachableError("box did not come back")
    with pytest.raises(DeployError, match="no space left"):
        provision(host).run()


def test_an_interrupted_change_is_left_to_the_next_boot(host: FakeHost) -> None:
    host.fails[GOLDEN] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        provision(host).run()
    assert passes(host) == [MAINTENANCE, SAFETY, GOLDEN]


STALE = "initrds stale"


@pytest.fixture
def finalized(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Finalizes the host."""

    def finalize() -> None:
        last = partial(host.happens, "tidied")
        provision(host).finalize(last, maintain="inv maintain", history=False)

    monkeypatch.setattr(provisioning, "stale_initrds", lambda **_: host.happens(STALE))
    return finalize


def test_a_box_is_finalized_with_a_net_and_stays_in_maintenance(
    host: FakeHost, finalized: Callable[[], None]
) -> None:
    host.found, host.pending = state("golden"), 0
    finalized()
    assert passes(host) == [SAFETY, STALE, GOLDEN, "tidied", KEPT]


def test_a_box_that_is_finalized_names_nothing_to_fetch(
    host: FakeHost, finalized: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def prepare(*_: object, is_asked: bool, **__: object) -> Prepared:
        asked.append(is_asked)
        return Prepared(Parts())

    monkeypatch.setattr(provisioning, "prepared", prepare)
    host.found, host.pending = state("golden"), 0
    finalized()
    assert asked == [False]


@pytest.mark.parametrize("at", [STALE, GOLDEN, "/usr/sbin/makeinitrd --check", "tidied"])
def test_a_finalize_that_fails_is_merged_back(
    host: FakeHost, finalized: Callable[[], None], at: str
) -> None:
    host.found, host.fails[at] = state("golden"), DeployError("box: no space left")
    with pytest.raises(DeployError, match="no space left"):
        finalized()
    assert passes(host)[-1] == RESNAP
    assert KEPT not in host.record


@pytest.mark.parametrize("verdict", ["fresh", "kept", "failed", None])
def test_what_is_not_in_maintenance_is_not_finalized(
    host: FakeHost, finalized: Callable[[], None], verdict: str | None
) -> None:
    host.found = state(verdict)
    line = "^box is not in maintenance: run inv maintain first$"
    with pytest.raises(PreflightError, match=line):
        finalized()
    assert host.record == []


def test_maintenance_that_came_out_otherwise_changes_nothing(host: FakeHost) -> None:
    host.comes_up["maintenance"] = state("failed", reason="no room")
    line = "^box: the boot's verdict is failed, not golden: no room$"
    with pytest.raises(DeployError, match=line):
        provision(host).run()
    assert passes(host) == [MAINTENANCE]


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        ("failed", "box: the boot's verdict is failed, not fresh: lvm said no"),
        ("kept", "box: the boot's verdict is kept, not fresh: lvm said no"),
        (None, "box: booted without the reset: GRUB's default entry is not the box's"),
    ],
)
def test_a_snapshot_that_is_not_fresh_is_an_error(
    host: FakeHost, verdict: str | None, line: str
) -> None:
    host.comes_up["resnap"] = state(verdict, reason="lvm said no")
    with pytest.raises(DeployError) as caught:
        provision(host).run()
    assert str(caught.value) == line


def test_the_old_root_is_reclaimed_before_it_is_forgotten(host: FakeHost) -> None:
    provision(host, Request(reclaim=True)).run()
    without = GOLDEN + " without way back"
    assert passes(host) == [MAINTENANCE, SAFETY, "reclaimed 0a-1b", without, TRIED, RESNAP]


def test_no_old_root_no_reclaim(host: FakeHost) -> None:
    host.kind = Kind.LVM
    with pytest.raises(PreflightError, match="no old root to reclaim"):
        provision(host, Request(reclaim=True)).run()
    host.kind, host.found = Kind.SPARE, state(None, box=False)
    with pytest.raises(PreflightError, match="no old root to reclaim"):
        provision(host, Request(reclaim=True)).run()
    assert passes(host) == []


def test_a_host_that_is_not_fit_is_left_alone(host: FakeHost) -> None:
    host.fails["looked at"] = PreflightError("the host boots by UEFI")
    with pytest.raises(BoxError, match="UEFI"):
        provision(host).run()
    assert host.record == ["looked at"]


def test_a_plan_changes_nothing(host: FakeHost) -> None:
    host.pending = 2
    assert provision(host).plan() == [("change", "Operation 0", ""), ("change", "Operation 1", "")]
    host.kind, host.found = Kind.SPARE, replace(state(None, box=False))
    rows = provision(host).plan()
    assert rows[0][0] == "copy"
    assert passes(host) == []


@pytest.mark.parametrize(
    ("asked", "present", "role"),
    [
        ([], "", "devel"),
        ([], "devel", "devel"),
        ([], "gateway", "gateway"),
        (["role=gateway"], "", "gateway"),
        (["role=gateway"], "devel", "gateway"),
        (["role=gateway"], "gateway", "gateway"),
        (["role=devel"], "gateway", None),
        ([], "worker", "devel"),  # a label, of an older version
        (["role=gateway"], "director", "gateway"),
        (["role=gateway"], "king", None),
    ],
)
def test_a_box_keeps_its_role(asked: list[str], present: str, role: str | None) -> None:
    settings = load(None, [*asked, "boot.deadline=60"])
    if role is None:
        with pytest.raises(PreflightError, match=f"^this box is a {present}[:,] "):
            keep_role(settings, present)
        return
    assert keep_role(settings, present).role == role
    assert keep_role(settings, present).boot.deadline == 60


def test_the_role_of_a_box_is_known_before_anything_is_changed(host: FakeHost) -> None:
    host.found = replace(state("fresh"), release={"ROLE": "king"})
    with pytest.raises(PreflightError, match="king"):
        provision(host).run()
    assert passes(host) == []


STACK = ("openkim-api", "openkim-python", "ase")
WHY = "building it needs root"
KIMPY = LocalPackage("pipeline-openkim-python", "d", Path("kimpy.deb"))


@pytest.fixture
def asked_parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What parts were asked for: for which Python, beside what, whether to be built."""
    asked: list[tuple[object, ...]] = []

    def prepare(
        settings: Settings,
        python: str,
        installed: Mapping[str, str],
        _folder: Path,
        _progress: object,
        *,
        build: bool,
        is_asked: bool,
    ) -> Prepared:
        assert is_asked
        asked.append((settings.stack.built, python, installed, build))
        if "unbuildable" in installed:
            return Prepared(Parts(), {"openkim-python": WHY})
        return Prepared(Parts((KIMPY,)))

    monkeypatch.setattr(provisioning, "prepared", prepare)
    return asked


def test_parts_are_built_before_anything_is_changed(
    host: FakeHost, asked_parts: list[tuple[object, ...]]
) -> None:
    provision(host, None, *STACK).run()
    built = ("openkim-python",)
    assert (asked_parts, host.parts) == ([(built, "3.13", {}, True)], Parts((KIMPY,)))
    host.installed["pipeline-openkim-python"] = "feed"
    provision(host, None, *STACK).plan()
    assert asked_parts[1] == (built, "3.13", host.installed, False)


def test_without_a_dispensable_part_the_rest_is_done(
    host: FakeHost, asked_parts: list[tuple[object, ...]]
) -> None:
    host.installed["unbuildable"] = ""
    result = provision(host, None, *STACK).run()
    assert (result.changed, result.left_out) == (True, {"openkim-python": WHY})
    assert provision(host, None, *STACK).plan()[-1] == ("leave out", "openkim-python", WHY)
    assert (len(asked_parts), host.parts) == (2, Parts())


def test_a_part_that_cannot_be_built_changes_nothing(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*_: object, **__: object) -> Prepared:
        raise BoxError("building openkim-python: no room")

    monkeypatch.setattr(provisioning, "prepared", prepare)
    with pytest.raises(BoxError, match="no room"):
        provision(host, None, *STACK).run()
    assert passes(host) == []
