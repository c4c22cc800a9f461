"""What a person sees of the work on a host: a line with a bar, a count and words."""

from __future__ import annotations

import io

from rich.console import Console
from rich.progress import Progress

from tasks.progress import HostProgress, bars


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
