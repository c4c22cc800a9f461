"""What tests/conftest.py promises: no command in a unit test, no silent skip in CI."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

_CONFTEST = Path(__file__).parents[1] / "conftest.py"
_SUITE = {
    "boot/test_skips.py": "import pytest\ndef test_it():\n    pytest.skip('no root')\n",
    "storage/test_skips.py": "import pytest\n@pytest.mark.skip\ndef test_it():\n    assert 0\n",
    "boot/test_whole.py": "import pytest\npytest.skip('no qemu', allow_module_level=True)\n",
    "boot/test_expected.py": "import pytest\n@pytest.mark.xfail\ndef test_it():\n    assert 0\n",
    "unit/test_skips.py": "import pytest\ndef test_it():\n    pytest.skip('not here')\n",
    "unit/test_passes.py": "def test_it():\n    assert 1\n",
}


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run(["true"], check=True),
        lambda: subprocess.check_output(["true"]),
        lambda: os.system("true"),
        lambda: os.popen("true"),
        lambda: os.execv("/bin/true", ["true"]),
        lambda: os.execlp("true", "true"),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        lambda: os.fork(),
    ],
    ids=["run", "check_output", "system", "popen", "execv", "execlp", "posix_spawn", "fork"],
)
def test_a_unit_test_cannot_start_a_command(start: Callable[[], object]) -> None:
    """Whichever way; the failure is one that no ``except Exception`` can hide."""
    with pytest.raises(pytest.fail.Exception, match="started a command without its marker"):
        start()


@pytest.mark.commands
def test_a_marked_one_can() -> None:
    """The marker gives the real thing back."""
    assert subprocess.run([sys.executable, "-c", "exit(3)"], check=False).returncode == 3


@pytest.mark.commands
@pytest.mark.parametrize(("ci", "workers"), [("true", "0"), ("true", "1"), ("", "0")])
def test_a_skip_in_ci(ci: str, workers: str, tmp_path: Path) -> None:
    """What boots or needs root has failed if it did not run, and the closing line says so."""
    tests = tmp_path / "tests"
    for name, source in _SUITE.items():
        (tests / name).parent.mkdir(parents=True, exist_ok=True)
        (tests / name).write_text(source)
    shutil.copy(_CONFTEST, tests)
    ini = tmp_path / "pytest.ini"
    ini.write_text("[pytest]\nmarkers =\n    boot\n    storage\n    commands\n")
    options = ["-q", "-rfEs", "-p", "no:cacheprovider", "--import-mode=importlib"]
    options += ["-n", workers, "--continue-on-collection-errors"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-c", ini, tests],
        cwd=tmp_path,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    closing = done.stdout.splitlines()[-1].partition(" in ")[0]
    if ci:
        assert done.returncode == 1
        assert closing == "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors"
        assert "FAILED tests/boot/test_skips.py::test_it - a boot test may not" in done.stdout
        assert "ERROR tests/storage/test_skips.py::test_it - a storage test may" in done.stdout
        assert "ERROR tests/boot/test_whole.py - a boot test may not" in done.stdout
    else:
        assert done.returncode == 0
        assert closing == "1 passed, 4 skipped, 1 xfailed"


_HELD = """
import pathlib
import time
import pytest

@pytest.fixture(params=range(2))
def held():
    pathlib.Path("held").write_text("")
    yield
    pathlib.Path("given-back").write_text("")

def test_that_lasts(held):
    time.sleep(60)
"""


@pytest.mark.commands
@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_run_that_is_asked_to_end_gives_back_what_it_holds(workers: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_held.py").write_text(_HELD)
    shutil.copy(_CONFTEST, tmp_path / "tests")
    words = ["-q", "-p", "no:cacheprovider", "-n", workers, "-c", "/dev/null", "tests"]
    argv = [sys.executable, "-m", "pytest", *words]
    with subprocess.Popen(argv, cwd=tmp_path, start_new_session=True) as run:
        while not (tmp_path / "held").exists():
            assert run.poll() is None
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGTERM)  # as timeout(1) does
    deadline = time.monotonic() + 30
    while not (tmp_path / "given-back").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "given-back").exists()
    assert run.returncode == 2
