"""A box that was secured, attacked from its network, its console and by what systemd starts.

Each attack is first made on the open box, where it works. The tests are one walk, in order.
"""

from __future__ import annotations

import contextlib
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from deploys.services import secure
from tests.storage.secure.place import Console, Place, closed, running
from tests.storage.secure.sockets import LISTEN, documented, listening

pytestmark = pytest.mark.boot  # of systemd, in a container

RESCUES = ("debug-shell.service", "emergency.service", "rescue.service")
# Of a unit that only tells that it was started.
TELLS = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
# Whoever is at the console is root, as an administrator may have wished.
AUTOLOGIN = "[Service]\nExecStart=\nExecStart=-/bin/sh -i\n"
RESCUE = "[Service]\nExecStart=\nExecStart=/bin/true\nRestart=no\nRemainAfterExit=yes\n"
RESCUE += "StandardInput=null\n"
GENERATE = """
    mkdir -p /run/made /run/systemd/system
    /usr/lib/systemd/system-generators/systemd-ssh-generator /run/made /run/made /run/made
    cp /run/made/sshd-*.socket /run/made/sshd-*@.service /run/systemd/system/
    systemctl daemon-reload
"""
LOCAL = "sshd-unix-local.socket"


def networks() -> list[str]:
    """The units that set up a network, by the table; an instance of a template."""
    units = (unit for unit, lines in secure.DROP_INS.items() if lines.startswith("Requires="))
    return [unit.replace("@.", "@early0.") for unit in units]


@pytest.fixture(scope="module")
def console() -> Console:
    return Console()


@pytest.fixture(scope="module")
def place(layers: Path, console: Console, power: contextlib.ExitStack) -> Place:
    """The box before it is secured; in its golden root lies what attacks it at each boot."""
    system = layers / "etc/systemd/system"
    for unit in RESCUES:
        (system / f"{unit}.d/test.conf").write_text(RESCUE)
    (system / "console-getty.service.d/autologin.conf").write_text(AUTOLOGIN)
    wants = system / "multi-user.target.wants"
    for unit in networks():
        template = re.sub(r"@.*\.", "@.", unit)
        (system / template).write_text(TELLS)
        (wants / unit).symlink_to(system / template)
    return power.enter_context(running(layers, console.path))


def starts(place: Place, unit: str) -> bool:
    """Whether a unit is up when root has said that it, and it alone, is to start."""
    place.box.run("systemctl", "start", "--job-mode=ignore-dependencies", unit, check=False)
    return is_up(place, unit)


def test_each_attack_works_on_an_open_box(place: Place, console: Console, operator: Path) -> None:
    assert place.lets_in(operator)
    assert console.has_a_shell()
    assert [unit for unit in networks() if not is_up(place, unit)] == []
    place.box.run("sh", "-c", GENERATE)
    place.box.run("systemctl", "start", LOCAL)
    assert "/run/ssh-unix-local/socket" in listens_at(place)
    place.box.run("touch", "/dev/tty9")  # of the debug shell
    assert [unit for unit in RESCUES if not starts(place, unit)] == []


def test_all_of_them_end_with_the_sessions(place: Place, console: Console, host_key: str) -> None:
    done = place.secure_director(host_key)
    assert done.returncode == 0, done.stderr
    place.box.succeeds("! pgrep '^(sshd|agetty)'")
    place.box.shows("console-getty.service", "ActiveState", "inactive")
    closed(place)
    assert not console.has_a_shell(5)
    for unit in (LOCAL, "console-getty.service"):
        assert not starts(place, unit), unit


def is_up(place: Place, unit: str) -> bool:
    return place.box.property(unit, "ActiveState") == "active"


def listens_at(place: Place) -> set[str]:
    return listening(place.box.run(*LISTEN.split()).splitlines())


@pytest.fixture(scope="module")
def secured(layers: Path, console: Console, power: contextlib.ExitStack) -> Place:
    """The box after its reset: GRUB gives the kernel the argument."""
    power.close()
    return power.enter_context(running(layers, console.path, "secured"))


def test_after_its_reset_it_listens_where_the_docs_say(secured: Place) -> None:
    closed(secured)
    found = listens_at(secured) - {"tcp 8080"}  # of the test
    assert "tcp 14178" in found
    assert [one for one in found if not any(fnmatch(one, name) for name in documented())] == []


def test_nor_does_it_listen_for_names_of_the_local_network(secured: Place) -> None:
    file, resolved = f"/{secure.LLMNR}", "systemd-resolved.service"
    secured.box.run("mv", file, f"{file}.off")
    secured.box.run("systemctl", "restart", resolved)
    without = listens_at(secured)
    secured.box.run("mv", f"{file}.off", file)
    secured.box.run("systemctl", "restart", resolved)
    assert {"tcp 5355", "udp 5355"} <= without
    assert not {"tcp 5355", "udp 5355"} & listens_at(secured)


def test_after_its_reset_no_attack_works(secured: Place, console: Console) -> None:
    assert not console.has_a_shell(2)
    secured.box.run("sh", "-c", GENERATE)
    for unit in (LOCAL, *RESCUES, "console-getty.service", "ssh.service"):
        assert not starts(secured, unit), unit
    assert [unit for unit in networks() if is_up(secured, unit)] == networks()


@pytest.mark.parametrize("fault", ["no nft", "rules that are none"])
def test_without_a_firewall_it_has_no_network_and_says_so(
    layers: Path, console: Console, power: contextlib.ExitStack, fault: str
) -> None:
    """Neither what a manager sets up, nor what an initramfs left."""
    power.close()
    file, text = {
        "no nft": (layers / "usr/sbin/nft", None),
        "rules that are none": (layers / "usr/lib/secure/firewall.nft", "table inet {\n"),
    }[fault]
    whole, mode = file.read_bytes(), file.stat().st_mode
    file.unlink() if text is None else file.write_text(text)
    try:
        place = power.enter_context(running(layers, console.path, "secured"))
        line = "this box is not shut off, and has no network: failed were load_rules"
        assert console.says(line)
        assert [unit for unit in networks() if is_up(place, unit)] == []
        early = place.box.run("ip", "-brief", "link", "show", "early0").split()
        assert early[1] == "DOWN"
        assert not starts(place, "ssh.service")
        assert not console.has_a_shell(2)
    finally:
        file.write_bytes(whole)
        file.chmod(mode)
