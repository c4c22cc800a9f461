"""The golden root's history, over a stand-in for a host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from deploys.errors import DeployError, PreflightError
from deploys.facts.state import HostState, Verdict
from deploys.settings import Settings
from tasks.desk.progress import HostProgress
from tasks.hosts import versions
from tasks.hosts.connection import Host
from tasks.hosts.expectations import DEADLINE, TRIAL_BOOTS
from tasks.hosts.versions import Version

OLD, OLDER = "feed" * 16, "cafe" * 16
LIST = f"root_feedfeedfeed 2000 {OLD} c0ffee\nroot_cafecafecafe 1000 {OLDER} decaf\n"
BACK = "/usr/lib/resnap/versions back root_{0}"


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def fresh(manifest: str = "now", **more: Any) -> HostState:
    release = {
        "MANIFEST": manifest,
        "ROLE": more.pop("role", "devel"),
        "COMMIT": "c",
        "PROJECT": "d",
    }
    return HostState(
        defaults={"VOLGROUP": "a"}, verdict=Verdict("fresh"), release=release, clock=99, **more
    )


@dataclass
class FakeHost:
    found: HostState
    comes_up: HostState
    listed: str = LIST
    record: list[str] = field(default_factory=list)
    name: str = "box"
    is_older: bool = False
    is_blocked: bool = False

    def state(self) -> HostState:
        return self.found

    def require_reboot(self) -> None:
        if self.is_blocked:
            raise PreflightError("backup blocks it")

    def run(self, command: str) -> str:
        if command.startswith(f"cat {DEADLINE}"):
            return "1800\n"
        if command.startswith("cat "):
            return Settings().of_box()
        if "test -x" in command:
            return "" if self.is_older else "yes\n"
        if command.endswith(" list"):
            return self.listed
        self.record.append(command)
        return ""

    def reboot(
        self, entry: str | None, deadline: float, settled: Callable[[HostState], bool]
    ) -> HostState:
        self.record.append(f"reboot {entry}")
        assert deadline == TRIAL_BOOTS * 1800  # the box's own, for each of the boots
        assert settled(self.comes_up)
        assert not settled(replace(self.comes_up, in_trial=True))
        return self.comes_up

    def parsing(self, _what: str) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def session(self, _observer: object = None) -> Iterator[FakeSession]:
        yield FakeSession(self)


@dataclass
class FakeSession:
    host: FakeHost

    def prepare(self, deploys: Sequence[Any]) -> None:
        [deploy] = deploys
        self.host.record.append(f"manifest {deploy.keywords['promoted']}")

    def run(self) -> None:
        self.host.record.append("written")


class Silent:
    def step(self, _name: str) -> None:
        pass


PROGRESS = cast(HostProgress, Silent())


def roll_back(host: FakeHost, to: str = "") -> HostState:
    return versions.roll_back(cast(Host, host), PROGRESS, to)


def promote(host: FakeHost) -> HostState:
    return versions.promote(cast(Host, host), PROGRESS)


def test_versions_are_the_hosts_own_words() -> None:
    host = FakeHost(fresh(), fresh())
    assert versions.versions(cast(Host, host)) == [
        Version("root_feedfeedfeed", at(2000), OLD, "c0ffee"),
        Version("root_cafecafecafe", at(1000), OLDER, "decaf"),
    ]


@pytest.mark.parametrize(
    ("to", "name", "manifest"),
    [("", "feed" * 3, OLD), ("cafe", "cafe" * 3, OLDER), (OLD, "feed" * 3, OLD)],
)
def test_a_host_goes_back_to_the_last_version_or_the_one_named(
    to: str, name: str, manifest: str
) -> None:
    host = FakeHost(fresh(), fresh(manifest))
    assert roll_back(host, to) == host.comes_up
    assert host.record == [BACK.format(name), "reboot resnap"]


@pytest.mark.parametrize(
    ("listed", "to", "line"),
    [
        ("", "", "box has no earlier version of its golden root"),
        (LIST, "dead", "box has no version dead; it has feedfeedfeed, cafecafecafe"),
        (
            LIST.replace("cafe", "feef"),
            "fe",
            "box has more than one version fe; it has feedfeedfeed, feeffeeffeef",
        ),
    ],
)
def test_a_version_that_is_not_there_changes_nothing(listed: str, to: str, line: str) -> None:
    host = FakeHost(fresh(), fresh(), listed)
    with pytest.raises(PreflightError) as caught:
        roll_back(host, to)
    assert (str(caught.value), host.record) == (line, [])


@pytest.mark.parametrize("change", [roll_back, promote])
def test_a_host_that_may_not_reboot_is_not_changed(
    change: Callable[[FakeHost], HostState],
) -> None:
    host = FakeHost(fresh(), fresh(), is_blocked=True)
    with pytest.raises(PreflightError, match=r"^backup blocks it$"):
        change(host)
    assert host.record == []


def test_another_version_than_that_is_an_error() -> None:
    with pytest.raises(DeployError, match=r"^box: booted another version than feedfeedfeed$"):
        roll_back(FakeHost(fresh(), fresh("now")))


def test_a_reset_that_failed_on_the_way_is_an_error() -> None:
    failed = replace(fresh(OLD), verdict=Verdict("failed", reason="no room"))
    with pytest.raises(DeployError, match="the boot's verdict is failed, not fresh: no room"):
        roll_back(FakeHost(fresh(), failed))


def test_a_change_that_is_tried_is_ended() -> None:
    host = FakeHost(fresh(in_trial=True), fresh(OLD))
    assert roll_back(host) == host.comes_up
    assert host.record == ["/usr/lib/resnap/trial back 'by hand'", "reboot resnap"]


def test_while_a_change_is_tried_no_version_is_gone_back_to() -> None:
    host = FakeHost(fresh(in_trial=True), fresh())
    with pytest.raises(PreflightError, match="is trying a change"):
        roll_back(host, "feed")
    assert host.record == []


@pytest.mark.parametrize("work", [roll_back, promote])
def test_what_is_no_box_is_left_alone(work: Callable[[FakeHost], HostState]) -> None:
    host = FakeHost(HostState(), fresh())
    with pytest.raises(PreflightError, match="is not a box yet"):
        work(host)
    assert host.record == []


def test_a_snapshot_becomes_golden_with_a_manifest_of_its_own() -> None:
    host = FakeHost(fresh(), fresh("new"))
    assert promote(host) == host.comes_up
    assert host.record == [
        "manifest 99",
        "written",
        "/usr/lib/resnap/versions promote",
        "reboot resnap",
    ]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (replace(fresh(), verdict=Verdict("golden")), "does not run on a snapshot"),
        (replace(fresh(), verdict=Verdict("failed")), "does not run on a snapshot"),
        (fresh(in_trial=True), "is trying a change"),
        (fresh(role="gateway"), "is a gateway"),
    ],
)
def test_what_may_not_be_golden_is_refused(state: HostState, line: str) -> None:
    host = FakeHost(state, fresh())
    with pytest.raises(PreflightError, match=line):
        promote(host)
    assert host.record == []


def test_what_was_promoted_and_rolled_back_is_an_error() -> None:
    host = FakeHost(fresh(), fresh(rolled_back=(9, "SSH does not answer")))
    with pytest.raises(DeployError, match="what was promoted was rolled back: SSH does not answer"):
        promote(host)


def test_a_version_of_no_known_commit_is_listed_too() -> None:
    """As of a root that was promoted before its first provision was done."""
    host = FakeHost(fresh(), fresh(), listed=f"root_feedfeedfeed 2000 {OLD} \n")
    assert versions.versions(cast(Host, host)) == [Version("root_feedfeedfeed", at(2000), OLD, "")]


@pytest.mark.parametrize("ask", [roll_back, promote, lambda host: versions.versions(host)])
def test_a_box_of_an_older_version_is_told_from_one_and_left_as_it_is(
    ask: Callable[[FakeHost], object],
) -> None:
    """Its script has another name; promote would have written a manifest before it noticed."""
    host = FakeHost(fresh(), fresh(), is_older=True)
    with pytest.raises(PreflightError, match=r"^box was made by an older version .* provision it"):
        ask(host)
    assert host.record == []
