"""runsetup, run for real: git repositories by path, a stand-in for the deploys, power cuts."""

from __future__ import annotations

import fcntl

import pytest

from tests.setup_project import run
from tests.unit.onbox.fakeroot import NO_FOLDERS
from tests.unit.onbox.services.setupbox import SetupBox, box, signer

__all__ = ["box", "signer"]

pytestmark = pytest.mark.commands


def test_the_network_is_awaited_where_one_is_needed(box: SetupBox) -> None:
    """By a systemd that runs; one that has no network, or hangs, keeps nothing from going on."""
    (box.root / "run/systemd/system").mkdir(parents=True)
    box.tool("systemctl", 'echo "$@" >>"$PIPELINE_ROOT/calls"; exit 1')
    box.publish("one")
    assert box.runsetup(str(box.server)).returncode == 0
    assert box.calls == []
    assert box.runsetup("git://127.0.0.1:1/none").returncode == 0
    assert box.calls == ["start network-online.target"]
    assert box.applied == ["one", "one"]


def test_applies_the_branch_and_remembers(box: SetupBox) -> None:
    commit = box.publish("one")
    first = box.runsetup(str(box.server))
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1].startswith(f"runsetup: applied {commit}")
    assert box.good == commit
    second = box.publish("two")
    assert box.runsetup().returncode == 0
    assert box.applied == ["one", "two"]
    assert box.good == second
    assert [path.name for path in box.setup.iterdir()] == ["good.bundle"]
    assert not (box.root / "run/provisiond/setup").exists()


def test_a_repository_of_long_hashes(box: SetupBox) -> None:
    """With a pin, and kept for when the server is away."""
    box.origin.format = "sha256"
    pin = box.publish("one")
    assert len(pin) == 64
    box.publish("two")
    box.pin(pin)
    assert box.runsetup(str(box.server)).returncode == 0
    box.pin("")
    assert box.runsetup().returncode == 0
    box.server.rename(box.server.with_name("away"))
    assert box.runsetup().returncode == 0
    assert box.applied == ["one", "two", "two"]


def test_takes_another_branch(box: SetupBox) -> None:
    box.publish("one")
    box.publish("new", branch="feature/x")
    assert box.runsetup(str(box.server), "feature/x").returncode == 0
    assert box.runsetup().returncode == 0
    assert box.applied == ["new", "new"]


def test_a_pinned_commit_is_taken_in_place_of_the_branchs_last(box: SetupBox) -> None:
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


def test_another_pin_is_another_version_and_none_the_branch(box: SetupBox) -> None:
    commits = [box.publish(version) for version in ("one", "two", "three")]
    for pin in (commits[1], commits[0], ""):
        box.pin(pin)
        assert box.runsetup(str(box.server)).returncode == 0
    assert box.applied == ["two", "one", "three"]


@pytest.mark.parametrize("pin", ["other branch", "a" * 40, "b" * 64])
def test_a_pinned_commit_that_the_branch_lacks_is_refused_in_one_line(
    box: SetupBox, pin: str
) -> None:
    box.publish("one")
    elsewhere = box.publish("new", branch="x")
    pin = elsewhere if pin == "other branch" else pin
    box.pin(pin)
    done = box.runsetup(str(box.server), "stable")
    assert done.returncode == 1
    url = f"{box.server}/openkim-pipeline-setup"
    line = f"runsetup: {url} has no commit {pin} in its branch stable"
    assert done.stderr == f"{line}: nothing is applied in place of {pin}\n"
    assert box.applied == []
    assert box.runsetup(str(box.server), "x").returncode == (0 if pin == elsewhere else 1)


def test_a_pinned_commit_without_a_network_is_had_later(box: SetupBox) -> None:
    old = box.publish("one")
    box.publish("two")
    box.pin(old)
    away = box.server.rename(box.server.with_name("away"))
    assert box.runsetup(str(box.server)).returncode == 1
    away.rename(box.server)
    assert box.runsetup().returncode == 0
    assert box.applied == ["one"]


def test_the_project_may_have_another_name(box: SetupBox) -> None:
    commit = box.publish("one")
    (box.server / "forks").mkdir()
    box.origin.path.rename(box.server / "forks/setup")
    box.pin(commit, "forks/setup")
    assert box.runsetup(str(box.server)).returncode == 0
    assert box.applied == ["one"]


