"""A box without any room, with a /persistent it cannot write and a clock that is off, comes up.

The golden root is full too, and so is each snapshot of it. All at once, as none of these hides
another: each is told in the status.
"""

from __future__ import annotations

import time

from deploys.facts.status import faults
from tests.boot.box import Box

YEARS = 10
# All that is free, to the last block; what is taken at once is not written.
_FILL = (
    "cd {0} && {{ fallocate --length $(($(df --output=avail --block-size=1M . | tail -n 1) - 1))M "
    "filler; dd if=/dev/zero of=filling bs=4k status=none; sync; }} 2>/dev/null || :"
)
# The machine's own clock, which is read at each boot, by RTC_SET_TIME of linux/rtc.h. systemd
# takes back a clock that is more than 15 years ahead of its own release.
_SET_CLOCK = (
    'python3 -c \'import fcntl, struct; fcntl.ioctl(open("/dev/rtc0"), 0x4024700A, '
    'struct.pack("9i", 0, 0, 0, 1, 0, {0} - 1900, 0, 0, 0))\''
)


def test_full_everywhere_and_a_clock_of_another_decade(box: Box) -> None:
    year = time.gmtime().tm_year + YEARS
    box.reboot("maintenance")
    assert box.verdict.name == "golden"
    # golden: that its /persistent is not written holds from the next boot on
    box.succeed("sed -i '\\|/persistent|s/defaults/ro/' /etc/fstab && grep ' ro' /etc/fstab")
    for target in ("/", "/boot", "/persistent"):
        box.succeed(_FILL.format(target))
        box.fail(f"dd if=/dev/zero of={target}/more bs=64k count=1 conv=fsync")
    box.succeed(_SET_CLOCK.format(year))
    box.reboot("resnap")
    assert box.verdict.name == "fresh"
    box.succeed(f"date +%Y | grep {year}")
    box.succeed("systemctl is-active ssh.service || systemctl is-active ssh.socket")
    found = "\n".join(faults(box.state))
    for target in ("/", "/boot", "/persistent"):
        assert f"{target} is full" in found
    assert "/persistent is read-only" in found
    assert "ahead of that of the machine that asks" in found
