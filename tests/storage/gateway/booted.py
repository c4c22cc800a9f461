"""A Debian tree under its own systemd, as a container: its units, without a kernel of its own.

Whatever it starts ends with its first process, and that with the block. It has no capability by
which it could change the kernel that it shares.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tenacity import (
    Retrying,
    retry,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from tasks.debian import chroot
from tasks.desk import shell

_NAMESPACES = ("net", "mount", "pid", "cgroup", "uts", "ipc")
# The interface of systemd to who runs it as a container: what it finds mounted, and $container.
_INIT = """
set -eu
root=$1 console=$2 words=$3
ip link set lo up
ip link add early0 up type veth peer name early1 # as an initramfs may leave it
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount -o bind,ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs -o ro sys "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs run "$root/run"
mount -t tmpfs -o mode=755 dev "$root/dev"
# Nodes of its own: systemd sets the modes of its console, and a bind mount is the host's own node.
while read -r name major minor; do
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done <<END
loop-control 10 237
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
console 1 3
END
for number in $(seq 0 63); do
    mknod -m 600 "$root/dev/loop$number" b 7 "$number"
done
[ -z "$console" ] || mount --bind "$console" "$root/dev/console"
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
mount --bind "$root/boot" "$root/boot" # a partition, mounted before lock looks for it
mkdir -p "$root/run/resnap"
echo fresh | tee "$root/run/resnap/fresh" >"$root/run/resnap/in-snapshot"
cd "$root"
pivot_root . mnt
exec setpriv --bounding-set=-sys_module,-sys_rawio,-sys_time,-sys_boot,-syslog \\
    env -i container=other PATH=/usr/sbin:/usr/bin chroot . sh -c \\
    "umount -l /mnt; mount --make-rshared /
    exec /lib/systemd/systemd --system --log-target=journal $words"
"""


@dataclass(frozen=True)
class Booted:
    """A container that is up; ``pid`` is its systemd, as the host counts."""

    pid: int

    def run(self, *argv: str, check: bool = True, stdin: str | None = None) -> str:
        """What a command in it printed, run as root."""
        enter = ["nsenter", "--target", str(self.pid), *(f"--{name}" for name in _NAMESPACES)]
        return shell.run(
            [*enter, *argv], env=chroot.environment(), timeout=60, check=check, input=stdin
        ).stdout

    def shows(self, unit: str, name: str, value: str, deadline: float = 40) -> None:
        """Wait until a property of a unit has a value."""
        self.succeeds(f'test "$(systemctl show --value -p {name} {unit})" = {value}', deadline)

    def succeeds(self, script: str, deadline: float = 40) -> None:
        """Wait until a shell script has exit code 0."""
        tries = Retrying(
            retry=retry_if_result(lambda told: told != "yes"),
            stop=stop_after_delay(deadline),
            wait=wait_fixed(0.2),
        )
        tries(lambda: self.run("bash", "-c", f"if {script}; then echo yes; fi").strip())

    def property(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()


@contextlib.contextmanager
def booted(root: Path, console: str = "", *words: str) -> Iterator[Booted]:
    """A container of a root, when systemd has started all that it is to start.

    ``console`` is a terminal to be its console. systemd takes ``words`` for the kernel's arguments.
    """
    (root / "etc/machine-id").write_text(f"{'0' * 31}1\n")  # else it asks who it is
    with _cgroup() as cgroup:
        argv = [*_unshare(root), console, " ".join(words)]
        script = f"echo $$ >{cgroup}/cgroup.procs && exec {shlex.join(argv)}"
        with subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL) as unshare:
            try:
                made = Booted(_first(unshare.pid))
                made.succeeds("systemctl is-system-running | grep -qE 'running|degraded'")
                yield made
            finally:
                unshare.kill()


def _unshare(root: Path) -> list[str]:
    apart = [f"--{name}" for name in _NAMESPACES]
    argv = ["unshare", *apart, "--fork", "--kill-child", "--propagation=private"]
    return [*argv, "sh", "-c", _INIT, "init", str(root)]


def _first(unshare: int) -> int:
    """The first process of the container, once it is systemd."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children")

    def look() -> int:
        for child in children.read_text().split():
            if Path(f"/proc/{child}/exe").readlink().name == "systemd":
                return int(child)
        return 0

    tries = Retrying(
        retry=retry_if_result(lambda pid: not pid),
        stop=stop_after_delay(20),
        wait=wait_fixed(0.05),
    )
    return int(tries(look))


@contextlib.contextmanager
def _cgroup() -> Iterator[Path]:
    """A cgroup of the second version for a container; its children go with it."""
    [top] = [
        Path(line.split()[1])
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[2] == "cgroup2"
    ][:1]
    made = top / f"container-{os.getpid()}"
    made.mkdir()
    try:
        yield made
    finally:
        for folder in sorted((path.parent for path in made.rglob("cgroup.procs")), reverse=True):
            _gone(folder)


@retry(retry=retry_if_exception_type(OSError), stop=stop_after_delay(15), wait=wait_fixed(0.1))
def _gone(folder: Path) -> None:
    folder.rmdir()  # busy as long as a process is on its way out
