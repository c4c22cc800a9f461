"""A gateway, and a box with its tunnel, under a real systemd: what starts when, what comes back.

One container is both: it is its own gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.services.tunnel import UNIT
from tasks.desk.places import ROOT
from tests.storage.gateway.booted import Booted, booted
from tests.storage.gateway.gateway import OWNERS, layered

pytestmark = pytest.mark.boot  # of systemd, in a container

DATABASE = "pipeline-database.service"
KEYS = "/persistent/pipeline/ssh"
# by the box's end of the tunnel
PSQL = "psql -XAtq -h /run/pipeline/queue -U me -d pipeline"
_SCHEMA = ROOT / "static/onbox/usr/lib/gateway/schema"
_VERSION = len([*_SCHEMA.glob("[0-9]*.sql")])
REACHED = f"[ \"$(timeout 20 {PSQL} -c 'select pipeline.version()' 2>/dev/null)\" = {_VERSION} ]"
UPLOAD = """
    mkdir -p /tmp/job && echo '[]' >/tmp/job/results.edn
    rsync -a -e 'ssh -F /etc/pipeline/ssh_config' /tmp/job/ gateway:job-1/
    cat /srv/pipeline/results/ada/job-1/results.edn
    rm -r /srv/pipeline/results/ada/job-1
"""


@pytest.fixture(scope="module")
def box(gateway_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A gateway after a reset, on which ada had an account; and her box, which has no key yet."""
    with layered(gateway_root, tmp_path_factory.mktemp("layers")) as root:
        golden = {name: (root / "etc" / name).read_bytes() for name in ("passwd", "shadow")}
        with booted(root) as before:
            before.run(OWNERS, "add", "ada", stdin="her password\n")
        for name, content in golden.items():
            (root / "etc" / name).write_bytes(content)
        with booted(root) as made:
            yield made


def test_owners_are_there_before_anybody_can_log_in(box: Booted) -> None:
    box.run("id", "ada")
    done = int(box.property("gateway-owners.service", "ExecMainExitTimestampMonotonic"))
    assert 0 < done <= int(box.property("ssh.service", "InactiveExitTimestampMonotonic"))


def test_a_queue_that_dies_comes_back(box: Booted) -> None:
    first = box.property(DATABASE, "MainPID")
    box.run("pkill", "-KILL", "-x", "postgres")
    box.shows(DATABASE, "NRestarts", "1")
    box.shows(DATABASE, "ActiveState", "active")
    assert box.property(DATABASE, "MainPID") != first


def test_memory_is_limited(box: Booted) -> None:
    # Here is no controller of cgroup v2, by which the kernel holds it: systemd knows it, at least.
    assert box.property(DATABASE, "MemoryMax") == str(2 * 2**30)
    assert box.property(DATABASE, "LimitDATA") == str(2**28)
    slice_ = f"user-{box.run('id', '-u', 'pipeline').strip()}.slice"
    assert int(box.property(slice_, "MemoryMax")) < 2**50
    assert box.property(slice_, "TasksMax") == "4096"
    owner = box.run("stat", "-c", "%U %a", "/persistent/gateway/queue").split()
    assert owner == ["postgres", "750"]
    box.run("mountpoint", "/persistent/gateway/queue")


def test_accounts_of_a_hostile_disk_are_none_of_roots(box: Booted) -> None:
    """Who was root before the reset left them: a name and a password of more lines than one."""
    name = "x -:0\nu toor 0"  # lines of sysusers.d
    evil = f"/persistent/gateway/owners/{name}"
    box.run("mkdir", "-p", f"{evil}/files")
    box.run("touch", f"{evil}/files/id_ed25519.pub")  # else it is taken for one that a kill left
    kept = "/persistent/gateway/owners/ada/password"
    shadow = "getent shadow root ada"
    before = box.run("sh", "-c", shadow)
    box.run("sh", "-c", f"cp -p {kept} /run/kept && echo 'root:$6$a$b' >>{kept}")
    box.run("sh", "-c", f"{OWNERS} restore || echo said so")
    assert box.run("sh", "-c", "getent passwd toor x || :") == ""
    assert box.run("sh", "-c", shadow) == before
    box.run("sh", "-c", f"cp -p /run/kept {kept}")
    box.run("rm", "-r", evil)


