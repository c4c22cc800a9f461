"""A root like an initramfs: a shell, a few programs, and as much of lvm and udev as a reset sees.

The script under test is the project's own file, run by chroot: its absolute paths are true there.
Time is the file /proc/uptime, and only the stand-in for sleep moves it: a deadline of two minutes
passes in a second, and always at the same step.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest

from deploys.facts.host_state import VERDICTS
from deploys.facts.mapper import mapper_path
from tests.unit.onbox.fakeroot import Tree

RESNAP = Path(__file__).parents[3] / "static/onbox/usr/lib/resnap/resnap"
# What klibc's initramfs offers besides the shell's builtins, of that what the script may use.
_REAL = ("mkdir", "mv", "cat")

FRESH = "0 8388608 snapshot 256/8454144 256"
DIRTY = "0 8388608 snapshot 9216/8454144 256"
MERGING = "0 8388608 snapshot-merge 253:1 253:3 P 128"

# Its knobs are files in /fake: busy (how often lvremove fails), held (the safety volume is, ever),
# refuses (what lvcreate says instead), status.new (of the snapshot it takes), merge (seconds),
# merge_refuses, lvm_activates, partial (a disk is missing), lost (where the metadata is missing, of
# a disk that is broken), texts (what pvck finds of it), unreadable (those of them that it cannot
# use, by their offsets).
_LVM = """. /fake/names
one() {
    echo "$*" >>/fake/calls
    case " $* " in
    *' lvchange '*' --poll y '*) : ;;
    ' vgchange '*)
        case "$*" in
        *partial*) [ ! -e /fake/partial ] || : >"/dev/mapper/$origin" ;;
        *) [ ! -e /fake/lvm_activates ] || : >"/dev/mapper/$origin" ;;
        esac
        ;;
    *' --dump metadata '*)
        if [ -e /fake/lost ]; then
            echo '  CHECK: failed to parse metadata text'
            read -r lost </fake/lost
            [ -z "$lost" ] || echo "  metadata text at $lost crc 0xf26326cb # vgname ? seqno 0"
            return 5
        fi
        ;;
    *' --dump metadata_search '*' --file '*)
        if [ -e "$7" ]; then
            echo "  Failed to create file $7" >&2
            return 5
        fi
        echo "$5" >"$7"
        ;;
    *' --dump metadata_search '*) cat /fake/texts ;;
    ' pvck --yes --repair '*)
        read -r offset <"$5"
        case " $(cat /fake/unreadable) " in
        *" ${offset#*=} "*)
            echo '  Parse error at byte 733 (line 40): unexpected token' >&2
            return 5
            ;;
        esac
        : >/fake/lvm_activates
        ;;
    ' lvconvert '*)
        if [ -e /fake/merge_refuses ]; then
            echo '  Unable to merge invalidated snapshot LV' >&2
            return 5
        fi
        echo '@MERGING@' >"/fake/table/$origin"
        ;;
    ' lvremove '*'_safety ')
        [ ! -e /fake/held ] || return 5
        /fake/rm "/dev/mapper/${origin}_safety" "/fake/table/${origin}_safety"
        ;;
    ' lvremove '*)
        if [ ! -e "/dev/mapper/$snapshot" ]; then
            echo '  Failed to find logical volume "the snapshot"' >&2
            return 5
        fi
        read -r busy </fake/busy
        if [ "$busy" != 0 ]; then
            [ "$busy" = ever ] || echo $((busy - 1)) >/fake/busy
            echo '  Logical volume the snapshot is used by another device.' >&2
            return 5
        fi
        /fake/rm "/dev/mapper/$snapshot" "/fake/status/$snapshot"
        ;;
    ' lvcreate '*)
        if [ -e "/dev/mapper/$snapshot" ]; then
            echo '  Logical Volume "the snapshot" already exists' >&2
            return 5
        elif [ -e /fake/refuses ]; then
            cat /fake/refuses >&2
            return 5
        fi
        : >"/dev/mapper/$snapshot"
        cat /fake/status.new >"/fake/status/$snapshot"
        ;;
    esac
}
if [ $# -gt 0 ]; then
    one "$@"
    exit
fi
while read -r line; do
    set -f
    one $line
done
echo 'File descriptor 3 (socket:[1]) leaked on lvm invocation.' >&2
exit 0
""".replace("@MERGING@", MERGING)

# It says what the files say; of a snapshot it can lose the table, and give it another. Its knob is
# fails (the verb that does).
_DMSETUP = """. /fake/names
case $1 in
table | status)
    [ -e "/fake/$1/$2" ] || { echo 'Device does not exist.' >&2; exit 1; }
    cat "/fake/$1/$2"
    exit
    ;;
