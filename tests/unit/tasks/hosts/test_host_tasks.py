"""The tasks on a host: which flags mean what, and what is refused before a host is asked."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fabric
import pytest
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.parser import Parser
from invoke.parser.context import ParserContext

from deploys.errors import PreflightError
from deploys.facts.state import HostState, Verdict
from deploys.settings import GIB, Settings
from tasks import host, ns
from tasks.desk.flags import load as settings_of
from tasks.hosts import fleet, versions
from tasks.hosts.connection import Host
from tasks.hosts.provision import Provisioned, Request


def state(verdict: str | None) -> HostState:
    return HostState(
        defaults={"VOLGROUP": "vg"} if verdict else {},
        verdict=Verdict(verdict) if verdict else None,
    )


SLOW = "1800\n"


@pytest.fixture
def deadlines() -> list[float]:
    """How long each reboot was waited for."""
    return []


@pytest.fixture(autouse=True)
def boots(monkeypatch: pytest.MonkeyPatch, deadlines: list[float]) -> Iterator[list[str | None]]:
    """The entries that slow hosts were booted into; all are fresh but for the one named bare."""
    entries: list[str | None] = []
    comes_up = {"resnap": "fresh", "keep": "kept", "maintenance": "golden"}

    def reboot(_host: Host, entry: str, deadline: float) -> HostState:
        entries.append(entry)
        deadlines.append(deadline)
        return state(comes_up[entry])

    monkeypatch.setattr(Host, "reboot", reboot)
    monkeypatch.setattr(Host, "state", lambda self: state(None if self.name == "bare" else "fresh"))
    monkeypatch.setattr(Host, "run", lambda *_: SLOW)
    monkeypatch.setattr(Host, "connect", lambda _: None)
    monkeypatch.setattr(Host, "close", lambda _: None)
    monkeypatch.setenv("COLUMNS", "120")
    yield entries
    fleet._enlisted.clear()


def call(task: Any, *names: str, **flags: Any) -> None:
    """As Fabric calls it: once for each host, then the post task."""
    for name in names or ("box",):
        task(fabric.Connection(name), **flags)
    fleet.finish(Context())


@pytest.mark.parametrize(
    ("task", "flags", "entry", "line"),
    [
        (host.resnap, {}, "resnap", "box: fresh"),
        (host.keep, {}, "keep", "box: kept"),
        (host.maintain, {}, "maintenance", "box: golden"),
        (host.maintain, {"back": True}, "resnap", "box: fresh"),
    ],
)
def test_a_box_is_booted(
    task: Any,
    flags: dict[str, bool],
    entry: str,
    line: str,
    boots: list[str | None],
    deadlines: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And waited for as long as the box's own settings say."""
    call(task, **flags)
    assert (boots, deadlines) == ([entry], [1800])
    assert capsys.readouterr().out.strip() == line


@pytest.mark.parametrize("task", [host.resnap, host.keep, host.maintain])
def test_what_is_no_box_is_not_booted(
    task: Any, boots: list[str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as caught:
        call(task, "bare")
    assert caught.value.code == 1
    assert boots == []
    assert "error: bare is not a box yet: provision it first" in capsys.readouterr().err


def test_another_verdict_than_asked_for_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Host, "reboot", lambda *_: state("failed"))
    with pytest.raises(Exit):
        call(host.resnap)
    assert "error: box: the boot's verdict is failed, not fresh" in capsys.readouterr().err


def test_status_is_json_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    call(host.status, "a", "bare", json=True)
    told = json.loads(capsys.readouterr().out)
    assert [one["mode"] for one in told.values()] == ["snapshot", "not a box"]


def test_two_forms_of_status_at_once_are_refused() -> None:
    with pytest.raises(Exit, match=r"^error: --json prints all fields: leave out --wide$"):
        call(host.status, "a", json=True, wide=True)


def test_status_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    call(host.status, "a", "bare")
    out = capsys.readouterr().out
    assert "bare" in out
    assert "snapshot" in out
    call(host.status, "a", "bare", wide=True)
    head = capsys.readouterr().out.splitlines()[1]
    assert head.replace("┃", " ").split()[:3] == ["host", "mode", "role"]


@pytest.fixture
def provisions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Request]]:
    """What Provision was asked: run or plan, the size of the snapshot, the request."""
    asked: list[tuple[str, str, Request]] = []

    class Provision:
        def __init__(self, _host: Host, settings: Any, request: Request, _: object) -> None:
            self._asked = settings.volumes.lvsize, request

        def run(self) -> Provisioned:
            asked.append(("run", *self._asked))
            return Provisioned(True, state("fresh"))

        def plan(self) -> list[tuple[str, str, str]]:
            asked.append(("plan", *self._asked))
            return [("change", "Boot files", "")]

    monkeypatch.setattr(host, "Provision", Provision)
    return asked


