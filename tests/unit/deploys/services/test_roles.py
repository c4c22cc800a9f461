"""Roles: what each brings, and what systemd says of the units of director and worker."""

from __future__ import annotations

import pkgutil
import subprocess
from pathlib import Path

import pytest

import kimpipeline
from deploys import box
from deploys.box import Where
from deploys.operations.onbox import ONBOX
from deploys.services import runner, secure
from deploys.services.gateway import PACKAGES
from deploys.settings import GIB, Settings
from kimpipeline import commands
from kimpipeline.settings import load as runner_settings
from tasks.desk.flags import load

UNITS = {
    **{name: ONBOX / "etc/systemd/system" / name for name in runner.UNITS},
    secure.UNIT: ONBOX / "etc/systemd/system" / secure.UNIT,
}


def test_every_devel_box_can_be_given_a_part() -> None:
    packages = box.packages(load())
    assert {"bubblewrap", "nftables", "python3-seccomp", "rsync", "units"} <= set(packages)
    assert "postgresql" not in packages


def test_a_gateway_directs_if_it_is_to() -> None:
    alone = load(overrides=["role=gateway"])
    both = load(overrides=["role=gateway", "jobs.director=true"])
    every = {*box.packages(load())} - {*runner.PACKAGES, *secure.PACKAGES}
    assert set(box.packages(alone)) == {*every, *PACKAGES}
    assert set(box.packages(both)) == {*every, *PACKAGES, *runner.PACKAGES}
    assert {*box.units(both, Where.GOLDEN)} - {*box.units(alone, Where.GOLDEN)} == {runner.DIRECTOR}
    assert f"/etc/systemd/system/{runner.DIRECTOR}.d/gateway.conf" in runner.sources(both)


@pytest.mark.parametrize("role", ["devel", "gateway"])
def test_the_runner_reads_what_a_provision_writes(role: str, tmp_path: Path) -> None:
    settings = load(overrides=[f"role={role}", "jobs.memory=1G", "jobs.seconds=60"])
    file = tmp_path / "pipeline.toml"
    file.write_text(runner.config(settings))
    read = runner_settings(file)
    assert (read.limits.memory, read.limits.seconds, read.limits.disk) == (GIB, 60, GIB)
    remote = "gateway:" if role == "devel" else None
    assert read.remote.items == remote
    assert "key" not in file.read_text()


def test_each_command_is_one_of_the_runners() -> None:
    files = runner.sources(Settings())
    for name, function in runner.COMMANDS.items():
        file = files[f"/usr/bin/{name}"]
        assert file.mode == 0o755
        assert f"sys.exit({function}())" in file.content.decode()
        assert callable(getattr(commands, function))


def test_a_box_gets_every_module_of_the_runner() -> None:
    """Those of its packages too: all that Python can import from it here."""
    found = pkgutil.walk_packages(kimpipeline.__path__, "kimpipeline.")
    files = runner.sources(Settings())
    names = {each.name: each.ispkg for each in found}
    assert names["kimpipeline.commands"] is False
    assert any(names.values())
    for name, is_package in names.items():
        path = f"{runner.HOME}/{name.replace('.', '/')}{'/__init__' if is_package else ''}.py"
        assert path in files


@pytest.mark.commands
@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_every_line(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name.replace("@", "@1")
    # the programs are not on this machine
    words = UNITS[name].read_text()
    for program in (
        "/usr/bin/pipeline-worker",
        "/usr/bin/pipeline-director",
        "/usr/lib/secure/lock",
    ):
        words = words.replace(f"ExecStart={program}", "ExecStart=/bin/true")
    unit.write_text(words)
    argv = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if name.split("@")[0] in line]
    # of systemd 252, which does not know them yet
    assert [line for line in said if "RestartSteps" not in line and "RestartMax" not in line] == []


# Of 10, in systemd's own measure: a service that says nothing of itself has 9.6.
@pytest.mark.commands
@pytest.mark.parametrize(
    ("name", "exposure"), [("pipeline-director.service", 3.0), ("pipeline-worker@.service", 4.0)]
)
def test_little_can_be_done_with_what_breaks_in(name: str, exposure: float) -> None:
    most = f"--threshold={exposure * 10:.0f}"
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", most, str(UNITS[name])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:]


@pytest.mark.parametrize("name", runner.UNITS)
def test_nothing_starts_on_a_root_that_is_not_fresh(name: str) -> None:
    lines = UNITS[name].read_text().splitlines()
    conditions = [line for line in lines if line.startswith("ConditionPathExists=/run")]
    assert conditions == ["ConditionPathExists=/run/resnap/in-snapshot"]
