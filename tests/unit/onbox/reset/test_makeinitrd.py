"""makeinitrd, GRUB's script, next-boot and the kernel's hooks, run for real in a small root.

What they call of the boot loader and of initramfs-tools are stand-ins; an initrd is a text file
that lists what is in it. update-grub's runs the project's own /etc/grub.d/09_resnap.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.unit.onbox.fakeroot import Tree
from tests.unit.onbox.initramfs import SmallRoot, install

pytestmark = pytest.mark.commands

STATIC = Path(__file__).parents[4] / "static"
REAL = (
    "id",
    "cat",
    "cp",
    "ln",
    "sha256sum",
    "cut",
    "flock",
    "grep",
    "sed",
    "mkdir",
    "mv",
    "sync",
    "sort",
)
DEFAULTS = """VOLGROUP=vagrant-pipeline
LVROOT=root
LVSNAP=root_snap
LVSIZE=100%ORIGIN
OLD_ROOT_UUID=
"""
# What makeinitrd builds from, in the order in which it reads them.
SOURCES = (
    "etc/default/resnap",
    "usr/lib/resnap/resnap",
    "usr/lib/resnap/lib.sh",
    "usr/lib/resnap/trial-deadline",
    "etc/initramfs-tools/hooks/resnap",
    "etc/initramfs-tools/scripts/init-top/resnap",
    "etc/initramfs-tools/scripts/local-block/resnap",
    "etc/initramfs-tools/scripts/local-bottom/resnap",
    "etc/initramfs-tools/scripts/local-premount/resnap",
    "etc/dracut.conf.d/resnap.conf",
    *(
        f"usr/lib/dracut/modules.d/90resnap/{name}"
        for name in (
            "deadline.sh",
            "finished.sh",
            "module-setup.sh",
            "panic.sh",
            "pause.sh",
            "reset.sh",
            "take-place",
            "verdict.sh",
        )
    ),
    "etc/grub.d/09_resnap",
    "etc/default/grub.d/resnap.cfg",
)
NEW, OLD = "6.12.9-amd64", "6.1.0-10-amd64"
FAKES = {
    "sync": "exit 0",  # the whole machine's, which may have gigabytes to write
    "mountpoint": '[ -e "/fake/mounted$2" ]',
    "mount": 'log mount "$@"; [ ! -e /fake/no_mount ] || { echo "mount: no $1" >&2; exit 32; }\n'
    '>"/fake/mounted$1"',
    "unshare": 'log unshare "$1"; shift; "$@"; code=$?; /fake/rm -f /fake/mounted/boot; exit $code',
    "linux-version": "case $1 in\nlist) cat /fake/kernels ;;\n"
    "sort) [ $2 = --reverse ] && sort --reverse --version-sort ;;\nesac",
    "update-initramfs": 'log update-initramfs "$@"; mkinitramfs -o "/boot/initrd.img-$3"',
    "mkinitramfs": 'log mkinitramfs "$@"\n'
    "if [ ! -e /fake/forgetful ]; then echo scripts/local-premount/resnap; fi "
    '>"$2"; [ ! -e /fake/more ] || cat /fake/more >>"$2"; [ ! -e /fake/full ]',
    "dracut": 'log dracut "$@"\n'
    '[ -e /fake/forgetful ] || echo resnap >"$3"; [ -e "$3" ] || : >"$3"',
    "lsinitrd": 'echo "Image: $2"; cat "$2"; echo rootfs-block',
    "lsinitramfs": 'echo scripts/local-top; cat "$1"; echo usr/lib/resnap/resnap',
    "grub-mkconfig": "log grub-mkconfig; . /etc/default/grub.d/resnap.cfg\n"
    "export GRUB_CMDLINE_LINUX='net.ifnames=0 console=ttyS0' GRUB_CMDLINE_LINUX_DEFAULT=quiet\n"
    '/etc/grub.d/09_resnap >"${1#--output=}" || exit; [ ! -e /fake/no_power ] || kill -9 $PPID',
    "update-grub": "grub-mkconfig --output=/boot/grub/grub.cfg",
    "fsfreeze": 'log fsfreeze "$@"; [ ! -e /fake/no_freeze ]',
    "grub-script-check": 'log grub-script-check "$@"; [ ! -e /fake/bad_menu ]',
    "grub-probe": "echo /dev/vda2",
    "grub-editenv": 'log grub-editenv "$@"\ncase $2 in\nlist) [ -s "$1" ] ;;\n'
    '*) echo "$3" >>"$1"; [ ! -e /fake/no_power ] || kill -9 $PPID ;;\nesac',
}
FROZEN = ("fsfreeze --freeze /boot", "fsfreeze --unfreeze /boot")


def made(version: str) -> str:
    return f"mkinitramfs -o /boot/initrd.img-{version}.made {version}"


LIB = """
make_system_path_relative_to_its_root() { [ -e /fake/boot_on_root ] && echo "$1" || echo /; }
prepare_grub_to_access_device() { echo "search --no-floppy --fs-uuid --set=root 1234-$1"; }
"""


class Box(SmallRoot):
    def makeinitrd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.within("/usr/sbin/makeinitrd", *arguments)

    def refuses(self, *arguments: str) -> str:
        """The one line with which makeinitrd refuses, having called nothing."""
        done = self.makeinitrd(*arguments)
        assert done.returncode == 1
        assert self.calls == []
        [line] = done.stderr.splitlines()
        return line

    @property
    def calls(self) -> list[str]:
        return self.lines("fake/calls")

    def kernels(self, *versions: str, initrd: bool = True) -> None:
        self.write("fake/kernels", "".join(f"{version}\n" for version in versions))
        for version in versions:
            self.write(f"boot/vmlinuz-{version}")
            self.write(f"lib/modules/{version}/modules.dep")
            if initrd:
                self.write(f"boot/initrd.img-{version}", "scripts/local-premount/lvm2\n")

    @property
    def environment(self) -> str:
        return (self.root / "boot/grub/grubenv").read_text()

    @property
    def menu(self) -> str:
        return (self.root / "boot/grub/grub.cfg").read_text()


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("golden")
    for name in ("sh", "rm", *REAL):
        install(Path(shutil.which(name) or name), root, f"bin/{name}")
    for folder in ("fake", "dev"):
        (root / folder).mkdir()
    shutil.copy(root / "bin/rm", root / "fake/rm")
    for name, text in FAKES.items():
        Tree(root).program(f"sbin/{name}", f'log() {{ echo "$*" >>/fake/calls; }}\n{text}')
    return root


@pytest.fixture
def box(parts: Path, tmp_path: Path) -> Box:
    """A golden root in maintenance, with two kernels whose initrds lack the reset."""
    box = Box(tmp_path / "root")
    shutil.copytree(parts, box.root, copy_function=os.link)
    shutil.copytree(STATIC / "onbox", box.root, dirs_exist_ok=True)
    (box.root / "usr/sbin").mkdir(exist_ok=True)
    shutil.copy(STATIC / "makeinitrd/makeinitrd", box.root / "usr/sbin/makeinitrd")
    box.write("etc/default/resnap", DEFAULTS)
    box.write("usr/share/grub/grub-mkconfig_lib", LIB)
    box.write("fake/mounted/boot")
    box.write("boot/grub/grub.cfg", "# of the distribution\n")
    box.came_out("golden")
    box.kernels(NEW, OLD)
    return box


def test_all_initrds_and_the_menu_are_made(box: Box) -> None:
    done = box.makeinitrd()
    assert done.returncode == 0, done.stderr
    assert box.calls == [
        *(made(NEW), *FROZEN * 3),
        *(made(OLD), *FROZEN * 3),
        *("grub-mkconfig", "grub-script-check /boot/grub/grub.cfg.made", *FROZEN * 3),
        *FROZEN,
    ]
    left = {f"{kind}-{version}" for kind in ("vmlinuz", "initrd.img") for version in (NEW, OLD)}
    assert {file.name for file in (box.root / "boot").iterdir()} == {*left, "grub"}
    assert [file.name for file in (box.root / "boot/grub").iterdir()] == ["grub.cfg"]
    assert box.makeinitrd("--check").returncode == 0


@pytest.mark.parametrize("fault", ["bad_menu", "no_power"])
def test_until_the_menu_is_whole_the_old_one_is_there(box: Box, fault: str) -> None:
    before = box.menu
    box.write(f"fake/{fault}")
    assert box.makeinitrd().returncode != 0
    assert box.menu == before


def test_an_initrd_that_cannot_be_made_leaves_the_old_one_and_its_room(box: Box) -> None:
    box.write("fake/full")
    done = box.makeinitrd()
    assert (done.returncode, done.stderr) == (
        1,
        f"makeinitrd: the initrd of {NEW} cannot be made\n",
    )
    assert (box.root / f"boot/initrd.img-{NEW}").read_text() == "scripts/local-premount/lvm2\n"
    assert not list((box.root / "boot").glob("*.made"))


def test_where_boot_cannot_be_frozen_it_is_flushed(box: Box) -> None:
    box.write("fake/no_freeze")
    done = box.makeinitrd()
    assert done.returncode == 0, done.stderr
    assert FROZEN[1] not in box.calls


def test_the_boot_of_a_box_in_a_file_is_flushed_by_one_process(box: Box) -> None:
    """The root lies on that filesystem: frozen, no second program could be started."""
    box.write("etc/default/resnap", f"{DEFAULTS}VOLFILE=/pipeline/box.img\n")
    box.program("sbin/perl", 'echo "perl $2" >>/fake/calls')
    assert box.makeinitrd().returncode == 0
    calls = [call for call in box.calls if "/boot" in call]
    assert not [call for call in calls if call.startswith("fsfreeze")]
    assert [call for call in calls if 'sysopen(F, "/boot", 0)' in call]


def test_one_waits_for_another_that_is_at_work(box: Box) -> None:
    """As the one goes on that Ctrl-C left behind on a host."""
    other = os.open(box.root / "boot", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with subprocess.Popen([*box.argv, "/usr/sbin/makeinitrd"]) as started:
        inode = f":{os.fstat(other).st_ino} "
        for attempt in Retrying(stop=stop_after_delay(30), wait=wait_fixed(0.05)):
            with attempt:
                locks = Path("/proc/locks").read_text().splitlines()
                assert [line for line in locks if "-> FLOCK" in line and inode in line]
        assert box.calls == []
        os.close(other)
        assert started.wait(30) == 0
    assert box.makeinitrd("--check").returncode == 0


def test_only_the_kernels_named_are_made(box: Box) -> None:
    assert box.makeinitrd(OLD).returncode == 0
    assert box.calls[0] == made(OLD)
    assert box.calls[7] == "grub-mkconfig"


def test_a_kernel_without_an_initrd_gets_its_first(box: Box) -> None:
    (box.root / f"boot/initrd.img-{OLD}").unlink()
    assert box.makeinitrd().returncode == 0
    assert f"update-initramfs -c -k {OLD}" in box.calls


def test_where_there_is_no_initramfs_tools_dracut_makes_them(box: Box) -> None:
    (box.root / "sbin/update-initramfs").unlink()
    (box.root / "sbin/lsinitramfs").unlink()
    assert box.makeinitrd().returncode == 0
    assert [call for call in box.calls if call.startswith("dracut")] == [
        f"dracut --quiet --force /boot/initrd.img-{version}.made {version}"
        for version in (NEW, OLD)
    ]
    assert (box.root / f"boot/initrd.img-{NEW}").read_text() == "resnap\n"
    assert not (box.root / f"boot/initrd.img-{NEW}.made").exists()
    before = box.calls
    assert box.makeinitrd("--missing").returncode == 0
    assert box.calls == [*before, *FROZEN]
    box.write("fake/forgetful")
    done = box.makeinitrd()
    assert done.stderr == f"makeinitrd: the initrd of {NEW} came out without the reset\n"


def test_missing_makes_what_is_missing_and_the_second_time_nothing(box: Box) -> None:
    assert box.makeinitrd("--missing", NEW).returncode == 0
    assert box.calls[:8] == [made(NEW), *FROZEN * 3, "grub-mkconfig"]
    before = box.calls
    assert box.makeinitrd("--missing", NEW).returncode == 0
    assert box.calls == [*before, *FROZEN]
    # An initrd alone is not all that is made, so the check stays false.
    assert box.makeinitrd("--check").returncode == 1


def test_missing_makes_the_menu_that_lacks_a_kernel(box: Box) -> None:
    assert box.makeinitrd().returncode == 0
    box.write("boot/grub/grub.cfg", f"menuentry 'x' --id resnap {{\nlinux /vmlinuz-{OLD} ro\n}}\n")
    before = len(box.calls)
    assert box.makeinitrd("--missing").returncode == 0
    assert made(NEW) in box.calls[before:]
    assert made(OLD) not in box.calls[before:]


@pytest.mark.parametrize("path", SOURCES)
def test_a_changed_source_is_noticed(box: Box, path: str) -> None:
    assert box.makeinitrd("--check").returncode == 1  # never made
    assert box.makeinitrd().returncode == 0
    assert box.makeinitrd("--check").returncode == 0
    with (box.root / path).open("a") as file:
        file.write("# changed\n")
    assert box.makeinitrd("--check").returncode == 1
    assert box.makeinitrd().returncode == 0
    assert box.makeinitrd("--check").returncode == 0


def test_the_digest_is_over_the_sources(box: Box) -> None:
    content = b"".join((box.root / path).read_bytes() for path in SOURCES)
    assert box.makeinitrd("--digest").stdout == f"{hashlib.sha256(content).hexdigest()}\n"


def test_check_and_digest_change_nothing_even_in_a_snapshot(box: Box) -> None:
    box.came_out("fresh")
    before = sorted(path for path in box.root.rglob("*"))
    assert box.makeinitrd("--check").returncode == 1
    assert box.makeinitrd("--digest").returncode == 0
    assert sorted(path for path in box.root.rglob("*")) == before


@pytest.mark.parametrize("verdict", ["fresh", "kept", "failed"])
def test_in_a_snapshot_it_is_refused(box: Box, verdict: str) -> None:
    box.came_out(verdict)
    line = "makeinitrd: this root is a snapshot; boot into maintenance first"
    assert box.refuses() == line
    assert box.refuses("--missing") == line


def test_without_root_it_is_refused(box: Box) -> None:
    (box.root / "bin/id").unlink()
    box.program("bin/id", "echo 1000")
    assert box.refuses() == "makeinitrd: run it as root"


def test_without_boot_it_is_refused(box: Box) -> None:
    (box.root / "fake/mounted/boot").unlink()
    assert box.refuses() == "makeinitrd: /boot is not mounted"


@pytest.mark.parametrize("option", ["--chekc", "-x", "-"])
def test_an_unknown_option_is_refused(box: Box, option: str) -> None:
    assert box.refuses(option) == f"makeinitrd: unknown option {option}; see makeinitrd --help"


def test_an_unknown_kernel_is_refused(box: Box) -> None:
    assert box.refuses("9.9") == "makeinitrd: there is no kernel 9.9 in /boot"


def test_without_any_kernel_it_is_refused(box: Box) -> None:
    box.kernels()
    assert box.refuses() == "makeinitrd: no kernel with modules is installed"


def test_a_copy_of_a_kernel_that_has_no_modules_is_never_booted(box: Box) -> None:
    """It sorts above the kernel that it is a copy of, and its initrd finds no disk."""
    box.kernels(NEW, f"{NEW}.old")
    (box.root / f"lib/modules/{NEW}.old/modules.dep").unlink()
    done = box.makeinitrd()
    assert done.returncode == 0, done.stderr
    assert f"{NEW}.old" not in "".join(box.calls)
    assert set(_entries(box.menu)) == {"resnap", "keep", "maintenance"}
    assert f"{NEW}.old" not in box.menu
    (box.root / f"lib/modules/{NEW}/modules.dep").unlink()
    assert box.makeinitrd().stderr == "makeinitrd: no kernel with modules is installed\n"
    done = box.makeinitrd(f"{NEW}.old")
    assert done.stderr == f"makeinitrd: the kernel {NEW}.old has no modules in /lib/modules\n"


def test_help_shows_every_option(box: Box) -> None:
    done = box.makeinitrd("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Regenerates the initrds")
    assert all(option in done.stdout for option in ("--missing", "--check", "--digest"))
    assert "set -eu" not in done.stdout


def test_an_initrd_that_came_out_without_the_reset_is_an_error(box: Box) -> None:
    box.write("fake/forgetful")
    done = box.makeinitrd()
    assert done.returncode == 1
    assert done.stderr == f"makeinitrd: the initrd of {NEW} came out without the reset\n"
    assert box.makeinitrd("--check").returncode == 1


def test_a_menu_with_a_fault_is_an_error(box: Box) -> None:
    box.write("fake/bad_menu")
    assert box.makeinitrd().returncode == 1
    assert box.makeinitrd("--check").returncode == 1


def test_a_kernel_that_the_menu_left_out_is_an_error(box: Box) -> None:
    (box.root / "etc/grub.d/09_resnap").write_text("#!/bin/sh\necho '--id resnap '\n")
    done = box.makeinitrd()
    assert (done.returncode, done.stderr) == (
        1,
        f"makeinitrd: grub-mkconfig made no entry for {NEW}\n",
    )


def _entries(menu: str) -> dict[str, str]:
    """Each entry's ``linux`` line by its id."""
    return dict(re.findall(r"--id (\S+).*\n(?:.*\n)*?linux (.*)", menu))


