"""The host keys of a box: made once, the same after each reset, there without /persistent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import FakeRoot

SCRIPT = ONBOX / "usr/lib/host-keys/host-keys"
NAMES = {f"ssh_host_{kind}_key{suffix}" for kind in ("ed25519", "ecdsa") for suffix in ("", ".pub")}

pytestmark = pytest.mark.commands


def boot(root: Path, *, mounted: bool = True, given: Path | None = None) -> dict[str, str]:
    """Run it on a fake box with an empty /run; the keys that sshd then finds."""
    box = FakeRoot(root)
    box.tool("mountpoint", f"exit {0 if mounted else 1}")
    (root / "run").mkdir(exist_ok=True)
    credentials = {"CREDENTIALS_DIRECTORY": str(given)} if given else {}
    assert box.run(SCRIPT, **credentials).returncode == 0
    keys = root / "run/host-keys"
    assert all(file.stat().st_mode & 0o077 == 0 for file in keys.glob("*_key"))
    return {file.name: file.read_text() for file in keys.iterdir()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "persistent").mkdir()
    return tmp_path


def test_keys_are_made_once_and_stay(root: Path) -> None:
    first = boot(root)
    assert set(first) == NAMES
    assert boot(root) == first


def test_what_a_power_cut_left_is_made_anew(root: Path) -> None:
    half = root / "persistent/ssh.new"
    half.mkdir()
    (half / "ssh_host_ed25519_key").write_text("half")
    assert set(boot(root)) == NAMES
    assert not half.exists()


@pytest.mark.parametrize("place", ["ssh_host_ed25519_key", "ssh_host_ecdsa_key.pub", "more", ""])
@pytest.mark.parametrize("form", ["link", "fifo"])
def test_what_is_no_key_of_roots_is_made_anew(root: Path, place: str, form: str) -> None:
    first = boot(root)
    at, other = root / "persistent/ssh" / place, root / "other"
    if at.is_dir():
        at.rename(other)
    else:
        at.unlink(missing_ok=True)
        other.write_text("another's")
    if form == "fifo":
        os.mkfifo(at)
    else:
        at.symlink_to(other)
    made = boot(root)
    assert set(made) == NAMES
    assert made != first
    assert boot(root) == made


def test_without_persistent_there_are_keys_for_this_boot(root: Path) -> None:
    kept = boot(root)
    other = boot(root, mounted=False)
    assert set(other) == NAMES
    assert other != kept
    assert boot(root) == kept


def test_a_key_that_the_machine_was_given_is_its_only_one(root: Path, tmp_path: Path) -> None:
    kept = boot(root)
    given = tmp_path / "credentials"
    given.mkdir()
    assert boot(root, given=given) == kept
    (given / "ssh_host_ed25519_key").write_text("given\n")
    assert boot(root, given=given) == {"ssh_host_ed25519_key": "given\n"}
    assert boot(root) == kept
