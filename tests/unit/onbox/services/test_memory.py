"""What ``secure`` reads and writes in /persistent, where somebody was root before a reset."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.onbox.services.setupbox import ONBOX

SITE = "HostName gw.example.org\nPort 22\n"
KNOWN = "gateway ssh-ed25519 AAAA\n"
# Each step as questions.py takes it; the last one fails if it is told to.
STEPS = """
import sys
sys.path[:0] = [{folder!r}]
import memory, paramiko
from site_keys import Site
site, key = Site.parse("gw.example.org"), paramiko.RSAKey.generate(1024)
print(repr(memory.known_key(site)))
try:
    with memory.undone_on_failure():
        memory.keep_key(site, key, b"secret")
        memory.keep_role("worker", site, "ada")
        assert not sys.argv[1:], "told to fail"
except AssertionError as error:
    print(error)
"""

pytestmark = pytest.mark.commands


@pytest.fixture
def secure(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs the steps below a root of the test's own; a step that waits for ever is a failure."""
    for name in ("pipeline/ssh", "settings", "elsewhere"):
        (tmp_path / "persistent" / name).mkdir(parents=True)

    def run(*words: str) -> list[str]:
        script = STEPS.format(folder=str(ONBOX / "usr/lib/secure"))
        done = subprocess.run(
            [sys.executable, "-B", "-c", script, *words],
            env={**os.environ, "PIPELINE_ROOT": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def _link(path: Path) -> None:
    path.symlink_to(path.parents[1] / "elsewhere")


def _dangling(path: Path) -> None:
    path.symlink_to(path.parents[1] / "elsewhere/new")


def _writable(path: Path) -> None:
    path.write_text(SITE)
    path.chmod(0o666)


HOSTILE = (os.mkfifo, Path.mkdir, _link, _dangling, _writable)


@pytest.mark.parametrize("make", HOSTILE)
@pytest.mark.parametrize(
    "name",
    ["pipeline/ssh/site", "pipeline/ssh", "pipeline/ssh.new", "pipeline/ssh.old",
     "settings/runsecure", "settings/runsecure.new", "settings", "pipeline"],
)  # fmt: skip
def test_what_lies_there_is_neither_waited_for_nor_written_through(
    make: Callable[[Path], None], name: str, tmp_path: Path, secure: Callable[..., list[str]]
) -> None:
    persistent = tmp_path / "persistent"
    path = persistent / name
    (persistent / "pipeline/ssh/known_hosts").write_text(KNOWN)
    if path.is_dir():
        path.rename(persistent / "elsewhere" / path.name)
    before = sorted((persistent / "elsewhere").rglob("*"))
    make(path)
    assert secure() == ["''"]
    assert sorted((persistent / "elsewhere").rglob("*")) == before
    assert (persistent / "pipeline/ssh/site").read_text() == SITE
    assert (persistent / "pipeline/ssh/id_ed25519").stat().st_mode & 0o777 == 0o600
    assert (persistent / "settings/runsecure").read_text().startswith("worker\n")
    for each in (persistent / "pipeline", persistent / "pipeline/ssh", persistent / "settings"):
        assert not each.is_symlink()
        assert not each.stat().st_mode & 0o022


def test_a_failure_puts_back_what_was_there(
    tmp_path: Path, secure: Callable[..., list[str]]
) -> None:
    persistent = tmp_path / "persistent"
    files = {"site": SITE, "known_hosts": KNOWN, "id_ed25519": "old"}
    for name, text in files.items():
        (persistent / "pipeline/ssh" / name).write_text(text)
    os.mkfifo(persistent / "pipeline/ssh/pipe")
    (persistent / "settings/runsecure").write_text("devel\n")
    assert secure("fail") == ["'AAAA'", "told to fail"]
    found = {path.name: path.read_text() for path in (persistent / "pipeline/ssh").iterdir()}
    assert found == files
    assert (persistent / "settings/runsecure").read_text() == "devel\n"