def test_the_menu_has_the_boxs_entries(box: Box) -> None:
    box.kernels("6.9.0-1", "6.12.9-1", "6.12.10-1", "5.15.0-99-x")
    assert box.makeinitrd().returncode == 0
    entries = _entries(box.menu)
    common = "ro volgroup=vagrant-pipeline lvroot=root lvsnap=root_snap lvsize=100%ORIGIN noresume"
    snapshot = "/dev/mapper/vagrant--pipeline-root_snap"
    golden = "/dev/mapper/vagrant--pipeline-root"
    more = "net.ifnames=0 console=ttyS0 quiet $secured"
    trial = "$trial $safety"
    assert entries == {
        "resnap": f"/vmlinuz-6.12.10-1 root={snapshot} {common} resnap {more} {trial}",
        "keep": f"/vmlinuz-6.12.10-1 root={snapshot} {common} {more} {trial}",
        "maintenance": f"/vmlinuz-6.12.10-1 root={golden} {common} {more}",
        "maintenance-6.12.9-1": f"/vmlinuz-6.12.9-1 root={golden} {common} {more}",
        "maintenance-6.9.0-1": f"/vmlinuz-6.9.0-1 root={golden} {common} {more}",
        "maintenance-5.15.0-99-x": f"/vmlinuz-5.15.0-99-x root={golden} {common} {more}",
    }
    assert box.menu.count("search --no-floppy --fs-uuid --set=root 1234-/dev/vda2") == 6
    assert "initrd /initrd.img-6.12.10-1\n" in box.menu


