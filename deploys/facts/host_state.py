"""The state of a host: its system and, if it is a box, its last reset.

This file needs nothing but Python, as a box reads its own state with it
(deploys/services/status_page.py).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import NamedTuple

from deploys.facts.mapper import mapper_name

EFI_VARIABLES = "/sys/firmware/efi/efivars"
# The GUID is that of the specification's own variables (UEFI 2.10, 3.3). A variable's file begins
# with four bytes of attributes.
SECURE_BOOT = f"{EFI_VARIABLES}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


class Meaning(NamedTuple):
    """What a verdict means: what the host runs on, and whether that is good, warning or alarm."""

    mode: str
    kind: str


VERDICTS = {
    "fresh": Meaning("snapshot", "good"),
    "kept": Meaning("snapshot", "warning"),
    "golden": Meaning("maintenance", "warning"),
    "failed": Meaning("failed", "alarm"),
}
"""The verdicts that the reset (static/onbox/usr/lib/resnap/resnap) leaves in /run/resnap."""

# A host may answer anything. What it says stays small, and numbers are such that there is a date.
_MOST_LINES, _LONGEST_LINE = 10_000, 4000
_MOST_ROWS = 30  # filesystems, packages of the stack
_COUNT = re.compile(r"[0-9]{1,18}")
_TIME = re.compile(r"[0-9]{1,11}")
_CLOCK = re.compile(r"-?[0-9]{1,10}")
_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")

# For boxes whose /etc/default/resnap is older than WATCHED.
_WATCHED = "/persistent"


def _plain(name: str) -> str:
    """Shell: whether a name in /persistent is a plain file, which is ``$file`` then."""
    return f'file="$root/persistent/{name}"; [ -f "$file" ] && [ ! -L "$file" ]'


# All are read by one command, as a round trip to an emulated guest takes a tenth of a second.
# $root is the folder that stands for /. It is empty, except in tests.
_PARTS = {
    "os": 'cat "$root/etc/os-release"',
    "boot_id": 'cat "$root/proc/sys/kernel/random/boot_id"',
    "firmware": '[ ! -d "$root/sys/firmware/efi" ] || echo uefi; '
    f'[ "$(od -An -tu1 -j4 -N1 "$root{SECURE_BOOT}" | tr -d " ")" != 1 ] || echo secure',
    "kernel": "uname -r",
    "uptime": 'cat "$root/proc/uptime"',
    "clock": "date +%s",
    "modules": 'ls -d "$root/lib/modules/$(uname -r)"',
    "defaults": 'cat "$root/etc/default/resnap"',
    "verdict": f'for v in {" ".join(VERDICTS)}; do [ ! -e "$root/run/resnap/$v" ] || '
    '{ echo "verdict=$v"; cat "$root/run/resnap/$v"; }; done',
    "quarantine": '[ ! -e "$root/run/resnap/quarantine" ] || echo yes',
    "trial": 'grep -Eq " (trial|safety)( |$)" "$root/proc/cmdline" && '
    '[ ! -e "$root/run/resnap/tried" ] && echo yes',
    # Files of /persistent may be anything: a FIFO would have this command wait.
    "rolled_back": f'{_plain("log/rolled-back")} && cat "$file"',
    "overfull": f'{_plain("log/overfull")} && cut -d" " -f1 "$file"',
    "snapshot": "dmsetup status --target snapshot",
    # makeinitrd looks in the same order: dracut's core may be installed beside initramfs-tools.
    "initrds": 'if [ -x "$root/usr/sbin/update-initramfs" ]; then echo initramfs-tools; '
    'elif [ -x "$root/usr/bin/dracut" ]; then echo dracut; fi',
    "sources": '"$root/usr/sbin/makeinitrd" --digest',
    "release": 'cat "$root/etc/pipeline-release"',
    "secured": f'{_plain("settings/runsecure")} && head -n 1 "$file"',
    "provisiond": 'for s in done failed; do [ ! -e "$root/run/provisiond/$s" ] || '
    '{ echo "state=$s"; cat "$root/run/provisiond/$s"; }; done',
    "filesystems": "df --block-size=1 --output=target,used,avail / "
    f'$(. "$root/etc/default/resnap"; echo "${{WATCHED:-{_WATCHED}}}")',
    # If /boot is not mounted, its superblock says how much is free; or it is a folder of the host's
    # root (of a box in a file).
    "boot": "spaces='df --block-size=1 --output=target,used,avail'; "
    'if mountpoint -q "$root/boot"; then $spaces "$root/boot"; else where=$(findmnt --fstab '
    '--evaluate --noheadings --output SOURCE "$root/boot"); if [ -d "$where" ]; then '
    'set -- $($spaces "$where" | tail -n 1); echo; echo "/boot $2 $3"; '
    'else dumpe2fs -h "$where"; fi; fi',
    "mounts": 'cat "$root/proc/self/mountinfo"',
    # Debian's packages or ours: never both are installed.
    "versions": "dpkg-query -W -f '${db:Status-Status} ${Package}=${Version}\\n' lammps "
    "libkim-api2 openkim-models 'pipeline-*' | sed -n 's/^installed //p'",
}


@dataclass(frozen=True)
class Verdict:
    """What the initramfs says of the root that it mounted.

    Attributes:
        name: one of ``VERDICTS``.
        started: when the reset began to wait for the volume group. Times are in seconds of the
            kernel's clock.
        disk: when the volume group was there.
        finished: when the reset was done.
        reason: why the root is no fresh snapshot; empty if none was wanted.
        initrd: the digest of the sources that the initrd was made from.
    """

    name: str
    started: float | None = None
    disk: float | None = None
    finished: float | None = None
    reason: str = ""
    initrd: str = ""

    @property
    def reset_seconds(self) -> float | None:
        """Seconds that the reset took, without the wait for the disk."""
        if self.disk is None or self.finished is None:
            return None
        return round(self.finished - self.disk, 2)


@dataclass(frozen=True)
class HostState:
    """The state of a host. A host that is no box has no ``verdict`` and no ``release``.

    Attributes:
        uptime: seconds.
        clock: the host's own clock, in seconds since 1970.
        read_at: the clock of the machine that read the state, if that is another machine.
        has_modules: the running kernel's modules are installed.
        defaults: the variables of /etc/default/resnap.
        in_quarantine: the reset failed each time (/usr/lib/resnap/quarantine).
        in_trial: a changed golden root is tried, or it was rolled back and /boot not yet
            (/usr/lib/resnap/trial).
        rolled_back: when the last change was rolled back, by the box's own clock, and why.
        overfull: when the box reset itself because its snapshot had filled up, by its own clock
            (/usr/lib/resnap/pressure).
        initrds: the program that makes the initrds: initramfs-tools or dracut.
        sources: the digest of what the next initrd would be made from.
        release: the variables of /etc/pipeline-release.
        secured: the role that ``secure`` gave the box. It is kept in /persistent, as the golden
            root's ``release`` does not know it.
        free: free bytes by mount point. /boot is among them even if it is not mounted.
        used: the same for used bytes.
        mounts: the mount options of the root and of the box's own volumes, by mount point.
        versions: the version of each package of the stack.
    """

    os_id: str = ""
    os_version: str = ""
    boot_id: str = ""
    kernel: str = ""
    firmware: str = "bios"
    secure_boot: bool = False
    uptime: float = 0.0
    clock: int = 0
    read_at: float | None = None
    has_modules: bool = False
    defaults: Mapping[str, str] = field(default_factory=dict)
    verdict: Verdict | None = None
    in_quarantine: bool = False
    in_trial: bool = False
    rolled_back: tuple[int, str] | None = None
    snapshot_percent: float | None = None
    overfull: tuple[int, ...] = ()
    initrds: str = ""
    sources: str = ""
    release: Mapping[str, str] = field(default_factory=dict)
    secured: str = ""
    provisiond: Mapping[str, str] = field(default_factory=dict)
    free: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)
    mounts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_box(self) -> bool:
        return bool(self.defaults)

    @property
    def role(self) -> str:
        """The box's role: gateway, the role that ``secure`` gave it, or devel; empty if no box.

        The release file of an older version may have another word, which had no effect.
        """
        made = self.release.get("ROLE", "")
        return made if made in ("", "gateway") else self.secured or "devel"

    @property
    def watched(self) -> tuple[str, ...]:
        """The mount points of the box's own volumes that ``status`` checks."""
        return _watched(self.defaults)

    @property
    def in_snapshot(self) -> bool:
        """Whether the root is a snapshot. On the host itself /run/resnap/in-snapshot says so."""
        return self.verdict is not None and VERDICTS[self.verdict.name].mode == "snapshot"

    @property
    def reset_at(self) -> datetime | None:
        """When the last reset was done, by the host's own clock."""
        if self.verdict is None or self.verdict.finished is None:
            return None
        seconds = self.clock - self.uptime + self.verdict.finished
        return datetime.fromtimestamp(seconds, timezone.utc)

    @property
    def initrd_matches(self) -> bool:
        """Whether the kernel has its modules, and the initrd was made from the present sources."""
        return (
            self.has_modules
            and self.verdict is not None
            and bool(self.sources)
            and self.verdict.initrd == self.sources
        )


