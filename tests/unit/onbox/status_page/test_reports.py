"""Reports that nobody vouches for."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from reports import COUNT_LIMIT, SIZE_LIMIT, Report, read_all

NOW = time.time()


def one(folder: Path, content: bytes) -> tuple[list[Report], list[str]]:
    (folder / "x.json").write_bytes(content)
    return read_all(folder, NOW)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"NaN",
        b'{"jobs": {"done": 1}',
        b'{"role": "worker"}',
        b'{"queue": {"link": ["up"]}}',
        b'{"queue": {"link": {}}}',
        b'{"secret": 1}',
        b'{"jobs": 3}',
        b'{"jobs": {"done": -1}}',
        b'{"jobs": {"done": 1.5}}',
        b'{"jobs": {"done": true}}',
        b'{"jobs": {"done": "1"}}',
        b'{"jobs": {"done": Infinity}}',
        b'{"jobs": {"done": 1e3}}',
        b'{"jobs": {"done": 9007199254740992}}',
        b'{"jobs": {"done": ' + b"9" * 6000 + b"}}",
        b'{"queue": {"link": "sideways"}}',
        b'{"queue": {"link": "up", "host": "gw"}}',
        b'{"valid_seconds": 604801}',
        b'{"log": {}}',
        b'{"log": [1]}',
        b'{"log": [{"time": 1}]}',
        b'{"log": [{"event": "job done"}]}',
        b'{"log": [{"time": 1, "event": "a secret"}]}',
        b'{"log": [{"time": 1, "event": ["job done"]}]}',
        b'{"log": [{"time": 1, "event": "job done", "text": "a secret"}]}',
        b'{"log": [' + b",".join([b'{"time":1,"event":"job done"}'] * 51) + b"]}",
        b'{"valid_seconds": 1, "padding": "' + b"x" * SIZE_LIMIT + b'"}',
        b"[" * SIZE_LIMIT,
        b'{"queue": "\xff"}',
        b"root:x:0:0:a secret:/root:/bin/sh\n",
    ],
)
def test_what_is_not_of_the_form_is_left_out_and_not_repeated(
    content: bytes, tmp_path: Path
) -> None:
    reports, faults = one(tmp_path, content)
    assert reports == []
    (fault,) = faults
    assert fault.startswith("the report x ")
    assert "secret" not in fault
    assert len(fault) < 100


def test_an_empty_report_says_nothing(tmp_path: Path) -> None:
    assert one(tmp_path, b"{}") == ([Report()], [])


def test_a_report_out_of_date_is_no_report(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"jobs": {"done": 1}, "valid_seconds": 120}')
    os.utime(file, (NOW - 100, NOW - 100))
    assert read_all(tmp_path, NOW) == ([Report(done=1)], [])
    os.utime(file, (NOW - 130, NOW - 130))
    assert read_all(tmp_path, NOW) == ([], ["the report x is out of date"])


def test_no_link_is_followed_and_nothing_is_waited_for(tmp_path: Path) -> None:
    """The reader is root; whoever writes there need not be."""
    secret = tmp_path / "secret.json"
    secret.write_text('{"jobs": {"done": 1}}')
    folder = tmp_path / "status.d"
    inner = folder / "worker"
    inner.mkdir(parents=True)
    for place in (folder, inner):
        (place / "link.json").symlink_to(secret)
        (place / "away.json").symlink_to("/nowhere")
        os.mkfifo(place / "pipe.json")
        (place / "folder.json").mkdir()
        with socket.socket(socket.AF_UNIX) as unix:
            here = os.open(place, os.O_PATH)
            unix.bind(f"/proc/self/fd/{here}/socket.json")
            os.close(here)
    (folder / "linked").symlink_to(tmp_path)
    (inner / "deeper").mkdir()
    (inner / "deeper/x.json").write_text('{"jobs": {"done": 1}}')
    reports, faults = read_all(folder, NOW)
    assert reports == []
    kinds = {f"{prefix}{name}" for prefix in ("", "worker/") for name in ("pipe", "folder")}
    assert {fault.split()[2] for fault in faults} == kinds


def test_other_names_are_nobodys(tmp_path: Path) -> None:
    for name in (".x.json.new", ".json", "x.json.new", "x.txt", "a b.json", "é.json", "-x.json"):
        (tmp_path / name).write_text('{"jobs": {"done": 1}}')
    (tmp_path / f"{'x' * 33}.json").write_text("{}")
    (tmp_path / "a\n<b>.json").write_text("{}")
    assert read_all(tmp_path, NOW) == ([], [])


def test_of_too_many_not_all_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "worker"
    folder.mkdir()
    for number in range(COUNT_LIMIT + 5):
        (folder / f"{number}.json").write_text("{}")
    (tmp_path / "tunnel.json").write_text('{"queue": {"link": "up"}}')
    reports, faults = read_all(tmp_path, NOW)
    assert len(reports) == COUNT_LIMIT + 1
    assert faults == [f"worker holds more than {COUNT_LIMIT} reports: not all are read"]


def test_without_a_folder_there_are_no_reports(tmp_path: Path) -> None:
    assert read_all(tmp_path / "none", NOW) == ([], [])
    (tmp_path / "file").write_text("")
    assert read_all(tmp_path / "file", NOW) == ([], [])
    (tmp_path / "link").symlink_to(tmp_path)
    assert read_all(tmp_path / "link", NOW) == ([], [])


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "worker").mkdir()
    for name in ("x", "worker/y"):
        (tmp_path / f"{name}.json").write_text("[")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of which Path would open one more
    read_all(tmp_path, NOW)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
