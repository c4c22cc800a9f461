"""runsecure and lock, run for real in a small root, with stand-ins for what they call."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploys.box import ROLES
from deploys.services import provisiond
from tests.unit.onbox.fakeroot import FakeRoot
from tests.unit.onbox.services.setupbox import install

ONBOX = Path(__file__).parents[4] / "static/onbox"
LOCK = ONBOX / "usr/lib/secure/lock"
ROLE_FILE = provisiond.ROLES.lstrip("/")
RULES = LOCK.parent / "firewall.nft"
SHADOW = """root:$6$a$b:20781::::::
vagrant:$y$c:20781:0:99999:7:::
daemon:*:20781::::::
none::1::::::
"""

pytestmark = pytest.mark.commands


class Box(FakeRoot):
    def fake(self, name: str, lines: str = ":") -> None:
        """A program that notes how it was called, and whether systemd is to be left out."""
        call = f"${{SYSTEMD_OFFLINE:+offline }}{name} $*"
        self.tool(name, f'echo "{call}" >>"{self.root}/calls"\n{lines}')

    def runsecure(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(ONBOX / "usr/lib/provisiond/runsecure", *words)

    def lock(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(LOCK, *words)

    def text(self, name: str) -> str:
        return (self.root / name).read_text()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A box in a fresh snapshot that has a key, on a machine with two CPUs."""
    box = Box(tmp_path / "a box")
    box.write("proc/cmdline", "root=/dev/x resnap quiet\n")
    box.came_out("fresh")
    box.write("persistent/pipeline/ssh/id_ed25519", "a key\n")
    install(box.root)
    box.write(ROLE_FILE, provisiond.sources(ROLES)[provisiond.ROLES].content.decode())
    box.write("etc/shadow", SHADOW)
    box.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nvagrant:x:1:1::/home/vagrant:/bin/sh\n")
    box.write("root/.ssh/authorized_keys", "x")
    box.write("home/vagrant/.ssh/authorized_keys2", "x")
    box.write("boot/grub/grub.cfg")
    box.program("usr/lib/secure/lock", f"echo lock $* >>'{box.root}/calls'")
    for name in ("nft", "systemctl", "systemd-run", "sync", "mountpoint", "pkill", "pgrep"):
        box.fake(name)
    box.fake("nproc", "echo 2")
    return box


def remember(box: Box, role: str) -> None:
    box.write("persistent/settings/runsecure", f"{role}\ngw.example.org:2222\nada\n")


def test_a_box_without_a_role_is_left_alone(box: Box) -> None:
    done = box.runsecure()
    assert (done.returncode, done.stderr, box.calls) == (0, "", [])
    assert done.stdout == "runsecure: this box was given no role: nothing to do\n"


def test_without_its_roles_a_box_says_so_in_one_line(box: Box) -> None:
    remember(box, "worker")
    (box.root / ROLE_FILE).unlink()
    done = box.runsecure()
    line = f"runsecure: {box.root}/{ROLE_FILE} is missing: provision this box again\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.parametrize(
    ("role", "units"),
    [
        ("director", "pipeline-director.service"),
        ("worker", "pipeline-worker@1.service pipeline-worker@2.service"),
    ],
)
def test_a_role_is_brought_back_on_a_box_that_is_shut_off_first(
    box: Box, role: str, units: str
) -> None:
    remember(box, role)
    done = box.runsecure()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"runsecure: this box is a {role} of gw.example.org:2222\n"
    assert [line for line in box.calls if line != "nproc "] == ["lock", *started(units), "lock end"]


def started(*units: str) -> list[str]:
    """They get their links, of which systemd is not told (it would warn of each), and start."""
    words = " ".join(("pipeline-tunnel.service", *units))
    enable = f"offline systemctl enable --runtime --quiet {words}"
    return [enable, f"systemctl start --no-block {words}"]


