"""Compare what libvirt may leave on a host before and after a test."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.desk import shell

_DAEMONS = ("libvirtd", "virtlogd", "dnsmasq")
_FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
_COUNTERS = re.compile(r"\[\d+:\d+\]")


@contextlib.contextmanager
def none_left(folder: Path, written: tuple[str, ...]) -> Iterator[None]:
    """Fail if the host has changed when the block ends.

    This covers network links, firewall and forwarding; the daemons and all processes with
    ``folder`` in their arguments; mounts on ``written`` or below ``folder``; and libvirt's folders
    in ``written``.
    """
    before = _found(folder, written)
    yield
    assert _found(folder, written) == before


def _found(folder: Path, written: tuple[str, ...]) -> dict[str, object]:
    sysctl = Path("/proc/sys/net")
    return {
        "links": json.loads(shell.run(["ip", "-json", "link"]).stdout),
        "firewall": _rules("iptables-save") + _rules("ip6tables-save"),
        "forwarding": [(sysctl / name).read_text() for name in _FORWARDING],
        "processes": _processes(folder),
        "mounts": [
            point
            for _, point, *_ in map(str.split, Path("/proc/self/mounts").read_text().splitlines())
            if point in written or Path(point).is_relative_to(folder)
        ],
        "files": [
            (str(file), file.lstat().st_mtime_ns)
            for place in written
            for file in sorted(Path(place).glob("libvirt/**/*"))
        ],
    }


def _rules(tool: str) -> list[str]:
    """The rules without counters and without comments, which have the time."""
    lines = shell.run([tool]).stdout.splitlines()
    return [_COUNTERS.sub("", line) for line in lines if not line.startswith("#")]


def _processes(folder: Path) -> list[tuple[str, str]]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            name = (process / "comm").read_text().strip()
            if name in _DAEMONS or str(folder).encode() in (process / "cmdline").read_bytes():
                found.append((process.name, name))
    return sorted(found)