@pytest.mark.parametrize("uuid", ["", "0a1b-2c"])
def test_arguments_about_the_old_roots_filesystem_do_not_go_along(box: Box, uuid: str) -> None:
    """The copy is ext4. A host whose root is a volume already keeps that filesystem."""
    box.write("etc/default/resnap", DEFAULTS.replace("UUID=", f"UUID={uuid}"))
    given = "rootflags=uquota rootfstype=xfs net.ifnames=0 rootflags=noatime"
    box.write("etc/default/host", f"GRUB_CMDLINE_LINUX='{given}'\nGRUB_CMDLINE_LINUX_DEFAULT=\n")
    box.write("bin/with-host", "#!/bin/sh\nset -a\n. /etc/default/host\n. /etc/grub.d/09_resnap\n")
    menu = box.within("/bin/sh", "/bin/with-host").stdout
    line = _entries(menu)["resnap"]
    expected = "net.ifnames=0" if uuid else given
    assert " ".join(line.split()).endswith(f" resnap {expected} $secured $trial $safety")


def test_the_initrd_of_a_box_in_a_file_mounts_the_hosts_root_as_the_host_does(box: Box) -> None:
    box.write(
        "etc/default/resnap",
        DEFAULTS.replace("UUID=", "UUID=0a1b-2c") + "VOLFILE=/pipeline/box.img\n",
    )
    given = "rootflags=data=journal quiet"
    box.write("etc/default/host", f"GRUB_CMDLINE_LINUX='{given}'\nGRUB_CMDLINE_LINUX_DEFAULT=\n")
    box.write("bin/with-host", "#!/bin/sh\nset -a\n. /etc/default/host\n. /etc/grub.d/09_resnap\n")
    entries = _entries(box.within("/bin/sh", "/bin/with-host").stdout)
    mapper = "/dev/mapper/vagrant--pipeline-root"
    for name, root in (("resnap", f"{mapper}_snap"), ("maintenance", mapper)):
        words = entries[name].split()
        assert words[1:5] == [
            "root=UUID=0a1b-2c",
            f"boxroot={root}",
            "ro",
            "volfile=/pipeline/box.img",
        ]
        assert "rootflags=data=journal" in words


