"""A disk image that this machine mounts, all of whose requests are logged: a guest is not needed.

QEMU has a machine without a processor. What it has of a block device it shows as a file, by FUSE; a
loop device is on that file.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tasks.desk import shell
from tasks.guests.qemu import accelerator, qmp


@contextlib.contextmanager
def logged(disk: Path, log: Path) -> Iterator[Path]:
    """The file to be used in the disk's place; ``log`` is as writelog reads it."""
    shown, socket, pid = (disk.with_suffix(suffix) for suffix in (".shown", ".qmp", ".pid"))
    log.touch()
    shown.touch()
    lower = "driver=file,cache.no-flush=on"
    argv = [accelerator.QEMU, "-machine", "none", "-nodefaults", "-display", "none", "-daemonize"]
    argv += ["-pidfile", str(pid), "-qmp", f"unix:{socket.name},server=on,wait=off"]
    argv += ["-blockdev", f"{lower},node-name=disk,filename={disk}"]
    argv += ["-blockdev", f"{lower},node-name=log,filename={log}"]
    argv += ["-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log"]
    shell.run(argv, cwd=disk.parent)
    node, where = {"node-name": "logged"}, str(shown)
    try:
        qmp.command(
            socket,
            "block-export-add",
            type="fuse",
            id="shown",
            mountpoint=where,
            writable=True,
            **node,
        )
        yield shown
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)
        shell.run(["umount", "--lazy", "--quiet", shown], check=False)  # it may have done so