def test_a_role_of_the_table_needs_no_other_place(box: Box) -> None:
    roles = provisiond.sources({"archive": ("pipeline-archive.service",)})[provisiond.ROLES]
    box.write(ROLE_FILE, roles.content.decode())
    remember(box, "archive")
    assert box.runsecure().stdout == "runsecure: this box is a archive of gw.example.org:2222\n"
    assert box.calls[0] == "lock"
    assert box.calls[-2:] == ["systemctl start --no-block pipeline-archive.service", "lock end"]


def test_a_box_works_even_if_no_trial_will_ask_for_it(box: Box) -> None:
    """As on the golden root of an older version, whose units name no target that wants them."""
    remember(box, "director")
    box.fake("systemctl", '[ "$1" = start ]')
    done = box.runsecure()
    units = "pipeline-tunnel.service pipeline-director.service"
    line = f"runsecure: systemd cannot enable {units}: a trial will not check them\n"
    assert (done.returncode, done.stderr) == (0, line)
    assert box.calls[-2:] == [f"systemctl start --no-block {units}", "lock end"]


def test_a_devel_box_stays_open(box: Box) -> None:
    remember(box, "devel")
    assert box.runsecure().returncode == 0
    assert box.calls == started()


def test_a_box_that_cannot_be_shut_off_does_not_work(box: Box) -> None:
    remember(box, "worker")
    box.program("usr/lib/secure/lock", "exit 1")
    done = box.runsecure()
    assert done.returncode == 1
    assert done.stderr == "runsecure: this box could not be shut off: not started\n"
    assert box.calls == []


@pytest.mark.parametrize("content", ["", "gateway\nx\ny\n", "$(id)\nx\ny\n", "worker worker\n"])
def test_what_is_no_role_starts_nothing(box: Box, content: str) -> None:
    box.write("persistent/settings/runsecure", content)
    done = box.runsecure()
    assert (done.returncode, len(done.stderr.splitlines()), box.calls) == (1, 1, [])


@pytest.mark.parametrize("name", ["settings/runsecure", "pipeline/ssh/id_ed25519"])
def test_a_role_and_a_key_are_plain_files_of_roots(box: Box, name: str) -> None:
    """No link that leads to a secret, no FIFO that nobody writes to."""
    remember(box, "devel")
    file = box.root / "persistent" / name
    elsewhere = file.rename(box.root / "elsewhere")
    file.symlink_to(elsewhere)
    for _ in range(2):
        done = box.runsecure()
        assert (done.returncode, len(done.stderr.splitlines()), box.calls) == (1, 1, [])
        file.unlink()
        os.mkfifo(file)


def test_a_box_that_lost_its_key_says_so_and_is_shut_off(box: Box) -> None:
    remember(box, "worker")
    box.write("persistent/pipeline/ssh/id_ed25519")
    done = box.runsecure()
    assert (done.returncode, box.calls) == (1, ["lock"])
    assert "there is no key" in done.stderr


def test_it_is_shut_off(box: Box) -> None:
    done = box.lock()
    assert (done.returncode, done.stderr) == (0, "")
    assert box.text("etc/shadow") == (
        "root:*:20781::::::\nvagrant:*:20781:0:99999:7:::\ndaemon:*:20781::::::\nnone:*:1::::::\n"
    )
    assert list(box.root.glob("*/.ssh/*")) == list(box.root.glob("home/*/.ssh/*")) == []
    assert (box.root / "run/secured").exists()
    assert (box.root / "persistent/settings/secured").exists()
    assert f"nft --file {RULES}" in box.calls


