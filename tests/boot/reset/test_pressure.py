"""A snapshot smaller than its origin fills up: it is told, reset in order, or when it is too late.

One walk, in order: each test goes on from the boot that the last one ended in.
"""

from __future__ import annotations

import json

import pytest

from deploys.facts.status import faults
from tests.boot.lab.box import DEADLINE, Box

pytestmark = pytest.mark.slow

SIZE = 320  # MiB, of the snapshot
_LESS = f"""unshare --mount sh -c 'mount /boot &&
sed -i "s/lvsize=[^ ]*/lvsize={SIZE}M/" /boot/grub/grub.cfg && sync'"""
# Stands for a worker that has a job: it ends when it is told that no more is to be taken.
_WORKER = """cat >/run/systemd/system/pipeline-worker@test.service <<'END'
[Service]
ExecStart=sh -c 'until [ -e /run/resnap/drain ]; do sleep 1; done; echo done >/persistent/job; sync'
END
systemctl daemon-reload && systemctl start pipeline-worker@test"""
# A snapshot's blocks are taken as a file is written out.
_WRITE = "dd if=/dev/zero of=/var/fill bs=1M count={0} oflag=append conv=notrunc,fsync status=none"


def fill_to(box: Box, percent: float) -> None:
    """Write until so much of the snapshot is taken."""
    now = box.state.snapshot_percent
    assert now is not None
    box.succeed(_WRITE.format(round((percent - now) * SIZE / 100)))


def test_the_second_boot_resets_and_is_the_same_host(box: Box) -> None:
    disk = box.guest.machine.disks[0]
    before = disk.stat().st_blocks
    box.succeed("dd if=/dev/urandom of=/root/junk bs=1M count=200 conv=fsync status=none")
    assert (disk.stat().st_blocks - before) * 512 >= 190 * 2**20
    box.succeed(f"touch /persistent/kept; {_LESS}")
    machine = box.succeed("cat /etc/machine-id").strip()
    assert len(machine) == 32
    state = box.reboot()  # its host key is checked against what was seen at the first boot
    assert state.verdict is not None
    assert state.verdict.name == "fresh"
    assert box.succeed("cat /etc/machine-id").strip() == machine
    box.fail("test -e /root/junk")
    box.succeed("test -e /persistent/kept")
    assert (disk.stat().st_blocks - before) * 512 < 150 * 2**20  # what was junk is free


def test_from_80_percent_on_it_is_told(box: Box) -> None:
    fill_to(box, 86)
    assert "% full" in "\n".join(faults(box.state))
    said = "journalctl --unit resnap-pressure --output cat | grep 'at 95 % the box resets'"
    box.succeed(f'timeout 60 sh -c "until {said}; do sleep 1; done"')
    box.succeed("systemctl start status-page-gather")
    page = json.loads(box.succeed("cat /run/pipeline/status.json"))
    assert "% full" in str(page["alarms"])


def test_from_95_percent_on_it_resets_when_its_workers_are_done(box: Box) -> None:
    box.succeed(_WORKER)
    before = box.state.boot_id
    fill_to(box, 96)
    state = box.host.wait_for_boot(before, DEADLINE)
    assert state.verdict is not None
    assert state.verdict.name == "fresh"
    assert box.succeed("cat /persistent/job") == "done\n"
    box.fail("test -e /var/fill")
    assert "the snapshot filled up and was reset, within a day: 1" in faults(state)
    assert "overflowed" not in box.succeed("cat /run/resnap/fresh")


@pytest.mark.long
def test_what_fills_it_at_once_ends_in_a_fresh_one_too(box: Box) -> None:
    box.succeed("head -c 1000000 /dev/urandom >/persistent/kept; sync /persistent/kept")
    kept = box.succeed("sha256sum /persistent/kept")
    before = box.state.boot_id
    box.succeed("systemd-run --quiet sh -c 'exec cat /dev/zero >/var/fill'")
    state = box.host.wait_for_boot(before, DEADLINE)
    assert state.verdict is not None
    assert state.verdict.name == "fresh"
    box.succeed("grep overflowed=yes /run/resnap/fresh")
    assert box.succeed("sha256sum /persistent/kept") == kept
    told = "until [ $(wc -l </persistent/log/overfull) = 2 ]; do sleep 1; done"
    box.succeed(f"timeout 60 sh -c '{told}'")
    assert "the snapshot filled up and was reset, within a day: 2" in faults(box.state)
