"""A changed golden root is kept or goes back, by the scripts that a box runs.

/boot is a folder with real files; GRUB's environment block is edited by a stand-in of a few lines.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import FakeRoot

SCRIPT = ONBOX / "usr/lib/resnap/trial"
KERNEL, NEW = "6.12.9", "6.12.10"
MENU = f"""menuentry 'box' --id resnap {{
linux /vmlinuz-{KERNEL} root=/dev/mapper/vg-root_snap ro resnap $trial
initrd /initrd.img-{KERNEL}
}}
"""
TARGET = "show --value --property ActiveState pipeline-box.target"
EDITENV = """file=$1 word=$2 pair=${3:-}
case $word in
list) cat "$file" ;;
*)
    touch "$file"
    sed -i "/^${pair%%=*}=/d" "$file"
    [ $word = unset ] || echo "$pair" >>"$file" ;;
esac"""

REBOOT = "systemctl reboot --check-inhibitors=no"

pytestmark = pytest.mark.commands


class Box(FakeRoot):
    """A box of one kernel, in maintenance or in a boot of ``words``."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.write("boot/grub/grub.cfg", MENU)
        self.write("boot/grub/grubenv", "saved=1\n")
        self.write(f"boot/vmlinuz-{KERNEL}", "old kernel")
        self.write(f"boot/initrd.img-{KERNEL}", "old initrd")
        self.write(f"boot/config-{KERNEL}", "CONFIG=y")
        self.program("usr/sbin/update-initramfs", "")
        self.program(
            "usr/sbin/sshd",
            f"[ -d {root}/run/sshd ] || exit 255\n"
            f'[ -e {root}/listens ] || echo "listenaddress [::]:22" >{root}/listens\n'
            f"echo port 22; cat {root}/listens",
        )
        self.program("usr/lib/pipeline/reference", '[ ! -e "$0.bad" ]')
        self.write("etc/default/resnap", "VOLGROUP=a-b\nLVROOT=root\nLVSNAP=snap\nLVSIZE=4G\n")
        self.write(f"lib/modules/{KERNEL}/modules.dep", "")
        self.write("proc/cmdline", "quiet\n")
        self.came_out("golden")
        self.write("etc/pipeline-release", "MANIFEST=feed\n")
        self.program("usr/lib/resnap/versions", f'echo "versions $*" >>{root}/calls')
        self.tool("mountpoint", "exit 0")
        self.tool("grub-editenv", EDITENV)
        self.tool("grub-script-check", "exit 0")
        self.tool("uname", f"echo {KERNEL}")
        self.tool("ip", f"[ -e {root}/no-route ] || echo default via 10.0.2.2")
        self.tool("ssh-keyscan", f"[ -e {root}/deaf ] || . {root}/scan")
        self.write("scan", 'echo "$5 ssh-ed25519 AAAA"')
        self.tool("dmsetup", f"cat {root}/dmsetup 2>/dev/null")
        self.tool("systemctl", f'echo "systemctl $*" >>{root}/calls\n. {root}/systemctl')
        self.systemctl("case $2 in is-active) exit 1 ;; esac")
        for name in ("lvs", "lvremove", "lvextend"):
            self.tool(name, f'echo "{name} $*" >>{root}/calls')
        for name in ("edit-grubenv", "replace-on-boot", "flush-boot", "with-boot"):
            script = self.write(f"usr/lib/resnap/{name}", (SCRIPT.parent / name).read_text())
            script.chmod(0o755)
        for name in ("fsfreeze", "sleep", "sync"):
            self.tool(name, "")

    def systemctl(self, answers: str) -> None:
        """What it says, of a box whose target is up and whose sshd listens by itself."""
        target = f'[ "$*" != "{TARGET}" ] || {{ echo active; exit; }}\n'
        socket = f'[ "$*" != "--quiet is-active ssh.socket" ] || exec [ -e {self.root}/socket ]\n'
        self.write("systemctl", f"{target}{socket}{answers}\n")

    def trial(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(SCRIPT, *words)

    def does(self, *words: str) -> str:
        """What it said, of a call that must go well."""
        done = self.trial(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def changed(self) -> None:
        """A new kernel in the place of the old one, as its package leaves it."""
        (self.root / f"boot/vmlinuz-{KERNEL}").unlink()
        (self.root / f"boot/config-{KERNEL}").unlink()
        self.write(f"boot/vmlinuz-{NEW}", "new kernel")
        self.write(f"boot/initrd.img-{KERNEL}.new", "new initrd").rename(
            self.root / f"boot/initrd.img-{KERNEL}"
        )
        self.write("boot/grub/grub.cfg", MENU.replace(KERNEL, NEW))

    def boots(self, word: str) -> None:
        self.write("proc/cmdline", f"quiet resnap {word} panic=10\n")
        self.came_out("fresh")

    @property
    def environment_block(self) -> str:
        return (self.root / "boot/grub/grubenv").read_text()

    @property
    def boot(self) -> dict[str, str]:
        """The files of /boot and of its grub folder."""
        files = [*(self.root / "boot").iterdir(), self.root / "boot/grub/grub.cfg"]
        return {file.name: file.read_text() for file in files if file.is_file()}

    @property
    def kept(self) -> bool:
        return (self.root / "boot/grub/safety").exists()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (tmp_path / "persistent").mkdir()
    return Box(tmp_path)


def test_before_a_change_grub_is_told_to_boot_what_is_there_now(box: Box) -> None:
    box.does("save")
    assert box.environment_block == "saved=1\ntrial_boots=0\n"
    menu = (box.root / "boot/grub/safety/menu.cfg").read_text()
    assert f"linux /grub/safety/boot/vmlinuz-{KERNEL} root=" in menu
    assert f"initrd /grub/safety/boot/initrd.img-{KERNEL}\n" in menu
    box.changed()
    assert (box.root / f"boot/grub/safety/boot/vmlinuz-{KERNEL}").read_text() == "old kernel"
    assert (box.root / f"boot/grub/safety/boot/initrd.img-{KERNEL}").read_text() == "old initrd"


def test_what_is_kept_takes_no_room(box: Box) -> None:
    box.does("save")
    assert (box.root / f"boot/initrd.img-{KERNEL}").stat().st_nlink == 2


def test_dracut_writes_into_its_initrd_so_that_is_copied(box: Box) -> None:
    (box.root / "usr/sbin/update-initramfs").unlink()
    box.does("save")
    assert (box.root / f"boot/initrd.img-{KERNEL}").stat().st_nlink == 1
    assert (box.root / f"boot/vmlinuz-{KERNEL}").stat().st_nlink == 2


def test_a_boot_below_the_root_is_kept_too(box: Box) -> None:
    box.write("boot/grub/grub.cfg", MENU.replace(" /", " /boot/"))
    box.does("save")
    menu = (box.root / "boot/grub/safety/menu.cfg").read_text()
    assert f"linux /boot/grub/safety/boot/vmlinuz-{KERNEL} root=/dev" in menu


def test_of_a_change_that_broke_off_the_older_files_are_kept(box: Box) -> None:
    box.does("save")
    box.changed()
    box.does("begin")
    box.does("save")
    assert (box.root / f"boot/grub/safety/boot/vmlinuz-{KERNEL}").read_text() == "old kernel"
    assert "trial_boots=0" in box.environment_block
    assert not (box.root / "persistent/log/trial").exists()


def test_what_another_change_left_is_not_kept(box: Box) -> None:
    box.write("boot/grub/safety/boot/vmlinuz-1", "ancient")
    box.does("save")
    assert not (box.root / "boot/grub/safety/boot/vmlinuz-1").exists()


def test_where_boot_is_full_grubs_environment_is_changed_in_place(box: Box) -> None:
    box.does("save")
    box.tool("cp", "echo No space left on device >&2; exit 1")
    box.does("back", "by hand")
    box.does("begin")
    assert box.environment_block == "saved=1\ntrial_boots=3\n"
    assert not list(box.root.glob("boot/grub/grubenv.*"))


def test_a_change_has_three_boots(box: Box) -> None:
    box.does("save")
    box.does("begin")
    assert "trial_boots=3" in box.environment_block


@pytest.mark.parametrize("word", ["Invalid", "Overflow"])
def test_a_change_that_cannot_go_back_is_kept_untried(box: Box, word: str) -> None:
    box.does("save")
    box.write("dmsetup", f"0 99 snapshot {word}\n")
    assert "untried" in box.does("begin")
    assert box.environment_block == "saved=1\n"
    assert "lvremove --yes --quiet a-b/root_safety" in box.calls
    assert not box.kept


def test_a_healthy_boot_keeps_the_change(box: Box) -> None:
    box.does("save")
    box.changed()
    box.does("begin")
    box.write("persistent/log/rolled-back", "9 of another change\n")
    box.boots("trial")
    assert box.does("check") == "the changed golden root is kept\n"
    assert box.environment_block == "saved=1\n"
    assert not box.kept
    assert [call for call in box.calls if call.startswith(("lv", "versions"))] == [
        "versions make-room boot",
        "lvs a-b/root_safety",
        "versions keep",
        "lvs a-b/root_safety",
        "lvremove --yes --quiet a-b/root_safety",
        "versions make-room all",
        "lvextend --quiet --size 4G a-b/snap",
    ]
    assert (box.root / "run/resnap/tried").exists()
    assert not (box.root / "persistent/log/rolled-back").exists()
    assert not (box.root / "persistent/log/trial").exists()
    assert box.boot[f"vmlinuz-{NEW}"] == "new kernel"


@pytest.mark.parametrize("boots", ["0", "1", "2"])
def test_while_it_is_being_kept_a_power_cut_finds_boots_left(box: Box, boots: str) -> None:
    """At the last of its boots the count is 0: a cut then must not boot the old kernel."""
    box.does("save")
    box.does("begin")
    box.write("boot/grub/grubenv", f"trial_boots={boots}\n")
    box.tool("lvremove", f"cat {box.root}/boot/grub/grubenv >{box.root}/then")
    box.boots("trial")
    box.does("check")
    assert (box.root / "then").read_text() == "trial_boots=3\n"


@pytest.mark.parametrize(
    ("ill", "why"),
    [
        ("rm run/resnap/in-snapshot; mv run/resnap/fresh run/resnap/failed", "the reset failed"),
        (f"rm -r lib/modules/{KERNEL}", f"the kernel {KERNEL} has no modules"),
        ("touch deaf", "SSH does not answer"),
        ("echo '[ $1 = reboot ]' >systemctl",
         "systemd reads no units;pipeline-box.target is not up"),
        ("touch no-route", "it has no default route any more"),
        ("rm usr/sbin/sshd", "SSH does not answer"),
        ("echo REFERENCE=yes >>etc/default/resnap; touch usr/lib/pipeline/reference.bad",
         "the reference calculation failed: "),
    ],
)  # fmt: skip
def test_an_ill_one_goes_back_at_once(box: Box, ill: str, why: str) -> None:
    box.does("save")
    box.does("begin")
    box.boots("trial")
    subprocess.run(["sh", "-ec", ill], cwd=box.root, check=True)
    assert box.does("check") == f"the golden root goes back to what it was: {why}\n"
    assert "trial_boots=0" in box.environment_block
    assert (box.root / "persistent/log/trial").read_text() == f"{why}\n"
    assert box.calls[-1] == REBOOT
    assert not [call for call in box.calls if call.startswith("lvremove")]
    assert box.kept


@pytest.mark.parametrize(
    ("listens", "asked"),
    [
        ("0.0.0.0:22", "22 127.0.0.1"),
        ("[::]:2222", "2222 ::1"),
        ("192.0.2.7:22", "22 192.0.2.7"),
        ("[fe80::1%eth0]:22", "22 fe80::1%eth0"),
    ],
)
@pytest.mark.parametrize("socket", [False, True])
def test_ssh_is_asked_where_it_listens(box: Box, socket: bool, listens: str, asked: str) -> None:
    """As sshd says, or as ssh.socket does where systemd listens in sshd's place."""
    if socket:
        (box.root / "usr/sbin/sshd").unlink()
        box.write("socket", "")
        box.systemctl(
            f"""case "$*" in
*is-active*) exit 1 ;;
*" Listen ssh.socket") echo "{listens} (Stream)" ;;
esac"""
        )
    box.write("listens", f"listenaddress {listens}\n")
    box.write("scan", f'[ "$4 $5" = "{asked}" ] && echo "$5 ssh-ed25519 AAAA"')
    box.does("save")
    box.does("begin")
    box.boots("trial")
    assert "is kept" in box.does("check")


def test_a_banner_without_a_key_is_no_answer(box: Box) -> None:
    """OpenSSH 10 prints it on standard output."""
    box.write("scan", 'echo "# $5:22 SSH-2.0-OpenSSH_10.0"')
    box.does("save")
    box.does("begin")
    box.boots("trial")
    assert box.does("check").endswith(": SSH does not answer\n")


def test_a_route_that_there_never_was_is_not_missed(box: Box) -> None:
    box.write("no-route", "")
    box.does("save")
    box.does("begin")
    box.boots("trial")
    assert "is kept" in box.does("check")


def test_a_box_that_was_shut_off_answers_no_ssh(box: Box) -> None:
    box.does("save")
    box.does("begin")
    box.boots("trial")
    box.write("deaf", "")
    box.write("run/secured", "")
    assert "is kept" in box.does("check")


@pytest.mark.parametrize(
    ("state", "active", "restarts", "why"),
    [
        ("failed", "1", "0", "provisiond.service failed"),
        ("activating", "1", "0", "provisiond.service does not stay up"),
        ("active", "0", "0", ""),
        ("active", "0", "2", ""),  # up by now, and still up after a while
        ("active", "0", "$(wc -l <asked)", "provisiond.service does not stay up"),
        ("inactive", "1", "0", ""),
        ("active", "0", "", ""),  # a socket
    ],
)
def test_a_unit_of_the_project_is_to_be_well(
    box: Box, state: str, active: str, restarts: str, why: str
) -> None:
    box.systemctl(
        f"""cd {box.root}
case "$*" in
*pipeline-tunnel*) exit 1 ;;
*is-active*) exit {active} ;;
*NRestarts*) echo >>asked; echo "{restarts}" ;;
*" Wants pipeline-box.target"*) echo provisiond.service ;;
*ActiveState*) echo {state} ;;
esac
""",
    )
    box.does("save")
    box.does("begin")
    box.boots("trial")
    assert (why or "is kept") in box.does("check")


@pytest.mark.parametrize("link", [True, False])
def test_who_needs_the_gateway_is_asked_only_where_it_is_reached(box: Box, link: bool) -> None:
    worker = "pipeline-worker@0.service"
    box.systemctl(
        f"""case "$*" in
*is-active*) exit {0 if link else 1} ;;
*LoadState*) echo loaded ;;
*" WantedBy pipeline-tunnel.service"*) echo multi-user.target {worker} ;;
*" Wants pipeline-box.target"*) echo {worker} ;;
*ActiveState*) echo failed ;;
esac
""",
    )
    box.does("save")
    box.does("begin")
    box.boots("trial")
    assert ("pipeline-worker@0.service failed" in box.does("check")) is link


def test_where_there_is_no_tunnel_nobody_needs_it(box: Box) -> None:
    """A gateway's own director wants one that is not there."""
    box.systemctl(
        """case "$*" in
*is-active*) exit 1 ;;
*LoadState*) echo not-found ;;
*" WantedBy pipeline-tunnel.service"*) echo pipeline-director.service ;;
*" Wants pipeline-box.target"*) echo pipeline-director.service ;;
*ActiveState*) echo failed ;;
esac
""",
    )
    box.does("save")
    box.does("begin")
    box.boots("trial")
    assert "pipeline-director.service failed" in box.does("check")


def test_a_boot_that_went_back_has_boot_as_it_was(box: Box) -> None:
    before = box.boot
    box.does("save")
    box.changed()
    assert box.boot != before
    box.does("begin")
    box.boots("safety")
    assert "none of its boots came up healthy" in box.does("check")
    assert box.boot == before
    assert box.environment_block == "saved=1\n"
    assert not box.kept
    told = (box.root / "persistent/log/rolled-back").read_text()
    assert re.fullmatch(r"\d+ none of its boots came up healthy\n", told)
    assert (box.root / "run/resnap/tried").exists()


def test_a_change_that_broke_off_is_told_as_such(box: Box) -> None:
    box.does("save")
    box.boots("safety")
    assert "what it was: the change broke off" in box.does("check")


def test_a_restore_that_broke_off_is_done_again(box: Box) -> None:
    before = box.boot
    box.does("save")
    box.changed()
    box.boots("safety")
    (box.root / f"boot/vmlinuz-{NEW}").unlink()
    (box.root / f"boot/initrd.img-{KERNEL}").unlink()
    box.does("check")
    assert box.boot == before


def test_where_the_golden_root_did_not_go_back_boot_does_not(box: Box) -> None:
    box.does("save")
    box.changed()
    changed = box.boot
    box.boots("safety")
    box.came_out("failed")
    box.does("check")
    assert (box.boot, box.kept) == (changed, True)
    assert "trial_boots=0" in box.environment_block


def test_any_other_boot_is_left_alone(box: Box) -> None:
    before = box.boot
    assert box.does("check") == ""
    assert (box.boot, box.calls) == (before, [])


@pytest.mark.parametrize("words", [[], ["retry"], ["keep", "it"], ["back"], ["restore", "x"]])
def test_other_words_are_refused(box: Box, words: list[str]) -> None:
    done = box.trial(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: trial ")
    assert box.environment_block == "saved=1\n"


def test_in_a_snapshot_boot_is_mounted_for_it_alone(box: Box) -> None:
    box.tool("mountpoint", "exit 1")
    box.tool("unshare", f'echo "unshare $1" >>{box.root}/calls; shift; "$@"')
    box.tool(
        "mount",
        f'echo "mount $*" >>{box.root}/calls; echo "#!/bin/sh" >{box.root}/tools/mountpoint',
    )
    box.does("keep")
    assert box.calls[:2] == ["unshare --mount", f"mount {box.root}/boot"]


def test_a_version_is_known_by_what_the_root_was(box: Box) -> None:
    box.does("save")
    assert (box.root / "boot/grub/safety/release").read_text() == "MANIFEST=feed\n"


def test_in_a_snapshot_the_safety_snapshot_says_what_the_root_was(box: Box) -> None:
    (box.root / "run/resnap/golden").unlink()
    box.tool("findmnt", "echo ext4")
    box.tool(
        "mount",
        f'echo "mount $1 $2 $3" >>{box.root}/calls; mkdir -p "$4/etc"; '
        'echo MANIFEST=cafe >"$4/etc/pipeline-release"',
    )
    box.tool("umount", f'echo "umount" >>{box.root}/calls')
    box.does("save")
    assert box.calls[:2] == ["mount -o ro,norecovery /dev/a-b/root_safety", "umount"]
    assert (box.root / "boot/grub/safety/release").read_text() == "MANIFEST=cafe\n"


def test_what_no_provision_finished_can_be_gone_back_to_and_is_no_version(box: Box) -> None:
    (box.root / "etc/pipeline-release").unlink()
    box.does("save")
    assert (box.root / "boot/grub/safety/release").read_text() == ""
    box.does("keep")
    assert "versions keep" not in box.calls
    assert "lvremove --yes --quiet a-b/root_safety" in box.calls


def test_a_base_box_has_no_versions(box: Box) -> None:
    box.does("save")
    box.does("drop")
    assert box.calls[-1] == "versions forget-all"
    assert "versions keep" not in box.calls
    assert "lvremove --yes --quiet a-b/root_safety" in box.calls
    assert (box.environment_block, box.kept) == ("saved=1\n", False)


def test_going_back_by_hand_is_no_fault(box: Box) -> None:
    box.does("save")
    box.write("persistent/log/trial", "")
    box.write("persistent/log/rolled-back", "9 of another change\n")
    box.boots("safety")
    assert box.does("check") == "the golden root is what it was\n"
    assert not (box.root / "persistent/log/rolled-back").exists()


def test_going_back_that_broke_off_before_it_did_is_taken_back(box: Box) -> None:
    """The volume of the version has its own name still: nothing was merged."""
    changed = box.boot
    box.does("save")
    box.write("boot/grub/safety/version", "root_feed\n")
    box.write("boot/vmlinuz-6.13", "of the root that is there")
    box.boots("safety")
    assert "broke off" in box.does("check")
    assert box.boot == {**changed, "vmlinuz-6.13": "of the root that is there"}
    assert (box.root / "boot/grub/golden/root_feed/menu.cfg").exists()
    assert (box.environment_block, box.kept) == ("saved=1\n", False)
    assert box.calls[-1] == REBOOT
