"""secure under a real systemd, with a real sshd, queue and firewall: what it asks, what it keeps.

One container is the gateway and the box that is given its part; it is seen from outside through a
network of its own. The tests are one walk, in order: nothing opens the box again.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.box import ROLES
from deploys.operations.manifest import RELEASE
from deploys.operations.onbox import ONBOX
from deploys.services.secure import SECURE
from tasks.desk.places import ROOT
from tests.storage.secure.place import PASSWORD, SITE, Place, Terminal, closed, running

pytestmark = pytest.mark.boot  # of systemd, in a container

# What secure could change, in a form that can be compared.
LOOK = """
    find /persistent/pipeline /persistent/settings /boot -type f -exec sha256sum {} + | sort
    cat /etc/shadow; nft list ruleset; cat /home/curator/.ssh/* /root/.ssh/*
    systemctl is-active ssh.service pipeline-tunnel.service pipeline-director.service
    systemctl is-enabled pipeline-director.service
    ls /run/secured; true
"""


def test_it_is_open_before(place: Place) -> None:
    assert place.scan() == "[22, 8080, 14178]"


@pytest.mark.parametrize(
    ("changed", "password", "line"),
    [
        ({}, "another word", "does not let ada in: the username or the password is wrong"),
        ({"--username": "nobody-here"}, PASSWORD, "does not let nobody-here in: the username or"),
        ({"--site": "127.0.0.1:9"}, PASSWORD, "127.0.0.1:9 cannot be reached: Connection refused"),
        ({"--site": "no.such.site.invalid"}, PASSWORD, "no.such.site.invalid cannot be reached"),
        ({"--site": "-oProxyCommand=id"}, PASSWORD, "is no site: write HOST or HOST:PORT"),
        ({"--site": "a b"}, PASSWORD, "is no site: write HOST or HOST:PORT"),
        ({"--site": "127.0.0.1:99999"}, PASSWORD, "there is no port 99999"),
        ({"--username": "a\nb"}, PASSWORD, "is no username"),
        ({"--username": "$(id)"}, PASSWORD, "is no username"),
        ({"--role": "gateway"}, PASSWORD, f"'gateway' is none of {', '.join(ROLES)}"),
        ({"--host-key": "SHA256:other"}, PASSWORD, "not SHA256:other"),
        ({}, "", "a password has 1 to 256 characters"),
        ({}, "x" * 300, "a password has 1 to 256 characters"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    place: Place, host_key: str, changed: dict[str, str], password: str, line: str
) -> None:
    words = {
        "--role": "director",
        "--site": SITE,
        "--username": "ada",
        "--host-key": host_key,
        **changed,
    }
    before = place.box.run("sh", "-c", LOOK)
    told = place.secure(*("=".join(pair) for pair in words.items()), password=password)
    assert told.returncode == 1
    assert line in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert place.box.run("sh", "-c", LOOK) == before


def test_a_queue_that_is_away_is_seen_before_anything_is_kept(place: Place, host_key: str) -> None:
    before = place.box.run("sh", "-c", LOOK)
    place.box.run("systemctl", "stop", "pipeline-database.service")
    words = ("--role", "director", "--site", SITE, "--username", "ada", "--host-key", host_key)
    told = place.secure(*words)
    place.box.run("systemctl", "start", "pipeline-database.service")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == "secure: the queue of 127.0.0.1 does not answer: try again later\n"
    assert place.box.run("sh", "-c", LOOK) == before


@pytest.fixture
def forgotten(place: Place) -> Iterator[None]:
    """After the test, however it ends, the box is as if it had never been given a part."""
    yield
    place.box.run("systemctl", "stop", "pipeline-tunnel.service")
    place.box.run("rm", "-rf", "/persistent/pipeline/ssh", "/persistent/settings/runsecure")


@pytest.mark.usefixtures("forgotten")
def test_an_operator_does_it_from_afar(place: Place, host_key: str, operator: Path) -> None:
    """With fab, over the box's own sshd."""
    (place.root / RELEASE[1:]).write_text("ROLE=devel\n")
    ssh = operator / ".ssh"
    login = ("--ssh-config", ssh / "config", "-H", "root@10.9.0.2", "-i", ssh / "id_ed25519")

    def fab(password: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name("fab")
        words = ("--role=devel", f"--site={SITE}", "--username=ada", f"--host-key={host_key}")
        argv = (*login, "secure", *words, "--password-fd=0")
        return subprocess.run(
            place.world.enter(program, "--search-root", ROOT, *argv),
            env={**os.environ, "HOME": str(operator), "SSH_AUTH_SOCK": ""},
            input=f"{password}\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    told = fab("another word")
    assert told.returncode == 1
    line = f"{SITE} does not let ada in: the username or the password is wrong"
    assert f"error: 10.9.0.2: {line}\n" in told.stderr
    told = fab(PASSWORD)
    assert told.returncode == 0, told.stderr
    assert told.stdout == f"10.9.0.2: this box is a devel of {SITE}\n"


@pytest.mark.usefixtures("forgotten")
def test_a_host_key_is_confirmed_once_and_no_other_is_taken(place: Place, host_key: str) -> None:
    """As a devel box, which stays open."""
    words = ("--role=devel", f"--site={SITE}", "--username=ada")
    assert place.secure(*words, f"--host-key={host_key}").returncode == 0
    again = place.secure(*words)
    assert (again.returncode, again.stderr) == (0, "")
    other = "ssh-keygen -q -t ed25519 -N '' -f /run/other && cut -d ' ' -f 1,2 /run/other.pub"
    key = place.box.run("sh", "-c", other).strip()
    place.box.run("sh", "-c", f"echo 'gateway {key}' >/persistent/pipeline/ssh/known_hosts")
    told = place.secure(*words)
    assert told.returncode == 1
    assert "another host key than the one that was confirmed" in told.stderr
    assert place.scan() == "[22, 8080, 14178]"


def test_who_does_not_know_the_gateway_is_heeded(place: Place) -> None:
    before = place.box.run("sh", "-c", LOOK)
    terminal = Terminal(place.box)
    for question, answer in (("director? ", "worker"), ("site", SITE), ("user", "ada")):
        terminal.asks(question)
        terminal.types(answer)
    terminal.asks("[y/N] ")
    terminal.types("no")
    terminal.asks("secure: nothing was changed")
    assert terminal.ends() == 1
    assert place.box.run("sh", "-c", LOOK) == before


def test_a_gateway_that_goes_half_way_changes_nothing(place: Place, host_key: str) -> None:
    before = place.box.run("sh", "-c", LOOK)
    terminal = Terminal(place.box)
    terminal.answers("director", host_key)
    place.box.run("systemctl", "stop", "ssh.service")
    terminal.types(PASSWORD)
    terminal.asks("cannot be reached: Connection refused")
    assert terminal.ends() == 1
    place.box.run("systemctl", "start", "ssh.service")
    assert place.box.run("sh", "-c", LOOK) == before


# Programs that do half of what is asked of them.
NFT = "/usr/sbin/nft"
DIRECTOR = "/etc/systemd/system/pipeline-director.service"
HALF = "#!/bin/sh\ncase $* in --file*) {} ;; *) exec /run/nft-as-it-was $* ;; esac\n"
KILL = f"pkill -KILL -f {SECURE}; pkill -KILL -f runsecure; kill -KILL $PPID"
FAULTS = {
    "no nftables": f"mount --bind /bin/false {NFT}",
    "rules that do not load": f"mount --bind /run/half {NFT}",
    "a /boot that is read-only": "mount --bind -o ro /boot/grub /boot/grub",
    "passwords that stay": "mount --bind /etc/shadow /etc/shadow",
    "settings that are read-only": "mount --bind -o ro /persistent/settings /persistent/settings",
    "a service that does not start": f"mount --bind /dev/null {DIRECTOR}; systemctl daemon-reload",
}


@contextlib.contextmanager
def fault(place: Place, script: str, half: str = "exit 1") -> Iterator[None]:
    """A box where something does not work, as long as the block lasts."""
    prepare = f"cp -n {NFT} /run/nft-as-it-was; cat >/run/half; chmod 755 /run/half"
    place.box.run("sh", "-c", prepare, stdin=HALF.format(half))
    place.box.run("sh", "-c", script)
    yield
    mounted = f"{NFT} {DIRECTOR} /boot/grub /etc/shadow /persistent/settings"
    place.box.run("sh", "-c", f"for m in {mounted}; do ! mountpoint -q $m || umount $m; done")
    place.box.run("systemctl", "daemon-reload")


@pytest.mark.parametrize("what", FAULTS)
def test_a_secure_that_fails_half_way_leaves_the_box_as_it_was(
    place: Place, host_key: str, operator: Path, what: str
) -> None:
    before = place.box.run("sh", "-c", LOOK)
    with fault(place, FAULTS[what]):
        told = place.secure_director(host_key)
    assert told.returncode == 1
    assert "try again" in told.stderr.splitlines()[-1]
    assert place.box.run("sh", "-c", LOOK) == before
    assert place.lets_in(operator)


@pytest.fixture
def killed(place: Place, host_key: str) -> None:
    """A secure of this box was killed in the middle, with all that it had started."""
    owner = place.box.run("grep", "^ada:", "/etc/shadow")
    with fault(place, FAULTS["rules that do not load"], KILL):
        assert place.secure_director(host_key).returncode not in (0, 1)
    assert "$" not in place.box.run("cat", "/etc/shadow")
    assert "director" in place.box.run("cat", "/persistent/settings/runsecure")
    place.box.run("rm", "-rf", "/persistent/pipeline/ssh")  # for what the next one asks
    # what is on another machine is not forgotten
    place.box.run("sh", "-c", "sed -i /^ada:/d /etc/shadow; cat >>/etc/shadow", stdin=owner)


@pytest.mark.usefixtures("killed")
def test_four_answers_make_a_director_and_shut_it_off(place: Place, host_key: str) -> None:
    terminal = Terminal(place.box)
    terminal.answers("director", host_key)
    listed = place.box.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; true")
    terminal.types(PASSWORD)
    terminal.asks(f"this box is a director of {SITE}")
    assert terminal.ends() == 0
    assert PASSWORD not in terminal.said + listed
    for unit in ("pipeline-director.service", "pipeline-tunnel.service"):
        assert place.box.property(unit, "ConditionResult") == "yes", unit
    modes = place.box.run("find", "/persistent/pipeline/ssh", "-printf", "%U %m %f\n")
    assert sorted(modes.splitlines()) == [
        "0 600 id_ed25519",
        "0 600 known_hosts",
        "0 600 site",
        "0 700 ssh",
    ]


def test_it_is_closed_from_outside(place: Place) -> None:
    closed(place)
    menu = place.box.run("cat", "/boot/grub/secured.cfg")
    assert 'set superusers=""' in menu
    assert 'set secured="secured panic=10 systemd.import_credentials=no"' in menu


def test_the_password_is_nowhere(place: Place) -> None:
    search = f'grep -rlF "{PASSWORD[:11]}" /persistent /etc /home /root /run /tmp /var /boot; true'
    assert place.box.run("sh", "-c", search) == ""
    # the journal's files are packed: as it is read
    assert PASSWORD[:11] not in place.box.run("journalctl", "--all", "--output=export")


def test_after_a_reset_it_is_closed_before_there_is_a_network(
    layers: Path, power: contextlib.ExitStack
) -> None:
    """All that was not kept in /persistent and /boot is as it was."""
    power.close()
    shadow = layers / "etc/shadow"
    shadow.write_text(shadow.read_text().replace("curator:*:", "curator:$6$x$y:"))
    (layers / "home/curator/.ssh/authorized_keys").write_text("key\n")
    place = power.enter_context(running(layers))
    assert place.box.property("pipeline-secured.service", "ActiveState") == "active"
    closed(place)
    early = place.box.property("pipeline-secured.service", "ExecMainExitTimestampMonotonic")
    network = place.box.property("network-pre.target", "ActiveEnterTimestampMonotonic")
    assert 0 < int(early) <= int(network)
    assert place.box.property("ssh.service", "ConditionResult") == "no"
    said = place.box.run("/usr/lib/provisiond/runsecure")
    assert said.splitlines()[-1] == f"runsecure: this box is a director of {SITE}"
    place.box.shows("pipeline-director.service", "ConditionResult", "yes")  # after the tunnel


TRIAL = ONBOX / "usr/lib/resnap/trial"


def unwell(place: Place) -> str:
    """What the trial of a changed golden root would say of the units of this boot."""
    functions, _, _ = TRIAL.read_text().partition("\ncase ${1:-} in\n")
    for library in ("lib.sh", "../provisiond/data.sh"):
        text = (TRIAL.parent / library).read_text()
        functions = functions.replace(f'. "${{0%/*}}/{library}"', text)
    return place.box.run("sh", "-c", f"{functions}\nunwell_units")


def stands_in(place: Place, unit: str, command: str) -> None:
    """Have a unit run another command, once: in this container there is no second sshd."""
    lines = f"[Service]\\nExecStart=\\nExecStart={command}\\nRestart=no\\n"
    folder = f"/run/systemd/system/{unit}.d"
    place.box.run("sh", "-c", f"mkdir -p {folder} && printf '{lines}' >{folder}/test.conf")
    place.box.run("systemctl", "daemon-reload")
    place.box.run("systemctl", "restart", unit)


def test_a_trial_holds_the_box_to_what_it_was_made(
    layers: Path, power: contextlib.ExitStack
) -> None:
    """What runsecure started belongs to the target, and is asked while the tunnel is up."""
    director, tunnel = "pipeline-director.service", "pipeline-tunnel.service"
    power.close()
    place = power.enter_context(running(layers))
    place.box.run("/usr/lib/provisiond/runsecure")
    for unit in (tunnel, director):
        stands_in(place, unit, "/bin/sleep infinity")
    assert unwell(place) == ""
    wanted = place.box.property("pipeline-box.target", "Wants").split()
    assert {"provisiond.service", "pipeline-database.service", director} <= {*wanted}
    assert tunnel not in wanted
    stands_in(place, director, "/bin/false")
    place.box.shows(director, "ActiveState", "failed")
    assert unwell(place) == f"{director} failed\n"
    place.box.run("systemctl", "stop", tunnel)
    assert unwell(place) == ""