def command(root: str = "") -> str:
    """The shell command that prints a state. ``root`` is a folder that stands for ``/``."""
    return f"root={shlex.quote(root)}; {in_turn(_PARTS)}"


def in_turn(commands: Mapping[str, str]) -> str:
    """One shell command that runs all, and prints the name of each before its output."""
    parts = (
        f"echo @{name}; {{ {words}; }} 2>/dev/null || true" for name, words in commands.items()
    )
    return "; ".join(parts)


def by_name(output: Sequence[str], names: Iterable[str]) -> dict[str, list[str]]:
    """The lines that each command of :func:`in_turn` printed."""
    parts: dict[str, list[str]] = {name: [] for name in names}
    current: list[str] = []
    for line in output:
        if line.startswith("@") and line[1:] in parts:
            current = parts[line[1:]]
        else:
            current.append(line)
    return parts


def parsed(output: Sequence[str]) -> HostState:
    """Parse the lines that the command printed.

    Raises:
        ValueError: a number is none.
        ArithmeticError: the snapshot has no size, or too large a one.
    """
    parts = by_name([line[:_LONGEST_LINE] for line in output[:_MOST_LINES]], _PARTS)
    spaces = (*_spaces(parts["filesystems"]), *_spaces(parts["boot"]), *_superblock(parts["boot"]))
    first = {name: lines[0].strip() if lines else "" for name, lines in parts.items()}
    os_release = _assignments(parts["os"])
    defaults = _assignments(parts["defaults"])
    return HostState(
        os_id=os_release.get("ID", ""),
        os_version=os_release.get("VERSION_ID", ""),
        boot_id=first["boot_id"],
        kernel=first["kernel"],
        firmware="uefi" if "uefi" in parts["firmware"] else "bios",
        secure_boot="secure" in parts["firmware"],
        uptime=float(_matching(_SECONDS, (first["uptime"] or "0").split()[0])),
        clock=int(_matching(_CLOCK, first["clock"] or "0")),
        has_modules=bool(first["modules"]),
        defaults=defaults,
        verdict=_verdict(_assignments(parts["verdict"])),
        in_quarantine=bool(first["quarantine"]),
        in_trial=bool(first["trial"]),
        rolled_back=_rolled_back(first["rolled_back"]),
        snapshot_percent=_percent(parts["snapshot"], defaults),
        overfull=tuple(int(line) for line in parts["overfull"] if _TIME.fullmatch(line)),
        initrds=first["initrds"],
        sources=first["sources"],
        release=_assignments(parts["release"]),
        secured=first["secured"] if re.fullmatch(r"[a-z-]+", first["secured"]) else "",
        provisiond=_assignments(parts["provisiond"]),
        free={target: free for target, _, free in spaces[:_MOST_ROWS]},
        used={target: used for target, used, _ in spaces[:_MOST_ROWS]},
        mounts=_mounts(parts["mounts"], _watched(defaults)),
        versions=_assignments(parts["versions"][:_MOST_ROWS]),
    )


