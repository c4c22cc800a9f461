"""provisiond, run for real with stand-ins for runsetup and runsecure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.onbox.fakeroot import NO_FOLDERS, FakeRoot
from tests.unit.onbox.services.setupbox import install

ONBOX = Path(__file__).parents[4] / "static/onbox"
PROVISIOND = ONBOX / "usr/sbin/provisiond"

pytestmark = pytest.mark.commands


class Box(FakeRoot):
    @property
    def log(self) -> Path:
        return self.root / "persistent/log/provisiond.log"

    def boot(self, cmdline: str = "root=/dev/x resnap quiet") -> subprocess.CompletedProcess[str]:
        self.write("proc/cmdline", f"{cmdline}\n")
        return self.run(PROVISIOND)

    def script(self, name: str, body: str) -> Path:
        return self.program(f"usr/lib/provisiond/{name}", body)

    def stamp(self, name: str) -> dict[str, str]:
        """The lines of the stamp ``name``, which must be the only one."""
        folder = self.root / "run/provisiond"
        stamps = [path.name for path in folder.iterdir() if path.name in ("done", "failed")]
        assert stamps == [name]
        return dict(line.split("=", 1) for line in self.lines(f"run/provisiond/{name}"))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path / "a box")
    install(box.root)
    (box.root / "persistent").mkdir()
    box.write("etc/pipeline/allowed_signers")
    box.script("runsecure", ":")
    box.script("runsetup", 'echo "setup with $# arguments"')
    return box


def test_runs_setup_then_secure_without_arguments(box: Box) -> None:
    box.script("runsecure", 'echo "secure with $# arguments" >&2')
    done = box.boot()
    assert done.returncode == 0, done.stderr
    assert "setup with 0 arguments\nprovisiond: runsecure\nsecure with 0" in done.stdout
    assert "secure with 0 arguments" in box.log.read_text()
    stamp = box.stamp("done")
    assert stamp["reason"] == "setup with 0 arguments"
    assert (stamp["runsetup"], stamp["runsecure"]) == ("0", "0")
    assert int(stamp["finished"]) > 0


@pytest.mark.parametrize("cmdline", ["quiet", "noresnap resnap=1 lvsnap=resnap xresnap", ""])
def test_does_nothing_without_the_flag(box: Box, cmdline: str) -> None:
    done = box.boot(cmdline)
    assert done.returncode == 0
    assert box.stamp("done")["reason"] == "the kernel was not given resnap: nothing to do"
    assert not box.log.exists()


def test_a_failed_setup_is_reported_and_the_box_secured_all_the_same(box: Box) -> None:
    box.script("runsetup", "echo starts; echo 'it went wrong' >&2; exit 3")
    box.script("runsecure", "echo secured")
    assert box.boot().returncode == 1
    stamp = box.stamp("failed")
    assert stamp["reason"] == "it went wrong"
    assert (stamp["runsetup"], stamp["runsecure"]) == ("3", "0")


def test_a_failed_runsecure_is_reported(box: Box) -> None:
    box.script("runsecure", "exit 7")
    assert box.boot().returncode == 1
    assert box.stamp("failed")["reason"] == "runsecure: exit code 7, without a word"


def test_a_script_killed_midway_is_a_failure(box: Box) -> None:
    box.script("runsetup", "kill -9 $$")
    assert box.boot().returncode == 1
    assert box.stamp("failed")["runsetup"] == "137"


def test_what_has_their_names_in_persistent_is_not_run(box: Box) -> None:
    """Who was root once left it there; the names become links to the golden root's."""
    for name in ("runsetup", "runsecure", "data.sh"):
        box.program(f"persistent/{name}", f"touch {box.root}/pwned")
    for cmdline in ("resnap trial", "resnap"):  # an older golden root would need what it knows
        assert box.boot(cmdline).returncode == 0
        is_link = (box.root / "persistent/runsetup").is_symlink()
        assert (
            is_link == (box.root / "persistent/runsecure").is_symlink() == ("trial" not in cmdline)
        )
    assert box.stamp("done")["reason"] == "setup with 0 arguments"
    assert not (box.root / "pwned").exists()
    for name in ("runsetup", "runsecure"):
        there = box.root / "persistent" / name
        assert there.resolve() == box.root / "usr/lib/provisiond" / name


def test_a_golden_root_of_before_keeps_what_it_runs(box: Box) -> None:
    """Where only the snapshot was brought up to date, by runsetup itself."""
    (box.root / "etc/pipeline/allowed_signers").unlink()
    old = box.program("persistent/runsetup", ":")
    assert box.boot().returncode == 0
    assert not old.is_symlink()


@pytest.mark.parametrize("verdict", ["failed", "golden"])
def test_a_reset_that_failed_is_not_set_up(box: Box, verdict: str) -> None:
    box.came_out(verdict)
    done = box.boot()
    assert done.returncode == 1
    assert "setup with" not in done.stdout
    assert f"verdict is {verdict}" in box.stamp("failed")["reason"]


def test_a_stamp_of_an_earlier_run_is_replaced(box: Box) -> None:
    box.script("runsetup", "exit 1")
    box.boot()
    box.script("runsetup", "exit 0")
    box.boot()
    assert box.stamp("done")["runsetup"] == "0"


def test_the_log_is_bounded(box: Box) -> None:
    box.log.parent.mkdir()
    box.log.write_bytes(b"x" * (1 << 20) + b"y\n")
    box.boot()
    assert box.log.stat().st_size < 1000
    assert box.log.with_name("provisiond.log.1").read_bytes().endswith(b"y\n")
    box.boot()
    assert box.log.read_text().count("\nsetup with 0 arguments\n") == 2


def test_a_log_that_cannot_be_written_does_not_stop_it(box: Box) -> None:
    box.tool("mkdir", NO_FOLDERS)
    done = box.boot()
    assert done.returncode == 0
    assert "to the journal only" in done.stdout
    assert box.stamp("done")["reason"] == "setup with 0 arguments"


@pytest.mark.parametrize("form", ["link", "fifo", "linked folder"])
def test_a_log_that_leads_elsewhere_is_thrown_away(box: Box, form: str) -> None:
    elsewhere = box.write("etc/elsewhere/provisiond.log", "mine\n")
    box.log.parent.mkdir()
    if form == "link":
        box.log.symlink_to(elsewhere)
    elif form == "fifo":
        os.mkfifo(box.log)
    else:
        box.log.parent.rmdir()
        box.log.parent.symlink_to(elsewhere.parent)
    assert box.boot().returncode == 0
    assert elsewhere.read_text() == "mine\n"
    assert "setup with 0 arguments" in box.log.read_text()


def test_a_full_persistent_does_not_stop_it(box: Box) -> None:
    box.tool("tee", 'cat; echo "tee: No space left on device" >&2; exit 1')
    assert box.boot().returncode == 0


def test_no_unit_of_a_login_waits_for_the_service() -> None:
    unit = (ONBOX / "etc/systemd/system/provisiond.service").read_text()
    assert "Before=" not in unit
    assert "RequiresMountsFor=/persistent" in unit