def test_a_provision_gets_its_flags(
    provisions: list[tuple[str, str, Request]], tmp_path: Path
) -> None:
    file = tmp_path / "box.toml"
    file.write_text('[volumes]\nlvsize = "2G"\n')
    call(host.provision, device="/dev/vdb", force=True, settings=str(file))
    call(host.provision, set=["volumes.lvsize=4G"])
    assert provisions == [
        ("run", "2G", Request("/dev/vdb", force=True)),
        ("run", "4G", Request(None)),
    ]


@pytest.mark.parametrize(
    ("words", "size"),
    [(["--in-file", "--dry-run"], 0), (["--in-file", "40G", "--dry-run"], 40 * GIB)],
)
def test_a_file_has_a_size_or_none(
    provisions: list[tuple[str, str, Request]], words: list[str], size: int
) -> None:
    """As it is typed: the flag takes no other flag for its value."""
    parsed = Parser([ParserContext("provision", args=ns["provision"].get_arguments())])
    [flags] = parsed.parse_argv(["provision", *words])
    call(host.provision, in_file=flags.args["in-file"].value, dry_run=flags.args["dry-run"].value)
    assert provisions == [("plan", "100%ORIGIN", Request(None, in_file=size))]


def test_a_role_is_a_setting(
    provisions: list[tuple[str, str, Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exit, match="setting role: provision makes devel or gateway, not 'worker'"):
        call(host.provision, role="worker")
    made: list[Settings] = []

    def load_settings(*asked: Any) -> Settings:
        made.append(settings_of(None, asked[1]))
        return made[-1]

    monkeypatch.setattr(host, "load_settings", load_settings)
    call(host.provision, role="gateway", set=["volumes.lvsize=4G"])
    assert (made[0].role, provisions[0][1]) == ("gateway", "4G")


def test_a_dry_run_only_plans(
    provisions: list[tuple[str, str, Request]], capsys: pytest.CaptureFixture[str]
) -> None:
    call(host.provision, dry_run=True, reclaim=True)  # asks nothing: it erases nothing
    assert provisions == [("plan", "100%ORIGIN", Request(None, reclaim=True))]
    assert "Boot files" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"set": ["volumes.lvsiz=4G"]}, "error: unknown setting 'volumes.lvsiz'"),
        ({"in_file": "large"}, "error: --in-file: 'large' is not a size such as 512M or 8G"),
        ({"settings": "/nowhere.toml"}, "error: settings file /nowhere.toml: No such file"),
    ],
)
def test_a_wrong_setting_is_one_line_before_any_host_is_asked(
    flags: dict[str, Any], line: str, provisions: list[tuple[str, str, Request]]
) -> None:
    with pytest.raises(Exit) as caught:
        host.provision(fabric.Connection("box"), **flags)
    assert str(caught.value).startswith(line)
    assert (fleet._enlisted, provisions) == ([], [])


def _answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def answer(text: str) -> None:
        monkeypatch.setattr("sys.stdin", Terminal(text))

    return answer


