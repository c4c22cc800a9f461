"""runsetup, run for real: git repositories by path, a stand-in for the deploys, power cuts."""

from __future__ import annotations

import fcntl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploys.services.provisiond import pinned
from deploys.settings.stack import Stack
from tests.unit.onbox.fakeroot import FakeRoot

RUNSETUP = Path(__file__).parents[4] / "static/onbox/persistent/runsetup"
# What a version of the project does when it is applied: say which it is, then fail or not.
MAIN = """
import pathlib, sys
version = pathlib.Path("deploys/version").read_text()
with open(sys.path[1] + "/applied", "a") as file:
    file.write(version + "\\n")
sys.exit("broken set-up" if "broken" in version else 0)
"""

pytestmark = pytest.mark.commands


def _run(*argv: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=cwd, check=check, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def _project(folder: Path, version: str) -> None:
    (folder / "deploys").mkdir(parents=True, exist_ok=True)
    (folder / "deploys/__init__.py").write_text("")
    (folder / "deploys/__main__.py").write_text(MAIN)
    (folder / "deploys/version").write_text(version)


@dataclass
class Box(FakeRoot):
    """A box below a directory, and the server its set-up comes from."""

    server: Path

    @property
    def repository(self) -> Path:
        return self.server / "openkim-pipeline-setup"

    @property
    def setup(self) -> Path:
        return self.root / "persistent/setup"

    @property
    def mirror(self) -> Path:
        return self.setup / "openkim-pipeline-setup.git"

    @property
    def good(self) -> str:
        return (self.setup / "good").readlink().name

    @property
    def applied(self) -> list[str]:
        """The versions that were applied, in order."""
        return self.lines("opt/pipeline/python/applied")

    def publish(self, version: str, branch: str = "stable") -> str:
        """The commit of a new version on ``branch``."""
        self.repository.mkdir(parents=True, exist_ok=True)
        if not (self.repository / ".git").exists():
            _run("git", "init", "-q", "-b", "stable", cwd=self.repository)
        _run("git", "checkout", "-q", "-B", branch, cwd=self.repository)
        _project(self.repository, version)
        _run("git", "add", "-A", cwd=self.repository)
        identity = ("-c", "user.name=t", "-c", "user.email=t@t")
        _run("git", *identity, "commit", "-qm", version, cwd=self.repository)
        return _run("git", "rev-parse", "HEAD", cwd=self.repository).stdout.strip()

    def pin(self, commit: str, name: str = "openkim-pipeline-setup") -> None:
        """What a provision leaves of the row openkim-pipeline-setup."""
        row = {"source": "git", "location": name, "version": commit}
        stack = Stack.model_validate({"openkim-pipeline-setup": row} if commit else {})
        self.write("etc/pipeline/runsetup", pinned(stack))

    def runsetup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(RUNSETUP, *arguments)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path / "box", tmp_path / "server")
    (box.root / "persistent").mkdir(parents=True)
    (box.root / "opt/pipeline/python").mkdir(parents=True)
    _project(box.root / "opt/pipeline/setup", "bundled")
    return box


def test_the_network_is_awaited_where_one_is_needed(box: Box) -> None:
    """By a systemd that runs; one that has no network, or hangs, keeps nothing from going on."""
    (box.root / "run/systemd/system").mkdir(parents=True)
    box.tool("systemctl", 'echo "$@" >>"$PIPELINE_ROOT/calls"; exit 1')
    box.publish("one")
    assert box.runsetup(str(box.server)).returncode == 0
    assert box.calls == []
    assert box.runsetup("git://127.0.0.1:1/none").returncode == 0
    assert box.calls == ["start network-online.target"]
    assert box.applied == ["one", "one"]


def test_applies_the_branch_and_remembers(box: Box) -> None:
    commit = box.publish("one")
    first = box.runsetup(str(box.server))
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1].startswith(f"runsetup: applied {commit}")
    assert box.good == commit
    assert (box.setup / commit / ".commit").read_text().strip() == commit
    second = box.publish("two")
    assert box.runsetup().returncode == 0
    assert box.applied == ["one", "two"]
    assert sorted(path.name for path in box.setup.iterdir()) == sorted(
        [second, "good", "openkim-pipeline-setup.git"]
    )


def test_takes_another_branch(box: Box) -> None:
    box.publish("one")
    box.publish("new", branch="feature/x")
    assert box.runsetup(str(box.server), "feature/x").returncode == 0
    assert box.runsetup().returncode == 0
    assert box.applied == ["new", "new"]


