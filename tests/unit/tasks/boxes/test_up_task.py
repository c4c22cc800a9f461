"""inv up: what makes its guest a box, and what is refused before anything is made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploys.facts.state import HostState
from deploys.settings import GIB
from tasks import box
from tasks.boxes.start import SPARE
from tasks.hosts.provision import Request


class Host:
    """A guest's host: with or without a spare disk, a box or not yet."""

    def __init__(self, found: str, *, is_box: bool) -> None:
        self._found, self._is_box = found, is_box

    def wait(self, _deadline: float) -> None: ...

    def close(self) -> None: ...

    def state(self) -> Any:
        return SimpleNamespace(is_box=self._is_box)

    def run(self, command: str) -> str:
        assert SPARE in command
        return self._found

    @contextlib.contextmanager
    def locked(self, _task: str) -> Iterator[None]:
        yield


Asked = list[Any]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The bytes of the file that the guest has room for, and the request of its provision."""
    seen: Asked = []

    def provision(_host: Host, _settings: object, request: Request, _progress: object) -> object:
        seen.append(request)
        done = SimpleNamespace(state=HostState(), manifest="")
        return SimpleNamespace(run=lambda: done)

    def start(*_: object, in_file: int, **__: object) -> object:
        seen.append(in_file)
        return SimpleNamespace(page="")

    monkeypatch.setattr(box, "start", start)
    monkeypatch.setattr(box, "Provision", provision)
    return seen


@pytest.mark.parametrize(
    ("flag", "found", "is_box", "expected"),
    [
        ("", "/dev/vdb", False, [0, Request("/dev/vdb")]),
        (True, "", False, [24 * GIB, Request(in_file=24 * GIB)]),
        ("9G", "", False, [9 * GIB, Request(in_file=9 * GIB)]),
        # started for a box in a file, and interrupted
        ("", "", False, [0, Request(in_file=24 * GIB)]),
        (True, "", True, [24 * GIB, Request()]),
    ],
)
def test_a_guest_becomes_a_box_by_the_disks_that_it_has(
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    flag: str | bool,
    found: str,
    is_box: bool,
    expected: Asked,
) -> None:
    monkeypatch.setattr(box, "connected", lambda _: Host(found, is_box=is_box))
    box.up(Context(), bare=True, in_file=flag, set=["stack=none"])
    assert asked == expected


def test_a_file_is_a_bare_host_s(asked: Asked) -> None:
    with pytest.raises(Exit, match="error: --in-file is for a bare host: say --bare too"):
        box.up(Context(), in_file=True)
    with pytest.raises(Exit, match="error: --in-file: 'large' is not a size"):
        box.up(Context(), bare=True, in_file="large")
    assert not asked