def _matching(pattern: re.Pattern[str], text: str) -> str:
    """The text, if it is such a number."""
    if not pattern.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no number of this kind")
    return text


def _assignments(lines: list[str]) -> dict[str, str]:
    pairs = (line.strip().split("=", 1) for line in lines if "=" in line and line[0] != "#")
    return {name: value.strip("\"'") for name, value in pairs}


def _verdict(values: dict[str, str]) -> Verdict | None:
    if values.get("verdict") not in VERDICTS:
        return None
    times = {
        name: float(_matching(_SECONDS, values[name]))
        for name in ("started", "disk", "finished")
        if name in values
    }
    return Verdict(
        values["verdict"], reason=values.get("reason", ""), initrd=values.get("initrd", ""), **times
    )


def _rolled_back(line: str) -> tuple[int, str] | None:
    when, _, why = line.partition(" ")
    return (int(when), why) if _TIME.fullmatch(when) else None


def _percent(lines: list[str], defaults: Mapping[str, str]) -> float | None:
    """How full the snapshot is, from dmsetup's line ``NAME: 0 LENGTH snapshot USED/TOTAL META``.

    The kernel's Documentation/admin-guide/device-mapper/snapshot.rst describes the line.
    """
    if not {"VOLGROUP", "LVSNAP"} <= defaults.keys():
        return None
    device = mapper_name(defaults["VOLGROUP"], defaults["LVSNAP"])
    for line in lines:
        if match := re.fullmatch(rf"{re.escape(device)}: .* (\d+)/(\d+) \d+", line.strip()):
            return round(100 * int(match[1]) / int(match[2]), 2)
    return None