@pytest.mark.parametrize("name", ["password", "files/id_ed25519", "files/id_ed25519.pub"])
@pytest.mark.parametrize("form", ["mkfifo", "ln -s /etc/shadow"])
def test_what_is_no_plain_file_of_an_account_stops_nothing(
    box: Booted, name: str, form: str
) -> None:
    """Who was root before the reset left it: root neither waits for it nor follows it."""
    evil, of_shadow = "/persistent/gateway/owners/eve", "stat -c '%U %a %s' /etc/shadow"
    box.run("sh", "-c", f"cp -a {evil[:-3]}ada {evil} && rm {evil}/{name} && {form} {evil}/{name}")
    box.run("sh", "-c", "rm -f /persistent/gateway/lock && mkfifo /persistent/gateway/lock")
    before = box.run("sh", "-c", of_shadow)
    said = box.run("sh", "-c", f"timeout 60 {OWNERS} restore 2>&1 || echo $?")
    assert said.splitlines() == [
        f"owners: {evil} has other files than this gateway made: no account",
        "1",
    ]
    assert box.run("sh", "-c", of_shadow) == before
    keys = box.run("cat", "/run/gateway/authorized_keys")
    assert (keys.count("transfer ada"), keys.count("transfer eve")) == (1, 0)
    assert "eve" not in box.run("timeout", "60", OWNERS, "list")
    box.run("timeout", "60", OWNERS, "remove", "eve")
    box.run("sh", "-c", f"mkdir /srv/other && ln -s /srv/other {evil} && {OWNERS} restore")
    box.run("sh", "-c", f"[ ! -L {evil} ] && rmdir /srv/other && rm /persistent/gateway/lock")


def test_a_rooms_disk_that_is_a_link_is_not_repaired(box: Booted) -> None:
    room = "/persistent/gateway/rooms/results-mallory"
    box.run("sh", "-c", f"truncate -s 16M /srv/other && ln -s /srv/other {room}")
    words = "/usr/lib/gateway/room results-mallory /srv/mallory 1048576 pipeline"
    said = box.run("sh", "-c", f"mkdir /srv/mallory; timeout 60 {words} 2>&1 || echo $?")
    assert said.splitlines() == [f"room: {room} is no plain file of root's: remove it", "1"]
    box.run("rm", room)


def test_without_a_key_the_tunnel_rests(box: Booted) -> None:
    assert box.property(UNIT, "ConditionResult") == "no"
    assert box.property(UNIT, "ActiveState") == "inactive"


@pytest.fixture
def tunnel(box: Booted) -> Booted:
    """The box has a key, and knows the gateway."""
    setup = f"""
        install -d -m 700 {KEYS} /run/systemd/system/{UNIT}.d
        install -m 600 /persistent/gateway/owners/ada/files/id_ed25519 {KEYS}/id_ed25519
        echo HostName 127.0.0.1 >{KEYS}/site
        echo "gateway $(cat /etc/ssh/ssh_host_ed25519_key.pub)" >{KEYS}/known_hosts
        printf '[Service]\\nRestartSec=1\\n' \\
            >/run/systemd/system/{UNIT}.d/near.conf
        systemctl daemon-reload
        systemctl restart {UNIT}
    """
    box.run("sh", "-euc", setup)
    box.succeeds(REACHED)
    return box


