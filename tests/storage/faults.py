"""What the tests of faults share: something happens at a step, and nothing may be left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.progress import Progress
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tasks.desk.progress import HostProgress
from tests.storage.commands import run

_LOSETUP = """\
#!/bin/sh
case $* in *--find*)
    echo >>"{count}"
    [ "$(wc -l <"{count}")" -lt {free} ] || {{
        echo "losetup: cannot find an unused loop device" >&2
        exit 1
    }}
esac
exec {real} "$@"
"""


class Steps(HostProgress):
    """Progress that does something at a step."""

    def __init__(self, name: str = "", act: Callable[[], None] = lambda: None) -> None:
        super().__init__("box", Progress(disable=True))
        self._at = name
        self._act = act

    def step(self, name: str) -> None:
        if name == self._at:
            self._act()


def interrupted_at(step: str) -> Steps:
    """Progress in which Ctrl-C is pressed at a step."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    return Steps(step, interrupt)


def held(folder: Path) -> list[str]:
    """What can be left behind: the loop devices and mounts of files and folders below one."""
    # raw: the width of a column is that of other devices, which come and go
    columns = ("--list", "--raw", "--noheadings", "--output", "NAME,OFFSET,BACK-FILE")
    listed = ("losetup", *columns), ("findmnt", "--raw", "--noheadings")
    lines = [line for argv in listed for line in run(*argv).splitlines()]
    return [line for line in lines if str(folder) in line]


def given_back(folder: Path, before: list[str]) -> bool:
    """Whether nothing is held that was not ``before``.

    A loop device that another program happens to look at goes when that has closed it. So one
    of ``before`` may be gone, and another may go a moment later.
    """
    tries = Retrying(
        retry=retry_if_result(lambda same: not same),
        stop=stop_after_delay(10),
        wait=wait_fixed(0.2),
        retry_error_callback=lambda _: False,
    )
    return tries(lambda: set(held(folder)) <= set(before))


@contextmanager
def last_good_image(folder: Path) -> Iterator[Path]:
    """An image, in a folder of its own below one; at the end it and nothing else is there.

    Nor is anything of ``folder`` attached or mounted that was not before.
    """
    file = folder / "out" / "box.raw"
    file.parent.mkdir()
    file.write_text("the last good image")
    before = held(folder)
    yield file
    assert given_back(folder, before), held(folder)
    assert file.read_text() == "the last good image"
    assert list(file.parent.iterdir()) == [file]


def program(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a script of the test's, kept below ``folder``, run in a program's stead."""
    stubs = folder / "stubs"
    stubs.mkdir(exist_ok=True)
    (stubs / name).write_text(script)
    (stubs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{stubs}:{os.environ['PATH']}")


def only_loop_devices(free: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no loop device be free from the one numbered ``free`` that is asked for on, from 1."""
    script = _LOSETUP.format(count=folder / "count", free=free, real=shutil.which("losetup"))
    program(folder, "losetup", script, monkeypatch)
