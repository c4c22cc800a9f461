"""After a reset the box sets itself up from git; with no network, from the copy it has."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tasks.desk.places import ROOT
from tests.boot.lab.box import Box

# This machine, as a guest of QEMU's user network sees it.
GATEWAY = "10.0.2.2"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project, as it stands in the working tree, as openkim-pipeline-setup at stable."""
    folder = tmp_path_factory.mktemp("git") / "openkim-pipeline-setup"
    folder.mkdir()
    for part in ("deploys", "static"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    _git(folder, "init", "--quiet", "--initial-branch=stable")
    _commit(folder, "stable")
    return folder


@contextlib.contextmanager
def served(repository: Path) -> Iterator[str]:
    """``git daemon`` over a repository; the URL prefix that a guest reaches it by."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    base = repository.parent
    daemon = subprocess.Popen(
        [
            *("git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}"),
            *(f"--base-path={base}", str(base)),
        ]
    )
    try:
        url = f"git://127.0.0.1:{port}/{repository.name}"
        _until(lambda: subprocess.run(["git", "ls-remote", "-q", url], check=False).returncode == 0)
        yield f"git://{GATEWAY}:{port}"
    finally:
        daemon.terminate()
        # git daemon is git's child: it goes with its listening socket
        subprocess.run(["pkill", "-f", f"port={port}"], check=False)
        daemon.wait(30)


def test_box_follows_its_branch_and_comes_back_without_network(box: Box, repository: Path) -> None:
    commit = _git(repository, "rev-parse", "HEAD")
    with served(repository) as prefix:
        said = box.succeed(f"/persistent/runsetup {prefix}")
        assert "error" not in said.lower()
        assert f"COMMIT={commit}" in box.succeed("cat /etc/pipeline-release")

        # Another version: provisiond takes it, as it does after each reset.
        marker = repository / "static/onbox/usr/lib/pipeline/second-version"
        marker.write_text("of the test\n")
        second = _commit(repository, "second")
        box.succeed("systemctl restart provisiond")
        assert box.state.provisiond["state"] == "done", box.state.provisiond
        assert box.succeed("cat /usr/lib/pipeline/second-version") == "of the test\n"
        assert box.succeed("readlink /persistent/setup/good").strip().endswith(second)

    # Nobody answers at that address any more, and in a fresh snapshot nothing of it is left.
    box.reboot()
    assert box.verdict.name == "fresh"
    _until(lambda: "state" in box.state.provisiond)
    assert box.state.provisiond["state"] == "done", box.state.provisiond
    assert box.succeed("cat /usr/lib/pipeline/second-version") == "of the test\n"
    log = box.succeed("cat /persistent/log/provisiond.log")
    assert "runsetup" in log
    assert box.succeed("journalctl --quiet --unit provisiond --output cat").strip()


def _git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    argv = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def _commit(folder: Path, message: str) -> str:
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", message)
    return _git(folder, "rev-parse", "HEAD")


def _until(condition: object) -> None:
    assert callable(condition)
    Retrying(
        retry=retry_if_result(lambda done: not done),
        stop=stop_after_delay(300),
        wait=wait_fixed(1),
    )(condition)