def test_only_the_snapshots_boot_is_free_on_a_box_that_was_shut_off(box: Box) -> None:
    box.write("etc/default/resnap", DEFAULTS.replace("UUID=", "UUID=0a1b-2c"))
    box.within("/sbin/update-grub")
    assert box.menu.index("source $prefix/secured.cfg") < box.menu.index("menuentry")
    entries = re.findall(r"--id (\S+)(.*)\{", box.menu)
    free = [name for name, words in entries if "--unrestricted" in words]
    assert free == ["resnap", "keep"]
    assert len(entries) > 3


def test_the_maintenance_that_root_asked_for_needs_no_password_of_the_hosts(box: Box) -> None:
    """Only where the box was not shut off, and only in the boot that next-boot chose."""
    box.within("/sbin/update-grub")
    header, _, _ = box.menu.partition("menuentry")
    guard = '[ "$boot_once" = true -a "$default" = maintenance -a -z "$secured" ]'
    assert f"if {guard}; then\nset maintenance=--unrestricted\nfi" in header
    guard = guard.replace("= maintenance ", "= old-root ")
    assert f"if {guard}; then\nset old_root=--unrestricted\nfi" in header
    assert header.index("secured.cfg") < header.index(guard)
    entries = dict(re.findall(r"--id (\S+)(.*)\{", box.menu))
    assert [name for name, words in entries.items() if "$maintenance" in words] == ["maintenance"]


