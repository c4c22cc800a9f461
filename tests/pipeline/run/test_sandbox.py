"""Which sandbox is taken, and what systemd is asked for; bubblewrap's is seen in test_pair.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kimpipeline.errors import SandboxError
from kimpipeline.run import confined, systemd
from kimpipeline.run.bubblewrap import Bubblewrap
from kimpipeline.run.confined import Confined, environment
from kimpipeline.run.sandbox import choose
from kimpipeline.run.supervise import probe
from kimpipeline.run.systemd import Systemd
from kimpipeline.settings import Limits, Settings

JOB = Confined(
    ("./runner",), Path("/w/test"), Path("/i"), Limits(seconds=9, memory=2**28, processes=8)
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemd-run and a systemctl that note what they are asked, and end well."""
    for name in ("systemd-run", "systemctl"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/{name}.asked\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv(systemd.WORKER_UNIT, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("uid", "controllers", "wanted", "expected"),
    [
        (0, "cpu io memory pids", "auto", "systemd"),
        (0, "cpu io memory pids", "systemd", "systemd"),
        (0, "cpu io memory", "auto", "bubblewrap"),  # a fork bomb would have the machine
        (0, None, "auto", "bubblewrap"),
        (1000, "cpu io memory pids", "auto", "bubblewrap"),
        (0, "cpu io memory pids", "bubblewrap", "bubblewrap"),
    ],
)
def test_the_sandbox_is_the_one_that_can_be_had(
    uid: int,
    controllers: str | None,
    wanted: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    _machine(tmp_path, controllers)
    chosen = choose(Settings.model_validate({"sandbox": wanted}), tmp_path)
    assert chosen.name == expected
    if isinstance(chosen, Bubblewrap):
        assert chosen.user == ("nobody" if uid == 0 else None)


@pytest.mark.parametrize(
    ("uid", "controllers"), [(0, "cpu memory"), (0, None), (1000, "memory pids")]
)
def test_a_systemd_that_cannot_limit_is_refused(
    uid: int, controllers: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    _machine(tmp_path, controllers)
    with pytest.raises(SandboxError, match="memory and pids controllers"):
        choose(Settings(sandbox="systemd"), tmp_path)


def _machine(root: Path, controllers: str | None) -> None:
    """One whose systemd has these controllers of cgroup v2; or none runs there."""
    if controllers is not None:
        (root / "run/systemd/system").mkdir(parents=True)
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/cgroup.controllers").write_text(f"{controllers}\n")


def test_systemd_is_asked_for_all_of_the_limits(tools: Path) -> None:
    words = Systemd("nobody").argv(JOB, "job.service")
    assert words[0] == str(tools / "systemd-run")
    assert words[-2:] == ["--", "./runner"]
    asked = {word.removeprefix("--property=") for word in words if word.startswith("--property=")}
    assert {
        "User=nobody",
        "PrivateNetwork=yes",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "MemoryMax=268435456",
        "TasksMax=8",
        "RuntimeMaxSec=69",
        "WorkingDirectory=/w/test",
        "BindPaths=/w/test",
        "BindReadOnlyPaths=/i",
    } <= asked
    assert any(each.startswith("TemporaryFileSystem=/tmp:") for each in asked)
    assert {f"--setenv={name}={value}" for name, value in environment(JOB.folder).items()} <= {
        *words
    }
    assert not any(each.startswith("BindsTo") for each in asked)


def test_a_workers_jobs_are_bound_to_its_unit(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tools.is_dir()
    monkeypatch.setenv(systemd.WORKER_UNIT, "pipeline-worker@0.service")
    words = Systemd("nobody").argv(JOB, "job.service")
    assert "--property=BindsTo=pipeline-worker@0.service" in words


def test_systemd_reads_each_property(tools: Path, tmp_path: Path) -> None:
    """A name that systemd does not know, or a value that it cannot read, is seen here."""
    assert tools.is_dir()
    words = Systemd("root").argv(JOB, "job.service")
    lines = [word.removeprefix("--property=") for word in words if word.startswith("--property=")]
    unit = tmp_path / "job.service"
    unit.write_text("\n".join(["[Service]", "ExecStart=/bin/true", *lines, ""]))
    argv = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_unit_is_killed_by_its_name(tools: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    job = Confined(("true",), folder, tmp_path, Limits())
    with (tmp_path / "out").open("wb") as out, Path("/dev/null").open("rb") as nothing:
        running = Systemd("root").start(job, nothing, out, out)
    running.kill()
    unit = next(
        line.partition("=")[2]
        for line in (tools / "systemd-run.asked").read_text().splitlines()
        if line.startswith("--unit=")
    )
    asked = (tools / "systemctl.asked").read_text().split()
    assert asked == ["kill", "--signal=KILL", unit]
    assert running.process.returncode == 0


def test_a_machine_that_cannot_run_jobs_is_known_before_the_first(tools: Path) -> None:
    probe(Systemd("root"))
    program = tools / "systemd-run"
    program.write_text("#!/bin/sh\necho first >&2\necho no bus >&2\nexit 1\n")
    with pytest.raises(SandboxError, match=r"^systemd cannot run jobs: no bus$"):
        probe(Systemd("root"))


def test_a_tool_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SandboxError, match="Debian's package is bubblewrap"):
        confined.find_program("bwrap", "bubblewrap")
