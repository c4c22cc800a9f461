"""`inv up`, as a new user types it, and what can be done with the box that it starts.

The tests are one walk, in order.
"""

import json
import re
from pathlib import Path

import pytest
from filelock import FileLock

from tasks.hosts.fleet import connected
from tests.boot.lab.box import Box, Ran, command, home_that_knows, status
from tests.hosts.guest import Guest


@pytest.fixture(scope="module")
def up(shared: Path) -> Ran:
    with FileLock(shared / "box.lock"):  # test_pipeline takes the box that this builds
        return command("inv", "up", "--set", "guest.cpus=1", state=shared)


@pytest.fixture(scope="module")
def box(up: Ran, shared: Path) -> Box:
    assert up.code == 0, up.stderr
    guest = Guest.load(shared / "guest")
    return Box(guest, connected(guest))


@pytest.fixture(scope="module", autouse=True)
def _destroyed(shared: Path) -> object:
    yield
    command("inv", "destroy", "--force", state=shared)


def test_up_calculates_silicon_on_a_fresh_box(up: Ran) -> None:
    assert up.code == 0, up.stderr
    assert "a = 5.430950 A, E = -4.336400 eV/atom" in up.stdout
    assert re.search(r"^manifest +[0-9a-f]{64}$", up.stdout, re.MULTILINE)
    assert re.search(r"^verdict +fresh$", up.stdout, re.MULTILINE)
    assert re.search(r"^status +http://127\.0\.0\.1:\d+/$", up.stdout, re.MULTILINE)


def test_manifest_is_the_hash_of_what_the_box_says_it_is(up: Ran, box: Box) -> None:
    digest = box.succeed("sha256sum /etc/pipeline/manifest.json").split()[0]
    assert f"manifest    {digest}" in up.stdout
    manifest = json.loads(box.succeed("cat /etc/pipeline/manifest.json"))
    assert manifest["packages"]["lammps"].startswith("20")


def test_second_provision_changes_nothing_and_does_not_reboot(box: Box, shared: Path) -> None:
    before = box.state.boot_id
    ran = command("inv", "provision", state=shared)
    assert ran.code == 0
    assert "nothing to change" in ran.stdout
    assert box.state.boot_id == before


def test_several_hosts_one_that_fails_stops_no_other(
    box: Box, shared: Path, tmp_path: Path
) -> None:
    login = box.guest.login
    ran = command(
        "fab",
        *("-i", str(login.key)),
        *("-H", f"vagrant@127.0.0.1:1,{login.user}@{login.host}:{login.port}"),
        *("status", "--json"),
        state=shared,
        home=home_that_knows(box, tmp_path),
    )
    assert ran.code == 1
    assert "error: 127.0.0.1:1:" in ran.stderr
    (values,) = json.loads(ran.stdout).values()
    assert values["verdict"]["name"] == "fresh"


@pytest.mark.long
def test_keep_keeps(box: Box, shared: Path) -> None:
    box.succeed("touch /etc/of-this-snapshot")
    assert command("inv", "keep", state=shared).code == 0
    box.host.close()
    assert box.verdict.name == "kept"
    box.succeed("test -e /etc/of-this-snapshot")


@pytest.mark.long
def test_resnap_forgets_and_gives_the_space_back(box: Box, shared: Path) -> None:
    disk = box.guest.machine.disks[0]
    fresh = disk.stat().st_blocks
    box.succeed("touch /etc/of-this-snapshot /persistent/stays")
    box.succeed("dd if=/dev/urandom of=/junk bs=1M count=120 conv=fsync")
    box.succeed("dd if=/dev/urandom of=/persistent/junk bs=1M count=40 conv=fsync")
    assert (disk.stat().st_blocks - fresh) * 512 >= 140 * 2**20
    box.succeed("rm /junk /persistent/junk")
    shrunk = command("inv", "shrink", state=shared)
    assert shrunk.code == 0
    assert "its disk took" in shrunk.stdout

    assert command("inv", "resnap", state=shared).code == 0
    box.host.close()
    box.fail("test -e /etc/of-this-snapshot")
    box.succeed("test -e /persistent/stays")
    values = status(shared)
    assert values["mode"] == "snapshot"
    assert values["initrd_matches"] is True
    assert (disk.stat().st_blocks - fresh) * 512 < 60 * 2**20


def test_halt_and_up_again(box: Box, shared: Path) -> None:
    assert command("inv", "halt", state=shared).code == 0
    assert not box.guest.alive
    missing = command("inv", "status", state=shared)
    assert missing.code == 1
    assert "inv up" in missing.stderr
