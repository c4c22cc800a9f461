"""A changed golden root is tried before it is kept; one that does not come up healthy goes back.

One walk, in order: each test goes on from the boot that the last one ended in.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

from deploys.errors import DeployError
from deploys.facts.state import HostState
from deploys.facts.status import faults
from tasks.desk.flags import load
from tasks.desk.progress import HostProgress
from tasks.hosts import versions
from tasks.hosts.connection import Host
from tasks.hosts.provision import Provision, Request
from tests.boot.conftest import StartBox
from tests.boot.lab import rows
from tests.boot.lab.box import SMALL, Box, command, home_that_knows, is_open, until
from tests.unit.tasks.debian import own_tools

pytestmark = pytest.mark.slow

# The kernel finds no init in it: each boot ends in a panic, before anything of the box runs.
BROKEN_INITRD = """for initrd in /boot/initrd.img-*; do
    rm "$initrd" && head -c 1000000 /dev/zero >"$initrd"
done"""
NO_SSHD = "mv /usr/sbin/sshd /usr/sbin/sshd.gone"


@pytest.fixture(scope="module")
def change(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[rows.Change]:
    """Another deadline, and parts of the stack from git, built for this run by this machine."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        own_tools.build(patch)
        with rows.change(folder, rows.write_pure(folder), shared / "bundles") as made:
            # for another deadline the initrds are made anew
            yield replace(made, settings=(*SMALL, "boot.deadline=61", *made.settings))


class Breaking(Provision):
    """A provision whose change is bad, which no check of the golden root finds."""

    bad = ""

    def _check_health(self) -> None:
        super()._check_health()
        self._host.run(f"touch /etc/of-the-bad-change; {self.bad}")


@pytest.fixture(scope="module")
def box(start_in_maintenance: StartBox) -> Iterator[Box]:
    """The first change finds the box in maintenance, the bad ones boot it into it."""
    with start_in_maintenance() as running_box:
        yield running_box


def provision_badly(box: Box, change: rows.Change, bad: str) -> None:
    """Change a setting that needs no new initrd, and break something."""
    progress = HostProgress("box", Progress(disable=True))
    settings = load(overrides=(*change.settings, "jobs.seconds=1800"))
    provision = Breaking(box.host, settings, Request(), progress)
    provision.bad = bad
    provision.run()


def volumes(box: Box) -> dict[str, int]:
    """The sizes of the volumes, in bytes."""
    words = "lvs --noheadings --units b --nosuffix --options lv_name,lv_size vagrant-pipeline"
    rows = (line.split() for line in box.succeed(words).splitlines())
    return {name: int(size) for name, size in rows}


def environment(box: Box) -> str:
    return box.succeed("unshare --mount sh -c 'mount /boot && cat /boot/grub/grubenv'")


def files_of_boot(box: Box) -> str:
    """What is in /boot, and the sums of what is started."""
    words = "find . -type f ! -name grubenv -exec sha256sum {} + | sort -k 2"
    mounted = "mountpoint -q /boot || mount /boot"
    return box.succeed(f"unshare --mount sh -c '{mounted} && cd /boot && {words}'")