def _spaces(lines: list[str]) -> list[tuple[str, int, int]]:
    """Mount points with their used and free bytes, from df's lines."""
    rows = (line.split() for line in lines[1:])
    return [
        (row[0], int(row[1]), int(row[2]))
        for row in rows
        if len(row) == 3 and row[0][0] == "/" and all(map(_COUNT.fullmatch, row[1:]))
    ]


def _superblock(lines: list[str]) -> list[tuple[str, int, int]]:
    """The same for /boot, from dumpe2fs's lines; empty if dumpe2fs did not print them."""
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    values = {name: value.strip() for name, value in pairs}
    names = ("Block count", "Free blocks", "Reserved block count", "Block size")
    if not all(_COUNT.fullmatch(values.get(name, "")) for name in names):
        return []
    count, free, reserved, size = (int(values[name]) for name in names)
    return [("/boot", (count - free) * size, max(0, free - reserved) * size)]


def _watched(defaults: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(defaults.get("WATCHED", _WATCHED).split()[:_MOST_ROWS])


def _mounts(lines: list[str], watched: Sequence[str]) -> dict[str, frozenset[str]]:
    """The mount options of the root and of the watched volumes.

    They are the filesystem's own: in a service's mount namespace the options of a mount differ.
    See proc_pid_mountinfo(5). If several filesystems are mounted at one place, the last counts.
    """
    rows = (line.split(" ") for line in lines)
    return {
        row[4]: frozenset(row[-1].split(","))
        for row in rows
        if len(row) >= 10 and row[4] in ("/", *watched)
    }