def test_a_pinned_commit_is_taken_in_place_of_the_branchs_last(box: Box) -> None:
    old = box.publish("one")
    box.publish("two")
    box.pin(old)
    done = box.runsetup(str(box.server))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"runsetup: applied {old}")
    assert box.good == old
    box.server.rename(box.server.with_name("away"))  # nobody need be asked
    again = box.runsetup()
    assert (again.returncode, again.stderr) == (0, "")
    assert box.applied == ["one", "one"]


def test_another_pin_is_another_version_and_none_the_branch(box: Box) -> None:
    commits = [box.publish(version) for version in ("one", "two", "three")]
    for pin in (commits[1], commits[0], ""):
        box.pin(pin)
        assert box.runsetup(str(box.server)).returncode == 0
    assert box.applied == ["two", "one", "three"]
    assert not (box.setup / commits[0]).exists()


@pytest.mark.parametrize("pin", ["other branch", "a" * 40, "b" * 64])
def test_a_pinned_commit_that_the_branch_lacks_is_refused_in_one_line(box: Box, pin: str) -> None:
    box.publish("one")
    elsewhere = box.publish("new", branch="x")
    pin = elsewhere if pin == "other branch" else pin
    box.pin(pin)
    done = box.runsetup(str(box.server), "stable")
    assert done.returncode == 3
    url = f"{box.server}/openkim-pipeline-setup"
    line = f"runsetup: {url} has no commit {pin} in its branch stable"
    instead = "applied /opt/pipeline/setup in its stead"
    assert done.stderr.splitlines() == [
        f"{line}: taking the last that worked",
        f"{line}: {instead}",
    ]
    assert box.applied == ["bundled"]
    assert box.runsetup(str(box.server), "x").returncode == (0 if pin == elsewhere else 3)


def test_a_pinned_commit_without_a_network_is_had_later(box: Box) -> None:
    old = box.publish("one")
    box.publish("two")
    box.pin(old)
    away = box.server.rename(box.server.with_name("away"))
    assert box.runsetup(str(box.server)).returncode == 0
    away.rename(box.server)
    assert box.runsetup().returncode == 0
    assert box.applied == ["bundled", "one"]


def test_the_project_may_have_another_name(box: Box) -> None:
    commit = box.publish("one")
    (box.server / "forks").mkdir()
    box.repository.rename(box.server / "forks/setup")
    box.pin(commit, "forks/setup")
    assert box.runsetup(str(box.server)).returncode == 0
    assert box.applied == ["one"]


def test_bare_repository_named_git(box: Box) -> None:
    box.publish("one")
    _run("git", "clone", "-q", "--bare", "openkim-pipeline-setup", "x.git", cwd=box.server)
    (box.root / "srv").mkdir()
    (box.server / "x.git").rename(box.root / "srv/openkim-pipeline-setup.git")
    assert box.runsetup(str(box.root / "srv")).returncode == 0
    assert box.applied == ["one"]


def test_never_called_has_nothing_to_do(box: Box) -> None:
    done = box.runsetup()
    assert done.returncode == 0
    assert done.stdout == "runsetup: never called with a hostname: nothing to do\n"
    assert box.applied == []


def test_no_network_applies_the_copy_that_worked(box: Box) -> None:
    box.publish("one")
    box.runsetup(str(box.server))
    box.server.rename(box.server.with_name("away"))
    done = box.runsetup()
    assert done.returncode == 0
    assert "cannot reach" in done.stderr
    assert box.applied == ["one", "one"]


def test_no_network_ever_applies_the_bundled_copy_and_tries_again_later(box: Box) -> None:
    done = box.runsetup(str(box.server))
    assert done.returncode == 0
    assert "applied /opt/pipeline/setup in its stead" in done.stderr
    box.publish("one")
    assert box.runsetup().returncode == 0
    assert box.applied == ["bundled", "one"]


def test_nothing_at_all_to_apply(box: Box) -> None:
    (box.root / "opt/pipeline/setup").rename(box.root / "gone")
    done = box.runsetup(str(box.server))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("no copy could be applied")


def test_a_broken_version_falls_back(box: Box) -> None:
    good = box.publish("one")
    box.runsetup(str(box.server))
    broken = box.publish("broken")
    done = box.runsetup()
    assert done.returncode == 3
    assert f"{broken}, stable of" in done.stderr.splitlines()[-1]
    assert box.applied == ["one", "broken", "one"]
    assert box.good == good
    box.publish("three")
    assert box.runsetup().returncode == 0
    assert not (box.setup / broken).exists()