@pytest.fixture
def refused(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a second operator is told, who wants a rollback when a boot of the first's has come up.

    It is the first's ``wait_for_boot`` that lets him go first.
    """
    home, login, said = home_that_knows(box, tmp_path), box.guest.login, list[str]()
    where = ("-i", str(login.key), "-H", f"{login.user}@{login.host}:{login.port}")
    wait = Host.wait_for_boot

    def ask() -> bool:
        ran = command("fab", *where, "rollback", "--force", state=home, home=home)
        said[:] = [str(ran.code), ran.stderr]
        return "is not let in" not in ran.stderr  # users are, a little later than sshd is there

    def second_first(host: Host, *words: Any, **more: Any) -> HostState:
        host.close()
        until(lambda: not is_open(box.guest))
        until(lambda: is_open(box.guest))
        until(ask)
        return wait(host, *words, **more)

    monkeypatch.setattr(Host, "wait_for_boot", second_first)
    return said


def test_a_change_that_comes_up_healthy_is_kept(
    box: Box, change: rows.Change, refused: list[str]
) -> None:
    sizes, before = volumes(box), files_of_boot(box)
    manifest = box.state.release["MANIFEST"]
    with box.host.locked("provision"):
        assert box.provision(*change.settings).changed
    change.server.close()
    code, line = refused
    assert code == "1"
    assert f"{getpass.getuser()}@{socket.gethostname()} changes it: provision, since 20" in line
    assert "and has it boot; try again when that has ended" in line
    state = box.state
    assert (state.verdict and state.verdict.name, state.in_trial) == ("fresh", False)
    assert state.rolled_back is None
    version = versions.versions(box.host)[0]
    assert version.manifest == manifest
    assert volumes(box).pop(version.name) < sizes["root"] // 4
    # what LVM makes larger it gives no room for tables: the next reset makes it whole
    assert volumes(box)["root_snap"] == sizes["root"]
    others = ("persistent", "root", "swap")
    assert {name: volumes(box)[name] for name in others} == {name: sizes[name] for name in others}
    assert "trial" not in environment(box)
    assert files_of_boot(box) != before
    assert "grub/safety" not in files_of_boot(box)
    rows.assert_has(box, change.commits)
    assert not box.provision(*change.settings).changed


def test_one_that_never_comes_up_goes_back_with_its_boot_files(
    box: Box, change: rows.Change
) -> None:
    manifest, before = box.state.release["MANIFEST"], files_of_boot(box)
    why = "none of its boots came up healthy"
    with pytest.raises(DeployError, match=f"the change was rolled back: {why}"):
        provision_badly(box, change, BROKEN_INITRD)
    assert_as_before(box, change, manifest, before)
    assert why in "\n".join(faults(box.state))


@pytest.mark.long
def test_one_that_locks_us_out_goes_back(box: Box, change: rows.Change) -> None:
    manifest, before = box.state.release["MANIFEST"], files_of_boot(box)
    with pytest.raises(DeployError, match="rolled back: SSH does not answer"):
        provision_badly(box, change, NO_SSHD)
    assert_as_before(box, change, manifest, before)


def test_an_earlier_version_is_gone_back_to_by_hand(box: Box) -> None:
    """The one of before the first test, with an initrd of its own."""
    now = box.state.release["MANIFEST"]
    [version] = versions.versions(box.host)
    assert version.manifest != now
    box.succeed("touch /etc/of-this-snapshot")
    progress = HostProgress("box", Progress(disable=True))
    state = versions.roll_back(box.host, progress)
    assert state.release["MANIFEST"] == version.manifest
    assert state.initrd_matches
    assert faults(state) == []
    assert versions.versions(box.host) == []
    rows.assert_lacks_pure(box)
    box.fail("test -e /etc/of-this-snapshot")
    assert sorted(volumes(box)) == ["persistent", "root", "root_snap", "swap"]


@pytest.mark.long
def test_what_was_changed_in_a_snapshot_is_promoted(box: Box) -> None:
    before = box.state.release["MANIFEST"]
    box.succeed("echo by hand >/etc/promoted; sync")
    progress = HostProgress("box", Progress(disable=True))
    state = versions.promote(box.host, progress)
    assert state.release["MANIFEST"] != before
    assert box.succeed("cat /etc/promoted") == "by hand\n"
    assert [version.manifest for version in versions.versions(box.host)] == [before]
    assert state.verdict
    assert state.verdict.name == "fresh"


def assert_as_before(box: Box, change: rows.Change, manifest: str, boot: str) -> None:
    assert box.verdict.name == "fresh"
    assert box.state.initrd_matches
    box.fail("test -e /etc/of-the-bad-change")
    assert box.state.release["MANIFEST"] == manifest
    assert files_of_boot(box) == boot
    assert "trial" not in environment(box)
    assert "root_safety" not in volumes(box)
    assert not box.provision(*change.settings).changed
