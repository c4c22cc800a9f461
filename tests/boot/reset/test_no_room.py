"""A box without room, with a /persistent it cannot write, a clock that is off and a DNS that hangs.

The golden root is full too, and so is each snapshot of it. All at once, as none of these hides
another: it comes up, and each is told in the status.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from deploys.facts.status import faults
from tests.boot.conftest import StartBox
from tests.boot.lab.box import Box

pytestmark = pytest.mark.slow

YEARS = 10
# All that is free, to the last block and root's reserve too; nothing of it is written.
_FILL = (
    "cd {0}; for size in 1G 64M 4M 256K 4K; do while "
    "fallocate --offset $(($(stat -c %b filler || echo 0) * 512)) --length $size filler; "
    "do :; done; done 2>/dev/null; sync"
)
# The machine's own clock, which is read at each boot, by RTC_SET_TIME of linux/rtc.h. systemd
# takes back a clock that is more than 15 years ahead of its own release.
_SET_CLOCK = (
    'python3 -c \'import fcntl, struct; fcntl.ioctl(open("/dev/rtc0"), 0x4024700A, '
    'struct.pack("9i", 0, 0, 0, 1, 0, {0} - 1900, 0, 0, 0))\''
)
# A name server that takes each question and answers none, and something to be asked for.
_DEAF = """cd /etc/systemd/network && mkdir -p 80-dhcp.network.d &&
printf '[NetDev]\\nName=deaf\\nKind=dummy\\n' >deaf.netdev &&
printf '[Match]\\nName=deaf\\n[Network]\\nAddress=192.0.2.2/24\\n' >deaf.network &&
printf '[Network]\\nDNS=192.0.2.1\\n[DHCPv4]\\nUseDNS=no\\n' >80-dhcp.network.d/dns.conf &&
mkdir -p /persistent/settings && echo https://git.example.org >/persistent/settings/runsetup"""


@pytest.fixture(scope="module")
def box(start_in_maintenance: StartBox) -> Iterator[Box]:
    with start_in_maintenance() as running_box:
        yield running_box


def test_full_everywhere_and_a_clock_of_another_decade(box: Box) -> None:
    year = time.gmtime().tm_year + YEARS
    # golden: that its /persistent is not written holds from the next boot on
    box.succeed("sed -i '\\|/persistent|s/defaults/ro/' /etc/fstab && grep ' ro' /etc/fstab")
    box.succeed(_DEAF)
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
    assert "ahead of the desk's" in found


def test_a_name_server_that_does_not_answer(box: Box) -> None:
    """The same boot: what is asked of it ends some time, and with it the set-up."""
    assert "192.0.2.1" in box.succeed("resolvectl dns")
    box.succeed(
        "timeout 400 sh -c 'until [ -e /run/provisiond/done ] || "
        "[ -e /run/provisiond/failed ]; do sleep 1; done'"
    )
    assert "cannot reach https://git.example.org/" in box.state.provisiond["reason"]