esac
echo "dmsetup $*" >>/fake/calls
verb=
[ ! -e /fake/fails ] || read -r verb </fake/fails
[ "$1" != "$verb" ] || { echo "device-mapper: $1 ioctl failed" >&2; exit 1; }
case "$1 $2" in
"wipe_table $snapshot") echo '0 8388608 error' >"/fake/status/$snapshot" ;;
"resume $snapshot") cat /fake/status.new >"/fake/status/$snapshot" ;;
esac
"""

_HELPER = """echo "${0##*/} $*" >>/fake/calls
[ ! -e "/fake/${0##*/}-fails" ]
"""

_BLKID = """[ "$*" != '-t TYPE=LVM2_member -o device' ] || [ ! -e /fake/lost ] || echo /dev/vda4
"""

# The volume group comes up when the clock says so.
_UDEVADM = """. /fake/names
read -r up _ </proc/uptime
read -r at </fake/appears_at
if [ "${up%.*}" -ge "$at" ]; then : >"/dev/mapper/$origin"; fi
"""

_SLEEP = """. /fake/names
read -r up idle </proc/uptime
echo "$((${up%.*} + $1)).${up#*.} $idle" >/proc/uptime
echo "sleep $1" >>/fake/calls
if [ -e /fake/lingers ] && [ ! -e "/fake/table/$origin" ]; then
    /fake/rm -f "/dev/mapper/${origin}_safety"
fi
[ -e "/fake/table/$origin" ] || exit 0
read -r left </fake/merge
echo $((left - 1)) >/fake/merge
[ "$left" -gt 1 ] || /fake/rm -f "/fake/table/$origin"
[ "$left" -gt 1 ] || [ -e /fake/lingers ] || /fake/rm -f "/dev/mapper/${origin}_safety"
"""


@cache
def _chroot() -> list[str] | None:
    argv = ["chroot"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "chroot"]
    try:
        subprocess.run([*argv, "/", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return argv


class SmallRoot(Tree):
    """A root with programs of its own, by chroot; where that is not allowed the test skips."""

    PATH: ClassVar = "/usr/sbin:/sbin:/bin"

    @property
    def argv(self) -> list[str]:
        """What a command that is to run in it begins with."""
        chroot = _chroot()
        if chroot is None:
            pytest.skip("chroot needs root, or user namespaces")
        return [*chroot, str(self.root)]

    def within(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """How a command ended in it; it may use no program but those of the root."""
        return subprocess.run(
            [*self.argv, *argv],
            env={"PATH": self.PATH},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def skeleton(root: Path, shell: Path) -> None:
    """The parts of the root that no test changes: ``shell`` as /bin/sh, and real programs."""
    install(shell, root, "bin/sh")
    for name in _REAL:
        install(Path(shutil.which(name) or name), root, f"bin/{name}")
    install(Path(shutil.which("rm") or "rm"), root, "fake/rm")
    for name, text in (
        ("lvm", _LVM),
        ("dmsetup", _DMSETUP),
        ("blkid", _BLKID),
        ("udevadm", _UDEVADM),
        ("sleep", _SLEEP),
    ):
        Tree(root).program(f"sbin/{name}", text)
    for name in ("dd", "blkdiscard"):
        Tree(root).program(f"usr/lib/resnap/{name}", _HELPER)
    for name in ("resnap", "lib.sh"):
        shutil.copy(RESNAP.parent / name, root / "usr/lib/resnap" / name)


def install(program: Path, root: Path, path: str) -> None:
    """Put a program of this machine, with its libraries, at ``path`` below ``root``."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, target)
    ldd = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    klibc = Path("/lib").glob("klibc-*.so")  # ldd does not know it
    for word in [*ldd.split(), *map(str, klibc)]:
        library = root / word.lstrip("/")
        if word.startswith("/") and not library.exists():
            library.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, library)


