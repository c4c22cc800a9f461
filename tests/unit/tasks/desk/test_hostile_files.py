"""Any file of settings, and any flag, gives one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploys.errors import SettingsError
from tasks.desk.flags import load

HEX = b"0x" + b"f" * 90_000
FILES = {
    "deep": b"a = " + b"[" * 100_000,
    "deep in a table": b"[stack]\npackages = " + b"[" * 100 + b"]" * 100,
    "digits": b"[boot]\ndeadline = " + b"9" * 5000,
    "hexadecimal": b"[boot]\ndeadline = " + HEX,
    "hexadecimal for a size": b"[volumes]\nswap_size = " + HEX,
    "hexadecimal for a role": b"role = " + HEX,
    "float": b"[volumes]\nswap_size = 1e999",
    "not a number": b"[volumes]\nswap_size = nan",
    "a list for a source": b"[stack.lammps]\nsource = []",
    "a table for a source": b"[stack.lammps.source]",
    "dotted": b".".join([b"a"] * 1000) + b" = 1",
    "no UTF-8": b"a = '\xff'",
    "UTF-16": "a = 1".encode("utf-16"),
    "NUL": b"a = '\0'",
    "binary": os.urandom(4096),
    "escapes in a key": b'"\\u001b]0;x\\u0007\\n" = 1',
    "a long key": b"a" * 500_000 + b" = 1",
    "too large": b"#" * (2**20 + 1),
}


@pytest.mark.parametrize("name", FILES)
def test_any_file_is_one_line(name: str, tmp_path: Path) -> None:
    file = tmp_path / "box.toml"
    file.write_bytes(FILES[name])
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_what_is_no_file_is_one_line_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as large:
        large.truncate(100 * 2**20)
    for name in (
        tmp_path / "pipe",
        tmp_path / "large",
        tmp_path,
        Path("/dev/zero"),
        Path("/x" * 999),
    ):
        with pytest.raises(SettingsError, match=r"^settings file "):
            load(name)


@pytest.mark.parametrize(
    "override",
    [
        *("a." * 5000 + "b=1", "boot.deadline.x=1", "a" * 100_000, "a" * 100_000 + ".b=1"),
        *(
            "\x1b]0;x\x07.a=1",
            "boot.\n=1",
            "stack.lammps=git",
            "stack.lammps.source.x=1",
            "\ud800.a=1",
        ),
    ],
)
def test_any_flag_is_one_line(override: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, ["boot.deadline=60", override])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
