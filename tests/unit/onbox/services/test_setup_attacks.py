"""The attacks on what a box runs as root at boot, against runsetup and a real git daemon."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.setup_project import NAME, Repository, Signer, run, served
from tests.unit.onbox.services.setupbox import SetupBox, box, project, signer

__all__ = ["box", "signer"]

pytestmark = pytest.mark.commands


@pytest.fixture
def at(box: SetupBox) -> Iterator[str]:
    """Where the box fetches: the address that an attacker answers at, too."""
    box.server.mkdir()
    with served(box.server) as prefix:
        yield prefix


def _evil(box: SetupBox, signer: Signer | None) -> Repository:
    """Another repository in the place of the real one."""
    shutil.rmtree(box.origin.path)
    evil = Repository(box.origin.path, signer)
    project(evil.path, "evil")
    evil.commit("evil")
    return evil


def test_another_repository_at_the_same_address(box: SetupBox, at: str, tmp_path: Path) -> None:
    good = box.publish("one")
    assert box.runsetup(at).returncode == 0
    for other in (
        None,
        Signer(tmp_path / "others", "ada"),
    ):  # unsigned; of a key that is not listed
        _evil(box, other)
        done = box.runsetup()
        assert done.returncode == 3
        assert "is not signed by any of " in done.stderr
        assert f"applied {good} in its stead" in done.stderr
    assert box.applied == ["one"] * 3
    assert box.good == good


def test_a_signed_commit_of_another_repository(box: SetupBox, at: str) -> None:
    box.publish("one")
    box.runsetup(at)
    _evil(box, box.signer)
    done = box.runsetup()
    assert done.returncode == 3
    assert "does not come after" in done.stderr
    assert box.applied == ["one", "one"]


def test_an_unsigned_commit_on_top_of_signed_ones(box: SetupBox, at: str) -> None:
    box.publish("one")
    box.origin.signer = None
    box.publish("two")
    assert box.runsetup(at).returncode == 3
    assert box.applied == ["bundled"]


def test_a_branch_that_was_set_back(box: SetupBox, at: str) -> None:
    old = box.publish("one")
    new = box.publish("two")
    assert box.runsetup(at).returncode == 0
    box.origin.git("reset", "-q", "--hard", old)
    done = box.runsetup()
    assert done.returncode == 3
    assert f"{old}, stable of {at}/{NAME}, does not come after {new}" in done.stderr
    assert box.applied == ["two", "two"]
    box.pin(old)  # the operator's word
    assert box.runsetup().returncode == 0
    assert box.applied[-1] == "one"
    box.pin("")  # from there on it goes forward again
    assert box.runsetup().returncode == 0
    assert box.applied[-1] == "one"


def test_what_worked_last_was_evil(box: SetupBox) -> None:
    """As a box without signers may have it, before its provision gives it some."""
    box.provision()
    box.publish("one")
    _evil(box, None)
    assert box.runsetup(f"file://{box.server}").returncode == 0
    box.provision(signers=(box.signer.line,))
    shutil.rmtree(box.origin.path)
    done = box.runsetup()
    assert "good.bundle: the commit " in done.stderr
    assert done.returncode == 0
    assert box.applied == ["evil", "bundled"]


@pytest.mark.parametrize("is_away", [False, True])
def test_a_pin_bars_what_worked_last(box: SetupBox, at: str, is_away: bool) -> None:
    """And each other commit: nothing is applied, and the set-up has failed."""
    box.publish("one")
    box.runsetup(at)
    box.pin("c" * 40)
    if is_away:
        shutil.rmtree(box.origin.path)
    done = box.runsetup()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f": nothing is applied in place of {'c' * 40}")
    assert box.applied == ["one"]


def test_a_pinned_commit_must_be_signed_too(box: SetupBox, at: str) -> None:
    box.origin.signer = None
    box.pin(box.publish("one"))
    assert box.runsetup(at).returncode == 1
    assert box.applied == []


def test_a_pinned_commit_that_fails_bars_the_others_too(box: SetupBox, at: str) -> None:
    box.pin(box.publish("broken"))
    assert box.runsetup(at).returncode == 1
    assert box.applied == ["broken"]


def test_a_folder_with_the_name_of_the_wanted_commit(box: SetupBox, at: str) -> None:
    pin = box.publish("one")
    for name in (pin, "good", f"{NAME}.git"):
        project(box.setup / name, "evil")
    box.pin(pin)
    assert box.runsetup(at).returncode == 0
    assert box.applied == ["one"]
    assert [path.name for path in box.setup.iterdir()] == ["good.bundle"]


@pytest.mark.parametrize("scheme", ["git", "http"])
def test_a_server_that_anybody_can_be_needs_signers_or_a_pin(box: SetupBox, scheme: str) -> None:
    box.provision()
    done = box.runsetup(f"{scheme}://127.0.0.1:1")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "give the box signers (setup.signers), pin a commit, or use https" in done.stderr
    assert not list((box.root / "persistent").iterdir())
    for given in ({"pin": "a" * 40}, {"signers": (box.signer.line,)}):
        box.provision(**given)
        assert box.runsetup(f"{scheme}://127.0.0.1:1").returncode < 2
    box.provision()
    assert box.runsetup("ssh://127.0.0.1:1").returncode == 0  # the copy, as it is away


def test_a_pin_alone_is_enough_for_a_server_that_anybody_can_be(box: SetupBox, at: str) -> None:
    box.origin.signer = None
    pin = box.publish("one")
    box.provision(pin)
    assert box.runsetup(at).returncode == 0
    _evil(box, None)
    assert box.runsetup().returncode == 0
    assert box.applied == ["one", "one"]


@pytest.mark.parametrize("option", ['valid-before="20200101"', 'valid-after="20990101"'])
def test_a_key_signs_only_while_it_is_valid(box: SetupBox, at: str, option: str) -> None:
    name, _, key = box.signer.line.split(" ", 2)
    box.provision(signers=(f"{name} {option} {key}",))
    box.publish("one")
    assert box.runsetup(at).returncode == 3
    assert box.applied == ["bundled"]


def test_both_keys_count_until_the_old_one_is_removed(
    box: SetupBox, at: str, tmp_path: Path
) -> None:
    new = Signer(tmp_path / "new", "ada-2027")
    box.publish("one")
    box.provision(signers=(box.signer.line, new.line))
    assert box.runsetup(at).returncode == 0
    box.origin.signer = new
    box.publish("two")
    assert box.runsetup().returncode == 0
    box.provision(signers=(new.line,))
    assert box.runsetup().returncode == 0
    box.origin.signer = box.signer
    box.publish("three")
    assert box.runsetup().returncode == 3
    assert box.applied == ["one", "two", "two", "two"]


def _hostile_git(folder: Path) -> None:
    """Make a repository one that runs a program wherever git lets its configuration name one."""
    run("git", "init", "-q", "--bare", str(folder))
    pwn = f"touch {folder.parent}/pwned"
    for name in (
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "uploadpack.packObjectsHook",
        "gpg.ssh.program",
        "core.alternateRefsCommand",
        "core.gitProxy",
        "core.askPass",
    ):
        run("git", f"--git-dir={folder}", "config", name, pwn)
    run("git", f"--git-dir={folder}", "config", "core.hooksPath", str(folder / "hooks"))
    for name in ("post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"):
        hook = folder / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\n{pwn}\n")
        hook.chmod(0o755)


def test_a_hostile_repository_around_the_caller_and_in_the_cache(box: SetupBox, at: str) -> None:
    box.publish("one")
    for folder in ("persistent/setup/openkim-pipeline-setup.git", "persistent/setup/git", ".git"):
        (box.root / folder).parent.mkdir(parents=True, exist_ok=True)
        _hostile_git(box.root / folder)
    signers = box.write("signers", "")
    hostile = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": str(box.root / ".git/hooks"),
        "GIT_DIR": str(box.root / ".git"),
        "GIT_SSH_COMMAND": "touch pwned",
        "GIT_TEMPLATE_DIR": str(box.root / ".git"),
        "GIT_EXEC_PATH": str(signers.parent),
        "GIT_OBJECT_DIRECTORY": str(box.root / ".git/objects"),
    }
    done = box.runsetup(at, **hostile)
    assert done.returncode == 0, done.stderr
    assert box.applied == ["one"]
    assert not list(box.root.rglob("pwned"))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    there = path.with_name("elsewhere")
    path.rename(there)
    path.symlink_to(there)


def _gitfile(path: Path) -> None:
    """To git a file like this is a repository; fetching from it would run what that names."""
    _hostile_git(path.with_name("repository"))
    path.write_text(f"gitdir: {path.with_name('repository')}\n")


def _writable(path: Path) -> None:
    path.chmod(0o666)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("setup/good.bundle", _fifo),
        ("setup/good.bundle", _link),
        ("setup/good.bundle", _gitfile),
        ("setup/good.bundle", _writable),
        ("settings/runsetup", _fifo),
    ],
)
def test_what_is_no_plain_data_of_roots_is_not_read(
    box: SetupBox, at: str, name: str, form: Callable[[Path], None]
) -> None:
    box.publish("one")
    box.runsetup(at)
    form(box.root / "persistent" / name)
    shutil.rmtree(box.origin.path)
    done = box.runsetup()
    if name == "setup/good.bundle":
        assert (done.returncode, box.applied) == (0, ["one", "bundled"])
    else:
        assert (done.returncode, box.applied) == (0, ["one"])  # as if it was never told one
    assert not list((box.root / "persistent").rglob("pwned"))


def test_objects_in_the_bundle_that_are_not_what_their_names_say(box: SetupBox, at: str) -> None:
    """One byte of the kept commit is another, under the checksum that fits."""
    pin = box.publish("one")
    box.pin(pin)
    box.runsetup(at)
    evil = box.server / "evil"
    project(evil, "evil")
    other = Repository(evil).commit("evil")
    bundle = box.kept.with_name("other")
    run("git", "-C", str(evil), "bundle", "create", "-q", str(bundle), "stable")
    line = box.kept.read_bytes().split(b"\n")[1]
    content = bundle.read_bytes()
    head = f"{other} refs/heads/stable".encode()
    assert head in content
    box.kept.write_bytes(content.replace(head, line))
    bundle.unlink()
    shutil.rmtree(box.origin.path)
    assert box.runsetup().returncode == 1
    assert box.applied == ["one"]