@dataclass
class Initramfs(SmallRoot):
    """One boot: made by a test, run step by step, and asked what came of it."""

    PATH: ClassVar = "/sbin:/bin"
    group: str = "vagrant-pipeline"
    lvroot: str = "root"
    lvsnap: str = "root_snap"
    lvsize: str = "100%ORIGIN"
    said: str = field(default="", init=False)

    def __post_init__(self) -> None:
        for folder in ("proc/self", "dev/mapper", "dev/kmsg", "run", "conf", "etc/default"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for folder in ("fake/status", "fake/table", "sys/block"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self.write("proc/uptime", "3.21 5.00\n")
        self.write("usr/lib/resnap/sources", "0123abcd\n")
        self.write("etc/default/resnap", "DEADLINE=5\nCHUNKSIZE=64K\n")
        self.write("fake/names", f"origin={self.origin}\nsnapshot={self.snapshot}\n")
        self.write("fake/calls", "")
        self.write("fake/appears_at", "0\n")
        self.write("fake/busy", "0\n")
        self.write("fake/merge", "3\n")
        self.write("fake/status.new", FRESH)
        self.cmdline("resnap")

    @property
    def origin(self) -> str:
        return Path(mapper_path(self.group, self.lvroot)).name

    @property
    def snapshot(self) -> str:
        return Path(mapper_path(self.group, self.lvsnap)).name

    def cmdline(self, *words: str, root: str | None = None) -> None:
        """The kernel's arguments: the box's own, then ``words``."""
        root = root or f"/dev/mapper/{self.snapshot}"
        own = f"volgroup={self.group} lvroot={self.lvroot} lvsnap={self.lvsnap}"
        line = f"BOOT_IMAGE=/vmlinuz root={root} ro {own} lvsize={self.lvsize} "
        self.write("proc/cmdline", f"{line}{' '.join(words)}\n")

    def has_snapshot(self, status: str) -> None:
        self.write(f"dev/mapper/{self.snapshot}", "")
        self.write(f"fake/status/{self.snapshot}", f"{status}\n")

    def has_volumes(self, origin: int, cow: int, chunk: int = 128) -> None:
        """The snapshot's own volumes, in sectors, as its table names them."""
        self.write(f"fake/table/{self.snapshot}", f"0 {origin} snapshot 253:2 253:3 P {chunk}\n")
        for number, (name, size) in enumerate(
            ((self.origin, origin), (self.snapshot, origin), (f"{self.snapshot}-cow", cow))
        ):
            self.write(f"sys/block/dm-{number}/dm/name", f"{name}\n")
            self.write(f"sys/block/dm-{number}/size", f"{size}\n")

    def has_safety(self, table: str = "0 8388608 snapshot 253:1 253:3 P 128") -> None:
        self.write(f"dev/mapper/{self.origin}_safety", "")
        self.write(f"fake/table/{self.origin}_safety", f"{table}\n")

    def is_merging(self, snapshot: str | None = None) -> None:
        """The safety snapshot, or another, goes into the golden root."""
        self.write(f"fake/table/{self.origin}", f"{MERGING}\n")
        name = snapshot or f"{self.origin}_safety"
        self.write("sys/dev/block/253:3/dm/name", f"{name}-cow\n")

    def run(self, *arguments: str) -> int:
        """Run the script; its exit code."""
        done = self.within("/bin/sh", "/usr/lib/resnap/resnap", *arguments)
        self.said += done.stdout
        # /dev/kmsg is a directory, so that what is said goes to standard output
        faults = [line for line in done.stderr.splitlines() if "/dev/kmsg" not in line]
        assert not faults or done.returncode == 2, faults
        return done.returncode

    def mount(self, name: str | None) -> None:
        """The root is mounted from the device-mapper device ``name``, or from none."""
        names = (self.origin, self.snapshot)
        for number, dm in enumerate(names):
            self.write(f"sys/block/dm-{number}/dev", f"253:{number}\n")
            self.write(f"sys/block/dm-{number}/dm/name", f"{dm}\n")
        device = f"253:{names.index(name)}" if name else "8:1"
        self.write(
            "proc/self/mountinfo",
            "1 1 0:2 / / rw - rootfs rootfs rw\n"
            f"22 1 {device} / /root ro,relatime - ext4 /dev/root ro\n"
            "23 1 0:21 / /run rw,nosuid - tmpfs tmpfs rw\n",
        )

    def boot(self, mounted: str | None = None) -> str:
        """All of it, up to the verdict, which is returned."""
        assert self.run("premount") == 0
        self.mount(mounted or self.mounted_by_the_kernel)
        assert self.run("verdict", "/root") == 0
        return self.verdict

    @property
    def mounted_by_the_kernel(self) -> str:
        """What initramfs-tools would mount: root= unless the script said otherwise."""
        param = self.root / "conf/param.conf"
        line = param.read_text() if param.exists() else (self.root / "proc/cmdline").read_text()
        roots = [word for word in line.split() if word.lower().startswith("root=")]
        return roots[-1].rpartition("/")[2]

    @property
    def verdict(self) -> str:
        """The one verdict there is."""
        run = self.root / "run/resnap"
        [name] = (name for name in VERDICTS if (run / name).exists())
        mark = run / "in-snapshot"
        assert mark.exists() == (VERDICTS[name].mode == "snapshot")
        assert not mark.exists() or mark.read_text() == f"{name}\n"
        return name

    @property
    def notes(self) -> dict[str, str]:
        """The verdict's content; where a key comes twice, the last, as status reads it."""
        text = (self.root / "run/resnap" / self.verdict).read_text()
        return dict(line.split("=", 1) for line in text.splitlines())

    @property
    def calls(self) -> list[str]:
        """The commands of lvm, without their --config, and the sleeps."""
        return [" ".join(_without_config(line.split())) for line in self.lines("fake/calls")]

    @property
    def outcome(self) -> str | None:
        file = self.root / "run/resnap/outcome"
        return file.read_text().strip() if file.exists() else None


def _without_config(words: list[str]) -> list[str]:
    kept: list[str] = []
    inside = False
    for word in words:
        if word == "--config":
            inside = True
        elif inside:
            inside = not word.rstrip('"').endswith("}")
        else:
            kept.append(word)
    return kept
