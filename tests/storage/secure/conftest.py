"""What the tests of ``secure`` share: each file has a container of its own, from the same root."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.desk import ssh_keys
from tests.storage.gateway.booted import booted
from tests.storage.gateway.gateway import OWNERS, layered
from tests.storage.secure.place import PASSWORD, Place, running


@pytest.fixture(scope="module")
def layers(gateway_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a gateway on which ada has an account, and a user may log in."""
    with layered(gateway_root, tmp_path_factory.mktemp("layers")) as root:
        (root / "home").mkdir(exist_ok=True)
        (root / "boot/grub").mkdir(parents=True, exist_ok=True)
        with booted(root) as first:
            first.run(OWNERS, "add", "ada", stdin=f"{PASSWORD}\n")
            first.run("useradd", "--create-home", "--password", "$6$x$y", "curator")
            first.run("install", "-d", "/home/curator/.ssh")
            first.run("sh", "-c", "echo key >/home/curator/.ssh/authorized_keys")
        yield root


@pytest.fixture(scope="module")
def power() -> Iterator[contextlib.ExitStack]:
    """What is on; to close it is to cut the power."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def place(layers: Path, power: contextlib.ExitStack) -> Place:
    return power.enter_context(running(layers))


@pytest.fixture(scope="module")
def host_key(place: Place) -> str:
    """The gateway's, as its operator reads it to the owners of boxes."""
    return place.box.run(OWNERS, "hostkey").strip()


@pytest.fixture(scope="module")
def operator(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of who may log in as root over the network."""
    home = tmp_path_factory.mktemp("operator")
    ssh, allowed = home / ".ssh", place.root / "root/.ssh/authorized_keys"
    allowed.parent.mkdir(mode=0o700, exist_ok=True)
    allowed.write_text(f"{ssh_keys.make_key(ssh / 'id_ed25519')}\n")
    public = (place.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    (ssh / "known_hosts").write_text(f"10.9.0.2 {public}")
    (ssh / "config").write_text(f"UserKnownHostsFile {ssh}/known_hosts\n")
    return home
