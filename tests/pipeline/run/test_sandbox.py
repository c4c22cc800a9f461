"""Which sandbox is taken, and what systemd is asked for; bubblewrap's is seen in test_pair.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kimpipeline.errors import SandboxError
from kimpipeline.run.sandbox import calls, choose, confined, systemd, unit
from kimpipeline.run.sandbox.cell import Cell, taken
from kimpipeline.run.sandbox.confined import Confined, Running, environment, exit_fault
from kimpipeline.run.sandbox.systemd import Systemd
from kimpipeline.run.supervise import probe
from kimpipeline.settings import Limits, Settings

MIB = 2**20
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
    monkeypatch.delenv(unit.WORKER_UNIT, raising=False)
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
    assert choose(Settings.model_validate({"sandbox": wanted}), tmp_path).name == expected


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


def made(folder: Path) -> Systemd:
    """What runs jobs in a cell in a folder, as if it had its user and its disk."""
    return Systemd(Cell(3, folder), MIB)


def test_systemd_is_asked_for_all_of_the_limits(tools: Path) -> None:
    """What cannot be tried in a container, as its kernel has no controller; the rest is tried."""
    words = made(tools).argv(JOB, "job.service")
    assert words[0] == str(tools / "systemd-run")
    assert words[-2:] == ["--", "./runner"]
    asked = {word.removeprefix("--property=") for word in words if word.startswith("--property=")}
    assert {"CPUQuota=100%", "MemoryMax=268435456", "TasksMax=8", "RuntimeMaxSec=69"} <= asked
    assert {f"--setenv={name}={value}" for name, value in environment(JOB).items()} <= {*words}
    assert not any(each.startswith("BindsTo") for each in asked)


def test_a_job_has_pids_of_its_own_where_systemd_knows_how() -> None:
    assert "PrivatePIDs=yes" in unit.properties(JOB, "user", 258)
    assert "PrivatePIDs=yes" not in unit.properties(JOB, "user", 257)


def test_a_workers_jobs_are_bound_to_its_unit(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(unit.WORKER_UNIT, "pipeline-worker@0.service")
    words = made(tools).argv(JOB, "job.service")
    assert "--property=BindsTo=pipeline-worker@0.service" in words


def test_systemd_reads_each_property(tmp_path: Path) -> None:
    """A name that systemd does not know, or a value that it cannot read, is seen here."""
    file = tmp_path / "job.service"
    lines = unit.properties(JOB, "root", 0)
    file.write_text("\n".join(["[Service]", "ExecStart=/bin/true", *lines, ""]))
    argv = ["systemd-analyze", "verify", "--man=no", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_unit_is_killed_by_its_name(tools: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    job = Confined(("true",), folder, tmp_path, Limits())
    with (tmp_path / "out").open("wb") as out, Path("/dev/null").open("rb") as nothing:
        running = made(tmp_path).start(job, nothing, out, out)
    running.kill()
    unit = next(
        line.partition("=")[2]
        for line in (tools / "systemd-run.asked").read_text().splitlines()
        if line.startswith("--unit=")
    )
    assert unit.startswith("pipeline-job-3-")
    asked = (tools / "systemctl.asked").read_text().split()
    assert asked == ["kill", "--signal=KILL", unit]
    assert running.finish() == ""


@pytest.fixture
def failed(tools: Path, tmp_path: Path) -> Running:
    """A job whose systemd-run had exit code 1."""
    (tools / "systemd-run").write_text("#!/bin/sh\nexit 1\n")
    folder = tmp_path / "job"
    folder.mkdir()
    job = Confined(("true",), folder, tmp_path, JOB.limits)
    with (tmp_path / "out").open("wb") as out, Path("/dev/null").open("rb") as nothing:
        return made(tmp_path).start(job, nothing, out, out)


@pytest.mark.parametrize(
    ("shown", "fault"),
    [
        ("Result=oom-kill ExecMainStatus=9", "took more than 268435456 bytes of memory"),
        ("Result=signal ExecMainStatus=9", "ended by signal 9"),
        ("Result=core-dump ExecMainStatus=11", "ended by signal 11"),
        ("Result=exit-code ExecMainStatus=1", "failed with exit code 1"),
        ("", "failed with exit code 1"),
    ],
)
def test_systemd_is_asked_how_a_job_failed(
    failed: Running, tools: Path, shown: str, fault: str
) -> None:
    (tools / "systemctl").write_text(f"#!/bin/sh\nprintf '%s\\n' {shown}\n")
    assert failed.finish() == fault


def test_results_are_not_read_while_a_process_is_left(
    failed: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_CGROUPS", tmp_path)
    monkeypatch.setattr(systemd, "_DEADLINE", 0.1)
    folder = tmp_path / "system.slice" / failed._name  # type: ignore[attr-defined]
    folder.mkdir(parents=True)
    (folder / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    with pytest.raises(SandboxError, match="its processes do not end"):
        failed.finish()


def test_a_machine_that_cannot_run_jobs_is_known_before_the_first(tools: Path) -> None:
    (tools / "cell").mkdir()
    probe(made(tools / "cell"))
    program = tools / "systemd-run"
    program.write_text("#!/bin/sh\necho first >&2\necho no bus >&2\nexit 1\n")
    with pytest.raises(SandboxError, match=r"^systemd cannot run jobs: no bus$"):
        probe(made(tools / "cell"))


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (0, ""),
        (3, "failed with exit code 3"),
        (137, "ended by signal 9"),
        (-9, "ended by signal 9"),
        (200, "failed with exit code 200"),
        (255, "failed with exit code 255"),
    ],
)
def test_only_a_signal_is_called_one(code: int, fault: str) -> None:
    assert exit_fault(code) == fault


def test_no_two_processes_have_the_same_user(tmp_path: Path) -> None:
    with taken(tmp_path) as first:
        with taken(tmp_path) as second:
            assert first.user != second.user
            assert first.folder != second.folder
        with taken(tmp_path) as third:
            assert third == second


def test_a_folder_that_another_user_made_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(tmp_path, 66_999, 66_999)
    with pytest.raises(SandboxError, match="belongs to another user"), taken(tmp_path):
        pass


def test_a_machine_that_cannot_make_a_filter_runs_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_COMPILE", "import no_such_module")
    calls.program.cache_clear()
    with pytest.raises(SandboxError, match="Debian's package is python3-seccomp"):
        calls.program()


def test_a_tool_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SandboxError, match="Debian's package is bubblewrap"):
        confined.find_program("bwrap", "bubblewrap")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of v2, for a test; the kernel removes an empty one alone."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    base = next(Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2")
    made = base / f"test-{uuid.uuid4().hex}"
    made.mkdir()
    yield made
    made.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="making a cgroup needs root")
@pytest.mark.parametrize(("lives", "is_empty"), [(0.3, True), (1.5, False)])
def test_processes_that_are_about_to_end_are_waited_for(
    cgroup: Path, lives: float, is_empty: bool
) -> None:
    script = f"echo $$ >{cgroup}/cgroup.procs; echo; exec sleep {lives}"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert systemd._is_empty(cgroup, 1) is is_empty
    assert systemd._is_empty(cgroup, 0)
    assert systemd._is_empty(cgroup / "removed", 0)
