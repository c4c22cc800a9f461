"""What root reads of /persistent at boot: a list of it all, and that a hostile one runs nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.onbox.fakeroot import FakeRoot
from tests.unit.onbox.services.setupbox import ONBOX, install

# What the programs and units of a box name below /persistent, files or folders with all in them,
# and why what lies there runs nothing. The links runsetup and runsecure are for people.
READ = {
    "gateway": "accounts, queue, items and results: tests/storage/gateway",
    "log": "counts, times, reasons; read and written: reset/test_written_data.py",
    "pipeline/director.sqlite": "test_gateway_queue.py::test_what_is_no_ledger_stops_nothing",
    "pipeline/ssh/id_ed25519": "a key, to ssh nothing else",
    "pipeline/ssh/known_hosts": "host keys, to ssh nothing else",
    "pipeline/ssh/site": "test_a_site_of_a_gateway_is_two_words",
    "settings/runsecure": "test_what_is_no_role_starts_nothing",
    "settings/runsetup": "test_hostile_hostnames_are_refused_in_one_line",
    "settings/secured": "whether it is there",
    "setup/good.bundle": "test_what_is_no_plain_data_of_roots_is_not_read, and what follows it",
    "ssh": "test_what_is_no_key_of_roots_is_made_anew",
}
# Folders that are named for the files in them.
FOLDERS = {"pipeline", "pipeline/ssh", "settings", "setup"}

pytestmark = pytest.mark.commands


def _named() -> set[str]:
    """The paths below /persistent that files of a box name, outside of comments."""
    found = set()
    for file in ONBOX.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            lines = file.read_text().splitlines()
            text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
            names = re.findall(r"(?<![A-Za-z])persistent/([A-Za-z0-9_.%/-]+)", text)
            found |= {each.rstrip("/.") for each in names}
            # variables that stand for a folder there
            for name, folder in re.findall(r"^(\w+)=\$root/persistent/?([\w/]*)", text, re.M):
                inner = re.findall(rf"\${name}/([A-Za-z0-9_.-]+)", text)
                found |= {f"{folder}/{each}".strip("/") for each in inner}
    return found


def test_the_list_is_whole() -> None:
    named = _named() - FOLDERS
    of_a_row = {each for each in named for row in READ if f"{each}/".startswith(f"{row}/")}
    assert named == of_a_row, "say in READ why a hostile file there runs nothing"
    assert not [row for row in READ if not any(f"{each}/".startswith(f"{row}/") for each in named)]


@pytest.mark.parametrize(
    ("content", "good"),
    [
        ("HostName gw.example.org\nPort 2222\n", True),
        ("HostName fe80::1\n", True),
        ("HostName gw\nProxyCommand touch pwned\n", False),
        ('HostName gw\nMatch exec "touch pwned"\n', False),
        ("HostName gw\nInclude /persistent/more\n", False),
        ("HostName gw; id\n", False),
        ("HostName -oProxyCommand=id\n", False),
        ("HostName gw\nPort 22 # \n", False),
        ("Port 22\n", False),
        ("", False),
    ],
)
def test_a_site_of_a_gateway_is_two_words(tmp_path: Path, content: str, good: bool) -> None:
    """ssh would take a program from it, as root at each boot."""
    box = FakeRoot(tmp_path)
    install(box.root)
    box.write("persistent/pipeline/ssh/site", content)
    done = box.run(ONBOX / "usr/lib/tunnel/write-site")
    assert (done.returncode == 0, len(done.stderr.splitlines())) == (good, 0 if good else 1)
    assert box.lines("run/pipeline/site") == (content.splitlines() if good else [])


def test_ssh_reads_no_settings_of_persistent() -> None:
    settings = (ONBOX / "etc/pipeline/ssh_config").read_text()
    assert re.findall(r"Include (.*)", settings) == ["/run/pipeline/site"]