def test_bare_repository_named_git(box: SetupBox) -> None:
    box.publish("one")
    run("git", "clone", "-q", "--bare", str(box.origin.path), str(box.server / "x.git"))
    (box.root / "srv").mkdir()
    (box.server / "x.git").rename(box.root / "srv/openkim-pipeline-setup.git")
    assert box.runsetup(str(box.root / "srv")).returncode == 0
    assert box.applied == ["one"]


def test_never_called_has_nothing_to_do(box: SetupBox) -> None:
    done = box.runsetup()
    assert done.returncode == 0
    assert done.stdout == "runsetup: never called with a hostname: nothing to do\n"
    assert box.applied == []


def test_no_network_applies_the_copy_that_worked(box: SetupBox) -> None:
    box.publish("one")
    box.runsetup(str(box.server))
    box.server.rename(box.server.with_name("away"))
    done = box.runsetup()
    assert done.returncode == 0
    assert "cannot reach" in done.stderr
    assert box.applied == ["one", "one"]


def test_no_network_ever_applies_the_bundled_copy_and_tries_again_later(box: SetupBox) -> None:
    done = box.runsetup(str(box.server))
    assert done.returncode == 0
    assert "applied /opt/pipeline/setup in its stead" in done.stderr
    box.publish("one")
    assert box.runsetup().returncode == 0
    assert box.applied == ["bundled", "one"]


def test_nothing_at_all_to_apply(box: SetupBox) -> None:
    (box.root / "opt/pipeline/setup").rename(box.root / "gone")
    done = box.runsetup(str(box.server))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("no copy could be applied")


def test_a_broken_version_falls_back(box: SetupBox) -> None:
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


def test_a_broken_first_version_falls_back_to_the_bundled_one(box: SetupBox) -> None:
    box.publish("broken")
    assert box.runsetup(str(box.server)).returncode == 3
    assert box.applied == ["broken", "bundled"]
    assert not box.kept.exists()


def test_a_branch_that_is_not_there(box: SetupBox) -> None:
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
def test_hostile_hostnames_are_refused_in_one_line(box: SetupBox, hostname: str) -> None:
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
def test_hostile_branches_are_refused_in_one_line(box: SetupBox, branch: str) -> None:
    done = box.runsetup(str(box.server), branch)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert list((box.root / "persistent").iterdir()) == []


def test_a_hostile_settings_file_is_refused(box: SetupBox) -> None:
    box.write("persistent/settings/runsetup", "ext::sh -c id\nstable\n")
    assert box.runsetup().returncode == 2


def test_too_many_arguments_and_help(box: SetupBox) -> None:
    assert box.runsetup("/a", "b", "c").returncode == 2
    assert box.runsetup("--help").stdout.startswith("usage: runsetup")


@pytest.mark.parametrize("remnant", ["work", "part", "half", "corrupt", "settings", "older"])
def test_a_power_cut_is_healed_by_the_next_run(box: SetupBox, remnant: str) -> None:
    box.publish("one")
    box.runsetup(str(box.server))
    commit = box.publish("two")
    if remnant == "work":
        box.write("run/provisiond/setup/git/HEAD", "half")
    elif remnant == "part":
        for name in ("good.bundle.new", "good.bundle.new.lock"):
            (box.setup / name).write_text("half")
    elif remnant == "half":
        box.kept.write_bytes(box.kept.read_bytes()[:-100])
    elif remnant == "corrupt":
        box.kept.write_bytes(b"")
    elif remnant == "older":
        box.write("persistent/setup/openkim-pipeline-setup.git/HEAD")
        (box.setup / "good").symlink_to("nowhere")
    else:
        (box.root / "persistent/settings/runsetup.new").write_text("half")
    done = box.runsetup()
    assert done.returncode == 0, done.stderr
    assert box.applied == ["one", "two"]
    assert box.good == commit
    assert [path.name for path in box.setup.iterdir()] == ["good.bundle"]


def test_never_twice_at_once(box: SetupBox) -> None:
    box.publish("one")
    (box.root / "run/provisiond").mkdir(parents=True)
    with (box.root / "run/provisiond/runsetup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = box.runsetup(str(box.server))
    assert done.returncode == 4
    assert done.stderr == "runsetup: another runsetup is running\n"
    assert box.applied == []


def test_a_persistent_that_cannot_be_written_keeps_nothing(box: SetupBox) -> None:
    """Root writes to a read-only directory: an mkdir that fails stands for the fault."""
    box.publish("one")
    box.tool("mkdir", NO_FOLDERS)
    done = box.runsetup(str(box.server))
    assert done.returncode == 0
    assert "cannot remember" in done.stderr
    assert "cannot keep" in done.stderr
    assert box.applied == ["one"]
