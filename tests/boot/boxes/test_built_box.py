"""The box of ``inv box.build`` after its first boot, with nothing but itself.

What Vagrant and UEFI find in a box that is shipped is test_finalize's.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tasks.desk.flags import load
from tests.boot.lab.box import DEADLINE, SMALL, Box
from tests.boot.lab.shipped import HOST_KEYS

# A person at a terminal, as agetty hands it to login.
LOGS_IN = """
import os, pty, time
process, terminal = pty.fork()
if not process:
    os.execl("/usr/bin/login", "login")
def wait(word, said=""):
    while word not in said:
        try:
            said += os.read(terminal, 1000).decode()
        except OSError:  # login hangs up who was there before
            time.sleep(0.1)
for question, answer in ("login:", "vagrant"), ("assword:", "vagrant"), ("$", "echo is $((6*7))"):
    wait(question)
    os.write(terminal, f"{answer}\\n".encode())
wait("is 42")
print("is in")
"""


def measured(page: str) -> dict[str, Any]:
    """What a box that came up a moment ago says of itself."""

    def ask() -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"{page}status.json", timeout=60) as answer:
                content: dict[str, Any] = json.load(answer)
                return content
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it has not measured itself yet
                return None
            raise

    tries = Retrying(
        retry=retry_if_result(lambda found: found is None),
        stop=stop_after_delay(DEADLINE),
        wait=wait_fixed(1),
    )
    found = tries(ask)
    assert found is not None
    return found


def test_first_boot_takes_a_fresh_snapshot(box: Box) -> None:
    assert (box.verdict.name, box.verdict.reason) == ("fresh", "")
    assert box.state.initrd_matches
    assert box.state.snapshot_percent is not None
    box.succeed("findmnt --noheadings /persistent")
    assert box.succeed("swapon --show=NAME --noheadings").strip()


def test_it_starts_anew_when_its_kernel_panics(box: Box) -> None:
    assert box.succeed("cat /proc/sys/kernel/panic").split() == ["10"]


def test_snapshot_cannot_fill(box: Box) -> None:
    origin, cow = (
        int(box.succeed(f"blockdev --getsize64 /dev/mapper/vagrant--pipeline-{name}"))
        for name in ("root", "root_snap-cow")
    )
    chunk = 64 * 1024
    chunks = origin // chunk
    # One chunk of header, then a chunk of 16-byte exceptions before every 4096 chunks of data.
    assert cow >= (1 + chunks + -(-chunks // (chunk // 16))) * chunk


def test_boot_is_out_of_the_snapshots_reach(box: Box) -> None:
    box.fail("mountpoint -q /boot")
    box.fail("run-parts --exit-on-error /etc/kernel/preinst.d")  # no kernel is installed there


def test_nothing_upgrades_the_snapshot(box: Box) -> None:
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        box.fail(f"systemctl is-active {timer}")
        assert box.succeed(f"systemctl is-enabled {timer} || :").strip() == "masked"


def test_it_is_what_its_manifest_says(box: Box) -> None:
    digest = box.succeed("sha256sum /etc/pipeline/manifest.json").split()[0]
    assert box.state.release["MANIFEST"] == digest
    assert (
        box.succeed("timeout 300 systemctl is-system-running --wait || systemctl --failed").strip()
        == "running"
    )


def test_who_has_a_password_gets_in_at_the_console(box: Box) -> None:
    box.succeed("systemctl is-active getty@tty1.service serial-getty@ttyS0.service")
    assert box.succeed(f"timeout 120 python3 -c '{LOGS_IN}'") == "is in\n"


def test_nothing_of_its_making_is_left(box: Box) -> None:
    box.fail("ls /etc/ssh/ssh_host_*_key")
    box.fail("ls /home/*/.bash_history /root/.bash_history /etc/dpkg/dpkg.cfg.d/99mmdebstrap")
    assert box.succeed("ls /persistent/ssh").split() == sorted(HOST_KEYS)


def test_its_status_page_is_seen_from_outside(box: Box) -> None:
    with urllib.request.urlopen(box.guest.page, timeout=60) as page:
        assert b"<title>Pipeline box</title>" in page.read()
    found = measured(box.guest.page)
    assert (found["mode"], found["verdict"]) == ("snapshot", {"name": "fresh"})
    assert found["snapshot_percent"] < 80
    assert found["manifest"] == box.state.release["MANIFEST"]
    assert found["alarms"] == []
    [user] = box.succeed("ps -o uid= -C python3").split()
    units = "-u status-page.service -u status-page-gather.service"
    assert box.succeed(f"journalctl --boot --quiet {units}") == ""
    assert 61184 <= int(user) <= 65519  # systemd's own, for as long as it runs; see DynamicUser=


def test_a_provision_over_ssh_finds_nothing_to_change(box: Box) -> None:
    before = box.state.boot_id
    assert not box.provision().changed
    assert box.state.boot_id == before


def test_its_settings_are_those_of_the_build(box: Box) -> None:
    of_box = load(None, SMALL).of_box()
    assert box.succeed("cat /etc/pipeline/settings.json").strip() == of_box.strip()
    assert box.state.defaults["LVSIZE"] == "100%ORIGIN"