def test_the_menu_finds_boot_below_the_root(box: Box) -> None:
    box.write("fake/boot_on_root")
    box.within("/sbin/update-grub")
    assert f"linux /boot/vmlinuz-{NEW} " in box.menu
    assert f"initrd /boot/initrd.img-{NEW}\n" in box.menu


def test_a_kernel_without_an_initrd_has_no_entry(box: Box) -> None:
    (box.root / f"boot/initrd.img-{NEW}").unlink()
    box.within("/sbin/update-grub")
    assert list(_entries(box.menu)) == ["resnap", "keep", "maintenance"]
    assert NEW not in box.menu


def test_no_kernel_at_all_is_an_error(box: Box) -> None:
    box.kernels()
    done = box.within("/sbin/update-grub")
    assert done.returncode == 1
    assert done.stderr == "09_resnap: no kernel in /boot has an initrd and modules\n"


def test_the_old_system_is_a_way_back(box: Box) -> None:
    box.within("/sbin/update-grub")
    assert "--id old-root" not in box.menu
    box.write("etc/default/resnap", DEFAULTS.replace("UUID=", "UUID=0a1b-2c"))
    box.within("/sbin/update-grub")
    _, _, entry = box.menu.partition("--id old-root")
    assert "search --no-floppy --fs-uuid --set=root 0a1b-2c\n" in entry
    assert "set prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n" in entry


