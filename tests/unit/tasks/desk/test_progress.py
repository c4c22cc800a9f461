"""What a person sees of the work on a host: a line with a bar, a count and words."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group
from rich.progress import Progress

from tasks.desk import progress as tasks_progress
from tasks.desk.progress import HostProgress, bars


def seen(frame: Progress) -> str:
    """The line of the only host, without its bar."""
    paper = io.StringIO()
    Console(file=paper, width=100).print(frame.make_tasks_table(frame.tasks))
    return " ".join(paper.getvalue().replace("━", "").split())


def test_a_count_says_what_it_counts() -> None:
    frame = bars()
    progress = HostProgress("guest", frame)
    progress.step("changing the golden root")
    assert seen(frame) == "guest 0:00:00 changing the golden root"
    progress.operation("Boot files", 3, 17)
    assert seen(frame) == "guest 3/17 0:00:00 changing the golden root: Boot files"
    progress.amount(41.6)
    assert seen(frame) == "guest 42 % 0:00:00 changing the golden root"
    progress.done("done")
    assert seen(frame) == "guest 0:00:00 done"


def test_no_word_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    frame = bars()
    progress = HostProgress("[/]", frame)
    progress.operation("Files [/etc]", 1, 2)
    assert seen(frame) == "[/] 1/2 0:00:00 : Files [/etc]"
    assert "[/]" in capsys.readouterr().err


def test_after_a_full_bar_a_step_is_begun_anew_and_its_clock_goes_on() -> None:
    frame = bars()
    progress = HostProgress("guest", frame)
    [bar] = frame.tasks
    progress.step("converting the disk")
    progress.amount(100)
    progress.step("packing")
    assert (bar.total, bar.finished_time) == (None, None)
    progress.amount(100)
    progress.done("made")
    assert bar.finished


def _view(frame: Progress, width: int) -> list[str]:
    """The live view's lines, without bars."""
    paper = io.StringIO()
    Console(file=paper, width=width).print(Group(*frame.get_renderables()))
    lines = paper.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return [" ".join(line.replace("━", "").split()) for line in lines]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_progress.console, "height", 10)


@pytest.mark.usefixtures("terminal")
def test_of_as_many_hosts_as_fit_each_has_its_line() -> None:
    frame = bars()
    for number in range(9):
        HostProgress(f"box{number}", frame).done("done")
    assert _view(frame, 80) == [f"box{number} 0:00:00 done" for number in range(9)]


@pytest.mark.usefixtures("terminal")
def test_of_more_hosts_those_at_work_or_failed_are_seen_and_the_rest_is_counted() -> None:
    frame = bars()
    hosts = [HostProgress(f"box{number}", frame) for number in range(100)]
    for host in hosts[:50]:
        host.step("asking")
    for host in hosts[:46]:
        host.done("failed" if host in hosts[:6] else "done")
    counts, *lines = _view(frame, 80)
    assert counts == "100 hosts: 4 at work, 50 waiting, 40 done, 6 failed"
    assert lines == [
        *(f"box{number} 0:00:00 asking" for number in range(46, 50)),
        *(f"box{number} 0:00:00 failed" for number in (5, 4, 3, 2)),
    ]
    for host in hosts[46:]:
        host.done("done")
    assert _view(frame, 80) == ["100 hosts: 0 at work, 0 waiting, 94 done, 6 failed"]


def test_a_long_step_takes_nothing_from_the_count_and_the_clock() -> None:
    frame = bars()
    host = HostProgress("a-host-with-a-long-name.example.org", frame)
    host.step("changing the golden root")
    host.operation("Leave GRUB's entries to the box, and more words", 12, 17)
    [line] = _view(frame, 80)
    assert line == "a-host-with-a-long-name.examp… 12/17 0:00:00 changing the golden roo…"