def test_a_broken_first_version_falls_back_to_the_bundled_one(box: Box) -> None:
    box.publish("broken")
    assert box.runsetup(str(box.server)).returncode == 3
    assert box.applied == ["broken", "bundled"]
    assert not (box.setup / "good").is_symlink()


def test_a_branch_that_is_not_there(box: Box) -> None:
    box.publish("one")
    box.publish("trap", branch="x/refs/heads/missing")
    done = box.runsetup(str(box.server), "missing")
    assert done.returncode == 3
    assert "missing" in done.stderr.splitlines()[-1]
    assert box.applied == ["bundled"]


@pytest.mark.parametrize(
    "hostname",
    [
        "",
        "-u/x",
        "--upload-pack=touch pwned",
        "ext::sh -c touch% pwned",
        "ext::touch",
        "fd::3",
        "$(touch pwned)",
        "`touch pwned`",
        "https://a b",
        "https://a\nhttps://b",
        "https://a;touch pwned",
        "ssh://-oProxyCommand=touch",
        "ssh://git@-oProxyCommand=touch",
        "host",
        "../relative",
        "file://host/x",
    ],
)
def test_hostile_hostnames_are_refused_in_one_line(box: Box, hostname: str) -> None:
    done = box.runsetup(hostname, "stable")
    if hostname == "":
        assert "git URL prefix" in done.stderr
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert sorted(path.name for path in box.root.rglob("*") if path.name == "pwned") == []
    assert list((box.root / "persistent").iterdir()) == []


@pytest.mark.parametrize(
    "branch",
    ["", "-d", "a b", "a\nb", "$(id)", "a..b", "a//b", "a/", "/a", "a.lock", "a/.b", "a:b", "@{u}"],
)
def test_hostile_branches_are_refused_in_one_line(box: Box, branch: str) -> None:
    done = box.runsetup(str(box.server), branch)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert list((box.root / "persistent").iterdir()) == []


def test_a_hostile_settings_file_is_refused(box: Box) -> None:
    box.write("persistent/settings/runsetup", "ext::sh -c id\nstable\n")
    assert box.runsetup().returncode == 2


def test_too_many_arguments_and_help(box: Box) -> None:
    assert box.runsetup("/a", "b", "c").returncode == 2
    assert box.runsetup("--help").stdout.startswith("usage: runsetup")


@pytest.mark.parametrize("remnant", ["locks", "part", "empty mirror", "corrupt", "settings"])
def test_a_power_cut_is_healed_by_the_next_run(box: Box, remnant: str) -> None:
    box.publish("one")
    box.runsetup(str(box.server))
    commit = box.publish("two")
    if remnant == "locks":
        for name in ("HEAD.lock", "packed-refs.lock", "refs/heads/stable.lock", "shallow.lock"):
            (box.mirror / name).write_text("")
    elif remnant == "part":
        (box.setup / f"{commit}.part/deploys").mkdir(parents=True)
        (box.setup / f"{commit}.part.index").write_text("half")
        (box.setup / f"{commit}.part.index.lock").write_text("")
        (box.setup / "good.new").symlink_to("nowhere")
        (box.setup / "openkim-pipeline-setup.git.part").mkdir()
    elif remnant == "empty mirror":
        (box.mirror / "HEAD").write_text("")
        (box.mirror / "config").write_text("")
    elif remnant == "corrupt":
        for file in (box.mirror / "objects").rglob("*"):
            if file.is_file():
                file.chmod(0o644)
                file.write_bytes(b"")
    else:
        (box.root / "persistent/settings/runsetup.new").write_text("half")
    done = box.runsetup()
    assert done.returncode == 0, done.stderr
    assert box.applied == ["one", "two"]
    assert box.good == commit


def test_never_twice_at_once(box: Box) -> None:
    box.publish("one")
    (box.root / "run/provisiond").mkdir(parents=True)
    with (box.root / "run/provisiond/runsetup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = box.runsetup(str(box.server))
    assert done.returncode == 4
    assert done.stderr == "runsetup: another runsetup is running\n"
    assert box.applied == []


def test_a_persistent_that_cannot_be_written_applies_the_copy(box: Box) -> None:
    """Root writes to a read-only directory: a file in the place of each stands for the fault."""
    box.publish("one")
    (box.root / "persistent/settings").write_text("")
    (box.root / "persistent/setup").write_text("")
    done = box.runsetup(str(box.server))
    assert done.returncode == 3
    assert "cannot remember" in done.stderr
    assert box.applied == ["bundled"]