def test_logins_end_last_and_after_the_caller_has_seen_the_result(box: Box) -> None:
    """As the timer's command, in a snapshot: at the console too."""
    box.lock()
    assert not any("ssh.service" in line or line.startswith("pkill") for line in box.calls)
    assert box.lock("end").returncode == 0
    [timer] = [line for line in box.calls if line.startswith("systemd-run")]
    assert "--on-active=5 " in timer
    assert timer.endswith(f"{LOCK} end_logins")
    assert box.lock("end_logins").returncode == 0
    assert box.calls[-3:] == [
        "systemctl --no-block stop getty@* serial-getty@* console-getty* container-getty@*",
        "systemctl --no-block stop ssh.service ssh.socket sshd-*.socket",
        "pkill -KILL ^(sshd|login$)",
    ]


@pytest.mark.skipif(not shutil.which("grub-script-check"), reason="needs grub-common")
def test_grub_reads_what_is_written_for_it(box: Box) -> None:
    box.lock()
    argv = ["grub-script-check", str(box.root / "boot/grub/secured.cfg")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def files(box: Box) -> dict[str, tuple[bytes, int]]:
    """All that it has, with modes, but for what the test itself has there."""
    found = {path: path.stat() for path in box.root.rglob("*") if path.is_file()}
    names = {str(path.relative_to(box.root)): path for path in found}
    return {
        name: (path.read_bytes(), found[path].st_mode)
        for name, path in names.items()
        if not name.startswith(("tools/", "usr/", "calls", "broken"))
    }


def test_twice_is_once(box: Box) -> None:
    box.lock()
    before = files(box)
    assert box.lock().returncode == 0
    assert files(box) == before


def test_in_maintenance_the_golden_roots_users_stay(box: Box) -> None:
    box.write("persistent/settings/secured")
    box.came_out("golden")
    assert box.lock().returncode == 0
    assert box.text("etc/shadow") == SHADOW
    assert (box.root / "root/.ssh/authorized_keys").exists()
    assert f"nft --file {RULES}" in box.calls
    assert not any("getty" in line for line in box.calls)


def test_a_boot_that_was_told_leaves_boot_unmounted(box: Box) -> None:
    box.lock()
    [arguments] = re.findall(r'set secured="(.*)"', box.text("boot/grub/secured.cfg"))
    (box.root / "boot/grub/secured.cfg").unlink()
    box.write("proc/cmdline", f"root=/dev/x resnap {arguments} trial\n")
    box.fake("mountpoint", "exit 1")
    box.fake("unshare", "exit 1")
    assert box.lock().returncode == 0
    assert not (box.root / "boot/grub/secured.cfg").exists()


def test_in_a_snapshot_boot_is_mounted_for_the_menu_alone(box: Box) -> None:
    box.fake("mountpoint", f'[ -e "{box.root}/mounted" ]')
    box.fake("mount", f': >"{box.root}/mounted"')
    box.fake("unshare", 'shift; exec "$@"')
    with_boot = "usr/lib/resnap/with-boot"
    box.write(with_boot, (ONBOX / with_boot).read_text()).chmod(0o755)
    assert box.lock().returncode == 0
    assert f"mount {box.root}/boot" in box.calls
    assert "set superusers=" in box.text("boot/grub/secured.cfg")


# Where "lock" can fail: its step, the command there, and the words that tell it from other calls.
STEPS = {
    "check_rules": ("nft", "*--check*"),
    "keep_logins": ("tar", "*-cf*"),
    "close_menu": ("sync", "*secured.cfg.new*"),
    "forget_logins": ("rm", "*home/vagrant*"),
    "load_rules": ("nft", "--file*"),
    "close_doors": ("sync", "*settings/secured*"),
}


def broken(box: Box, command: str, words: str, how: str = "exit 1") -> None:
    """Have a command do something else where it is called with such words, while it is broken."""
    real = shutil.which(command) if command in ("rm", "tar") else ":"
    case = f"case \"$*\" in {words}) [ ! -e '{box.root}/broken' ] || {{ {how}; }} ;; esac"
    box.write("broken")
    box.fake(command, f'{case}\n{real} "$@"')


@pytest.mark.parametrize("step", STEPS)
def test_what_fails_the_first_time_leaves_the_box_as_it_was(box: Box, step: str) -> None:
    before = files(box)
    broken(box, *STEPS[step])
    done = box.lock()
    assert done.returncode == 1
    assert done.stderr == f"lock: {step} failed: this box is as it was\n"
    assert files(box) == before
    assert not any(line.startswith(("systemctl", "pkill", "ip ")) for line in box.calls)
    if f"nft --file {RULES}" in box.calls:
        assert "nft delete table inet secured" in box.calls
    (box.root / "broken").unlink()
    assert box.lock().returncode == 0
    assert "$" not in box.text("etc/shadow")


@pytest.mark.parametrize("step", STEPS)
def test_a_lock_that_was_killed_is_ended_by_the_next(box: Box, step: str) -> None:
    broken(box, *STEPS[step], how="kill -KILL $PPID")
    assert box.lock().returncode < 0
    (box.root / "broken").unlink()
    assert box.lock().returncode == 0
    killed = files(box)
    del killed["run/before-secure.tar"]
    box.lock("end")
    assert files(box) == killed
    assert "$" not in box.text("etc/shadow")
    assert "set superusers=" in box.text("boot/grub/secured.cfg")


def test_a_lock_that_was_killed_and_then_fails_leaves_the_box_as_it_was(box: Box) -> None:
    before = files(box)
    broken(box, *STEPS["load_rules"], how="kill -KILL $PPID")
    box.lock()
    assert "$" not in box.text("etc/shadow")
    broken(box, *STEPS["load_rules"])
    assert box.lock().returncode == 1
    assert files(box) == before


def test_what_cannot_be_undone_is_said(box: Box) -> None:
    broken(box, *STEPS["load_rules"])
    box.fake("tar", f'case $* in *-x*) exit 1 ;; esac\n{shutil.which("tar")} "$@"')
    line = "load_rules failed, and then restore_logins: this box may be shut off at its next boot"
    assert box.lock().stderr == f"lock: {line}\n"


@pytest.mark.parametrize("step", ["load_rules", "forget_logins", "close_doors"])
def test_what_fails_later_keeps_nothing_else_open_and_the_network_down(box: Box, step: str) -> None:
    """As at each boot of a box that is shut off: there is no way back."""
    box.write("proc/cmdline", "root=/dev/x resnap secured panic=10\n")
    for link in ("lo", "eth0"):
        box.write(f"sys/class/net/{link}/x")
    box.fake("ip")
    broken(box, *STEPS[step])
    done = box.lock()
    assert done.returncode == 1
    line = f"lock: this box is not shut off, and has no network: failed were {step}"
    assert done.stderr.splitlines()[-1] == line
    assert (box.root / "run/secured").exists()
    assert f"nft --file {RULES}" in box.calls
    assert "systemctl --no-block stop ssh.service ssh.socket sshd-*.socket" in box.calls
    assert [line for line in box.calls if line.startswith("ip ")] == ["ip link set eth0 down"]
    assert "$" not in box.text("etc/shadow")


def test_a_role_that_does_not_start_opens_the_box_again(box: Box) -> None:
    before = files(box)
    remember(box, "worker")
    (box.root / "usr/lib/secure/lock").unlink()
    (box.root / "usr/lib/secure/lock").symlink_to(LOCK)
    box.fake("systemctl", '[ "$1" != start ]')
    done = box.runsecure()
    assert done.returncode == 1
    assert done.stderr.startswith("runsecure: systemd could not start pipeline-tunnel.service")
    (box.root / "persistent/settings/runsecure").unlink()
    assert files(box) == before
    assert not any(line.startswith("systemd-run") for line in box.calls)


@pytest.mark.parametrize(("words", "code"), [(("--help",), 0), (("more",), 2)])
def test_usage(box: Box, words: tuple[str, ...], code: int) -> None:
    done = box.runsecure(*words)
    assert done.returncode == code
    assert "usage: runsecure" in done.stdout + done.stderr
    assert box.calls == []