def test_the_old_system_may_have_its_boot_on_a_filesystem_of_its_own(box: Box) -> None:
    ids = "OLD_ROOT_UUID=0a1b-2c\nOLD_BOOT_UUID=3d-4e\n"
    box.write("etc/default/resnap", DEFAULTS.replace("OLD_ROOT_UUID=\n", ids))
    box.within("/sbin/update-grub")
    _, _, entry = box.menu.partition("--id old-root")
    assert "--set=root 3d-4e\nset prefix=($root)/grub\nconfigfile" in entry


def test_a_host_that_is_given_back_starts_its_old_root_by_itself(box: Box) -> None:
    """By the menu of its own that /boot keeps, or by the entry of the old root on its disk."""
    box.within("/sbin/update-grub")
    header, _, _ = box.menu.partition("menuentry")
    guard = '[ -f $prefix/given-back -a "$boot_once" != true -a -z "$secured" ]'
    _, _, then = header.partition(f"if {guard}; then\n")
    assert then.startswith("if [ -f $prefix/before/menu.cfg ]; then\nconfigfile ")
    assert "fi\nset default=old-root\nset old_root=--unrestricted\nfi\n" in then


@pytest.mark.skipif(not shutil.which("grub-script-check"), reason="needs grub-common")
def test_grub_itself_takes_the_menu(box: Box) -> None:
    box.write("etc/default/resnap", DEFAULTS.replace("UUID=", "UUID=0a1b-2c"))
    box.within("/sbin/update-grub")
    check = subprocess.run(
        ["grub-script-check"], input=box.menu, capture_output=True, text=True, check=False
    )
    assert (check.returncode, check.stderr) == (0, "")


