"""runsecure and lock, run for real in a small root, with stand-ins for what they call."""

from __future__ import annotations

import os
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

    def lock(self) -> subprocess.CompletedProcess[str]:
        return self.run(LOCK)

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
    box.program("usr/lib/secure/lock", f"echo lock >>'{box.root}/calls'")
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
    assert [line for line in box.calls if line != "nproc "] == ["lock", *started(units)]


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
    assert box.calls[-1] == "systemctl start --no-block pipeline-archive.service"


def test_a_box_works_even_if_no_trial_will_ask_for_it(box: Box) -> None:
    """As on the golden root of an older version, whose units name no target that wants them."""
    remember(box, "director")
    box.fake("systemctl", '[ "$1" = start ]')
    done = box.runsecure()
    units = "pipeline-tunnel.service pipeline-director.service"
    line = f"runsecure: systemd cannot enable {units}: a trial will not check them\n"
    assert (done.returncode, done.stderr) == (0, line)
    assert box.calls[-1] == f"systemctl start --no-block {units}"


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
    assert f"nft -f {LOCK.parent}/firewall.nft" in box.calls
    assert "systemctl --no-block stop ssh.service ssh.socket" in box.calls
    assert [line.split()[-2:] for line in box.calls if line.startswith("systemd-run")] == [
        ["-KILL", "^(sshd|login$)"]
    ]


@pytest.mark.skipif(not shutil.which("grub-script-check"), reason="needs grub-common")
def test_grub_reads_what_is_written_for_it(box: Box) -> None:
    box.lock()
    argv = ["grub-script-check", str(box.root / "boot/grub/secured.cfg")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_twice_is_once(box: Box) -> None:
    box.lock()
    before = {path: path.read_bytes() for path in box.root.rglob("*") if path.is_file()}
    assert box.lock().returncode == 0
    after = {path: path.read_bytes() for path in box.root.rglob("*") if path.is_file()}
    del before[box.root / "calls"], after[box.root / "calls"]
    assert after == before


def test_in_maintenance_the_golden_roots_users_stay(box: Box) -> None:
    box.came_out("golden")
    assert box.lock().returncode == 0
    assert box.text("etc/shadow") == SHADOW
    assert (box.root / "root/.ssh/authorized_keys").exists()
    assert any(line.startswith("nft -f") for line in box.calls)


def test_a_boot_that_was_told_leaves_boot_unmounted(box: Box) -> None:
    box.write("proc/cmdline", "root=/dev/x resnap secured panic=10\n")
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


@pytest.mark.parametrize("broken", ["nft", "sed", "unshare"])
def test_what_fails_keeps_nothing_else_open(box: Box, broken: str) -> None:
    if broken == "unshare":
        box.fake("mountpoint", "exit 1")
    box.fake(broken, "exit 1")
    done = box.lock()
    name = {"nft": "nft", "sed": "forget_logins", "unshare": "close_menu"}[broken]
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"lock: this box is not shut off: failed were {name}"
    assert (box.root / "run/secured").exists()
    assert any(line.startswith("systemctl --no-block stop") for line in box.calls)
    if broken != "nft":
        assert any(line.startswith("nft -f") for line in box.calls)
    if broken != "sed":
        assert "$" not in box.text("etc/shadow")


@pytest.mark.parametrize(("words", "code"), [(("--help",), 0), (("more",), 2)])
def test_usage(box: Box, words: tuple[str, ...], code: int) -> None:
    done = box.runsecure(*words)
    assert done.returncode == code
    assert "usage: runsecure" in done.stdout + done.stderr
    assert box.calls == []
