"""A reboot that a program blocks, or that systemd refuses: who is told what, and what is left."""

from __future__ import annotations

import json

import fabric
import pytest

from deploys.errors import DeployError, PreflightError, UnreachableError
from deploys.facts.state import HostState
from tasks.hosts.connection import Host
from tasks.hosts.connection.inhibitors import LIST, blockers

UPGRADE = ["shutdown", "apt get upgrade", "Packages are being installed", "block", 0, 4711]
BACKUP = ["sleep:shutdown", "backup", "The night's backup", "block", 0, 812]
DELAYS = [
    ["shutdown:idle", "unattended", "Stop ongoing upgrades", "delay", 0, 700],
    ["shutdown", "weak", "root may go on", "block-weak", 0, 701],
    ["idle", "player", "a film", "block", 1000, 813],
]
BOOTED = HostState(boot_id="another")
BLOCKED = (
    "apt get upgrade (process 4711): Packages are being installed; "
    "backup (process 812): The night's backup"
)
NEXT = "/usr/lib/resnap/next-boot maintenance"
UNSET = "/usr/lib/resnap/with-boot /usr/lib/resnap/edit-grubenv unset next_entry"


def listed(*rows: object) -> str:
    """As busctl prints it."""
    return json.dumps({"type": "a(ssssuu)", "data": [rows]})


class Scripted(Host):
    """Keeps a record of what is run; ``reboot`` is how ``systemctl reboot`` ends."""

    def __init__(self, listed: str = "", reboot: Exception | None = None, is_: str = "running"):
        super().__init__(fabric.Connection("box"))
        self.record: list[str] = []
        self._listed, self._reboot, self._is = listed, reboot, is_

    def run(self, command: str, *_: object, **__: object) -> str:
        self.record.append(command)
        if command == "systemctl reboot" and self._reboot is not None:
            raise self._reboot
        if command.startswith("systemctl is-system-running"):
            return f"{self._is}\n"
        return self._listed if command == LIST else "1\n"

    def wait_for_boot(self, *_: object) -> HostState:
        self.record.append("waited")
        return BOOTED


@pytest.mark.parametrize("entry", ["maintenance", None])
def test_whoever_blocks_a_reboot_is_named_before_anything_is_set(entry: str | None) -> None:
    host = Scripted(listed(*DELAYS, UPGRADE, BACKUP))
    with pytest.raises(PreflightError) as caught:
        host.reboot(entry, 600)
    assert str(caught.value) == f"box: its reboot is blocked by {BLOCKED}. End that, and try again"
    assert host.record == [LIST]


@pytest.mark.parametrize(
    "said", ["", "no bus", "{}", '{"data": [[["a"]]]}', listed(), listed(*DELAYS)]
)
def test_those_who_only_delay_it_block_nothing(said: str) -> None:
    """Nor does a host that has no such list, or prints nonsense."""
    assert blockers(said) == []
    host = Scripted(said)
    assert host.reboot("maintenance", 600) == BOOTED
    assert host.record[-3:] == [NEXT, "systemctl reboot", "waited"]


@pytest.mark.parametrize(("entry", "undone"), [("maintenance", [UNSET]), (None, [])])
def test_a_refused_reboot_says_so_at_once_and_leaves_nothing(
    entry: str | None, undone: list[str]
) -> None:
    """As when somebody begins to block it in between, or polkit forbids it."""
    refusal = "box: systemctl reboot: exit code 1: Call to Reboot failed: Access denied"
    host = Scripted(reboot=DeployError(refusal))
    with pytest.raises(DeployError) as caught:
        host.reboot(entry, 600)
    assert str(caught.value) == refusal
    assert host.record[host.record.index("systemctl reboot") + 2 :] == undone


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (DeployError("box: systemctl reboot: exit code 143"), "stopping"),
        (UnreachableError("box: the connection broke"), "running"),
    ],
)
def test_a_reboot_that_cuts_its_own_answer_off_is_waited_for(end: Exception, state: str) -> None:
    host = Scripted(reboot=end, is_=state)
    assert host.reboot("maintenance", 600) == BOOTED
    assert UNSET not in host.record