def test_many_connections_of_one_key_keep_nobody_out(tunnel: Booted) -> None:
    """As many as its role may have, which are fewer here; the gateway itself still comes in."""
    role = "alter role ada connection limit"
    count = "select count(*) from pg_stat_activity where usename = 'ada'"
    script = f"""
        sql() {{ echo "$1" | /usr/lib/gateway/database sql; }}
        sql '{role} 3'
        mkfifo /run/hold && exec 9<>/run/hold
        for number in 1 2 3; do {PSQL} -f /run/hold & done
        until [ "$(sql "{count}")" = 3 ]; do sleep 0.1; done
        {PSQL} -c 'select 1' 2>&1 | grep -o 'too many connections.*'
        psql -XAtq -d pipeline -c 'select pipeline.version()'
        kill $(jobs -p) && wait
        sql '{role} 260'
    """
    told = tunnel.run("bash", "-uc", script).splitlines()
    assert told == ['too many connections for role "ada"', str(_VERSION)]


def test_a_tunnel_that_is_killed_comes_back(tunnel: Booted) -> None:
    first = tunnel.property(UNIT, "MainPID")
    tunnel.run("kill", "-KILL", first)
    tunnel.shows(UNIT, "NRestarts", "1")
    tunnel.shows(UNIT, "ActiveState", "active")
    tunnel.succeeds(REACHED)
    assert tunnel.property(UNIT, "MainPID") not in (first, "0")


def test_a_gateway_that_was_away_is_found_again(tunnel: Booted) -> None:
    tunnel.run("systemctl", "stop", "ssh.service")
    tunnel.run("pkill", "-KILL", "-u", "pipeline")
    tunnel.succeeds(f"! {REACHED}")
    tunnel.shows(UNIT, "ActiveState", "activating")
    tunnel.run("systemctl", "start", "ssh.service")
    tunnel.succeeds(REACHED)


def test_who_holds_up_the_database_is_put_out(tunnel: Booted) -> None:
    """A transaction that waits for its box, also after the database died and came back."""
    words = "echo 'begin; select pipeline.version();'; sleep 15; echo 'select 1;'"
    said = tunnel.run("sh", "-c", f"({words}) | {PSQL} 2>&1 || :")
    assert "terminating connection" in said


def test_another_gateway_is_not_believed(tunnel: Booted) -> None:
    other = f"ssh-keygen -q -t ed25519 -N '' -f {KEYS}/other && cut -d ' ' -f 1,2 {KEYS}/other.pub"
    key = tunnel.run("sh", "-c", other).strip()
    tunnel.run("sh", "-c", f"echo 'gateway {key}' >{KEYS}/known_hosts")
    tunnel.run("systemctl", "restart", UNIT)
    tunnel.succeeds(f"journalctl -u {UNIT} | grep -q 'Host key verification failed'")
    assert tunnel.run("bash", "-c", f"{REACHED} || echo away") == "away\n"


def test_results_go_the_same_way(tunnel: Booted) -> None:
    logins = "journalctl -u ssh.service | grep -c 'Accepted publickey for pipeline'"
    before = tunnel.run("sh", "-c", logins)
    assert tunnel.run("sh", "-euc", UPLOAD) == "[]\n"
    assert tunnel.run("sh", "-c", logins) == before


def test_without_the_tunnel_results_go_by_themselves(tunnel: Booted) -> None:
    tunnel.run("systemctl", "stop", UNIT)
    assert tunnel.run("sh", "-euc", UPLOAD) == "[]\n"


def test_who_is_removed_is_cut_off(tunnel: Booted) -> None:
    tunnel.run(OWNERS, "remove", "ada")
    tunnel.succeeds(f"journalctl -u {UNIT} | grep -q 'Permission denied (publickey)'")
    assert tunnel.run("bash", "-c", f"{REACHED} || echo away") == "away\n"
    tunnel.run("systemctl", "stop", UNIT)


def test_in_maintenance_all_of_it_rests(box: Booted) -> None:
    box.run("sh", "-c", "cd /run/resnap; rm in-snapshot; mv fresh golden")
    for unit in (DATABASE, "gateway-owners.service", UNIT):
        box.run("systemctl", "restart", unit)
        assert box.property(unit, "ActiveState") == "inactive", unit