def test_reclaim_asks_first(
    provisions: list[tuple[str, str, Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = _answering(monkeypatch)
    for text in ("n\n", "\n", "maybe\n"):
        answer(text)
        with pytest.raises(Exit, match=r"^nothing was changed$"):
            call(host.provision, reclaim=True)
    assert provisions == []
    answer("YES\n")
    call(host.provision, reclaim=True)
    assert provisions[0][2].reclaim


def test_reclaim_without_a_terminal_wants_force(
    provisions: list[tuple[str, str, Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(Exit, match="Say --force") as caught:
        call(host.provision, reclaim=True)
    assert caught.value.code == 1
    call(host.provision, reclaim=True, force=True)
    assert len(provisions) == 1


@pytest.fixture
def finalizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The hosts that were finalized, and what would have brought them into maintenance."""
    asked: list[tuple[str, str]] = []

    class Provision:
        def __init__(self, host: Host, *_: object) -> None:
            self._name = host.name

        def finalize(self, _tidy: object, maintain: str, *, history: bool) -> None:
            assert history
            asked.append((self._name, maintain))

    monkeypatch.setattr(host, "Provision", Provision)
    monkeypatch.setattr(host, "settings_of", lambda _: Settings())
    return asked


def test_a_finalize_ends_in_a_fresh_snapshot(
    finalizes: list[tuple[str, str]],
    boots: list[str | None],
    deadlines: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    call(host.finalize, force=True)
    assert deadlines == [1800]
    assert finalizes == [("box", "fab -H box maintain")]
    assert boots == ["resnap"]
    assert capsys.readouterr().out.strip() == "box: fresh"


def test_a_finalize_asks_first_and_says_what_goes(
    finalizes: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(Exit, match=r"golden root of box; SSH keys, .* stay. Say --force"):
        call(host.finalize)
    assert finalizes == []
    _answering(monkeypatch)("y\n")
    call(host.finalize)
    assert finalizes[0][0] == "box"


def test_a_rollback_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[tuple[str, str]] = []

    def roll_back(host: Host, _progress: object, to: str) -> HostState:
        gone.append((host.name, to))
        return state("fresh")

    monkeypatch.setattr(versions, "roll_back", roll_back)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(Exit, match=r"as it is now will be lost; .* Say --force"):
        call(host.rollback)
    assert gone == []
    call(host.rollback, to="feed", force=True)
    assert gone == [("box", "feed")]


def test_a_list_of_versions_asks_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = versions.Version(
        "root_feed", datetime.fromtimestamp(86400, UTC), "feed" * 16, "c0ffee"
    )
    monkeypatch.setattr(versions, "versions", lambda host: [version] if host.name == "box" else [])
    call(host.rollback, "box", "new", list=True)
    out = capsys.readouterr().out
    assert "1970-01-02 00:00:00 UTC" in out
    assert "feed" * 4 in out
    assert "new: no earlier version of the golden root" in out


def test_the_local_guest_is_finalized_by_another_task() -> None:
    with pytest.raises(Exit, match=r"inv box\.finalize"):
        host.finalize(Context(), force=True)


@pytest.mark.parametrize(
    "name", ["resnap", "keep", "maintain", "rollback", "promote", "finalize", "shrink"]
)
def test_a_task_that_changes_a_host_locks_it_first(
    name: str, monkeypatch: pytest.MonkeyPatch, boots: list[str | None]
) -> None:
    """And is not begun where another holds the lock."""
    asked: list[str] = []

    def locked(_: Host, task: str) -> None:
        asked.append(task)
        raise PreflightError("ada@desk changes it")

    monkeypatch.setattr(Host, "locked", locked)
    flags = {"force": True} if name in ("rollback", "finalize") else {}
    with pytest.raises(Exit):
        call(getattr(host, name), **flags)
    assert (asked, boots) == ([name], [])


def test_a_provision_locks_the_host_and_a_plan_does_not(
    provisions: list[tuple[str, str, Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    @contextlib.contextmanager
    def locked(_: Host, task: str) -> Iterator[None]:
        asked.append(task)
        yield

    monkeypatch.setattr(Host, "locked", locked)
    call(host.provision, dry_run=True)
    assert asked == []
    call(host.provision)
    assert asked == ["provision"]
    assert len(provisions) == 2


def test_every_task_on_a_host_ends_with_the_fleet() -> None:
    of_hosts = (
        *(host.provision, host.status, host.resnap, host.keep, host.secure),
        *(host.maintain, host.rollback, host.promote, host.finalize, host.shrink),
    )
    for task in of_hosts:
        assert task.post == [fleet.finish]
        assert task.name.replace("_", "-") in ns.task_names