def test_the_default_entry_is_the_reset(box: Box) -> None:
    done = box.within("sh", "-c", ". /etc/default/grub.d/resnap.cfg; echo $GRUB_DEFAULT")
    assert done.stdout == "resnap\n"
    box.within("/sbin/update-grub")
    assert "resnap" in _entries(box.menu)


@pytest.mark.parametrize("entry", ["resnap", "keep", "maintenance", "old-root"])
def test_the_next_boot_takes_an_entry_once(box: Box, entry: str) -> None:
    done = box.within("/usr/lib/resnap/next-boot", entry)
    assert done.returncode == 0, done.stderr
    assert box.environment == f"next_entry={entry}\n"


def test_what_else_grub_remembers_stays(box: Box) -> None:
    box.write("boot/grub/grubenv", "other=1\n")
    assert box.within("/usr/lib/resnap/next-boot", "keep").returncode == 0
    assert box.environment == "other=1\nnext_entry=keep\n"


def test_until_grubs_memory_is_whole_the_old_one_is_there(box: Box) -> None:
    box.write("boot/grub/grubenv", "other=1\n")
    box.write("fake/no_power")
    assert box.within("/usr/lib/resnap/next-boot", "keep").returncode != 0
    assert box.environment == "other=1\n"
    (box.root / "fake/no_power").unlink()
    assert box.within("/usr/lib/resnap/next-boot", "resnap").returncode == 0
    assert box.environment == "other=1\nnext_entry=resnap\n"


@pytest.mark.skipif(not shutil.which("grub-editenv"), reason="needs grub-common")
def test_grub_itself_takes_a_memory_that_a_power_cut_emptied(box: Box) -> None:
    install(Path(shutil.which("grub-editenv") or ""), box.root, "bin/grub-editenv")
    (box.root / "sbin/grub-editenv").unlink()
    box.write("boot/grub/grubenv")
    done = box.within("/usr/lib/resnap/next-boot", "maintenance")
    assert done.returncode == 0, done.stderr
    assert "\nnext_entry=maintenance\n" in box.environment
    assert len(box.environment) == 1024


def test_in_a_snapshot_boot_is_mounted_for_that_command_alone(box: Box) -> None:
    (box.root / "fake/mounted/boot").unlink()
    done = box.within("/usr/lib/resnap/next-boot", "maintenance")
    assert done.returncode == 0, done.stderr
    assert box.calls[:2] == ["unshare --mount", "mount /boot"]
    assert box.environment == "next_entry=maintenance\n"


def test_a_boot_that_cannot_be_mounted_is_an_error(box: Box) -> None:
    (box.root / "fake/mounted/boot").unlink()
    box.write("fake/no_mount")
    done = box.within("/usr/lib/resnap/next-boot", "maintenance")
    assert (done.returncode, done.stderr) == (32, "mount: no /boot\n")
    assert not [call for call in box.calls if call.startswith("grub-editenv")]


@pytest.mark.parametrize("words", [[], [""], ["evil; rm"], ["maintenance-6.1"]])
def test_the_next_boot_is_no_other_entry(box: Box, words: list[str]) -> None:
    done = box.within("/usr/lib/resnap/next-boot", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: next-boot ")
    assert box.calls == []


@pytest.mark.parametrize("verdict", ["fresh", "kept", "failed", "golden"])
def test_a_kernel_is_not_installed_in_a_snapshot(box: Box, verdict: str) -> None:
    box.came_out(verdict)
    done = box.within("/etc/kernel/preinst.d/resnap", NEW)
    assert done.returncode == (0 if verdict == "golden" else 1)
    assert ("this root is a snapshot" in done.stderr) is (verdict != "golden")


def test_a_new_kernel_gets_its_initrd_with_the_reset(box: Box) -> None:
    done = box.within("/etc/kernel/postinst.d/zzz-makeinitrd", NEW, f"/boot/vmlinuz-{NEW}")
    assert done.returncode == 0, done.stderr
    assert box.calls[0] == made(NEW)
    (box.root / "usr/sbin/makeinitrd").unlink()
    assert box.within("/etc/kernel/postinst.d/zzz-makeinitrd", NEW).returncode == 0
