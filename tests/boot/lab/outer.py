"""An outer guest: a machine of Debian's unstable in which VirtualBox and KVM run guests themselves.

QEMU emulates its processor with AMD's virtualization. See outertree.py for what is installed.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tasks.desk import shell, ssh_keys
from tasks.desk.places import ROOT
from tasks.guests.qemu import accelerator

GIB = 2**30
PROJECT = "/work/project"
# The least that a program needs in the tree. $1: the tree, $2: the folder that it has as $3. The
# namespace is private, so the mounts end with the process.
_ENTER = """
set -eu
root=$1 folder=$2 place=$3
shift 3
mount -t proc proc "$root/proc"
mount -t tmpfs dev "$root/dev"
for name in null zero full random urandom; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount --bind /etc/ssl/certs "$root/etc/ssl/certs"
mount --bind "$folder" "$root$place"
exec chroot "$root" "$@"
"""
# Without what QEMU emulates slowly (see accelerator.py), but with AMD's virtualization. Page tables
# must have four levels, as VirtualBox's do: with la57 its machines run no instruction.
_CPU = ",".join(("max", *(each for each in accelerator.SLOW if each != "svm=off")))
_MEMORY = "6144"
_ARGUMENTS = (
    # Under emulation the clock sources disagree, and watchdogs bark.
    "root=/dev/vda rw console=ttyS0 tsc=reliable nowatchdog mitigations=off nokaslr"
)
_DEADLINE = 900


@dataclass(frozen=True)
class Outer:
    """A running outer guest, which has what was carried into it as /work."""

    login: ssh_keys.Login
    console: Path

    def run(self, command: str, timeout: float = 600, check: bool = True) -> shell.Completed:
        """Run a command as root; prints what it printed and its time, for pytest to show."""
        began = time.monotonic()
        argv = [*self.login.ssh_argv(command)]
        try:
            done = shell.run(argv, timeout=timeout, check=False)
        finally:
            print(f"$ {command}: {time.monotonic() - began:.0f} s")
        print(done.stdout, done.stderr, sep="\n")
        assert not check or done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
        return done

    def succeed(self, command: str, timeout: float = 600) -> str:
        """What a command printed that had exit code 0."""
        return self.run(command, timeout).stdout

    def inv(self, words: str, timeout: float = 3600) -> str:
        """What ``bin/inv`` printed that had exit code 0."""
        return self.succeed(f"{PROJECT}/bin/inv {words}", timeout)


def carry(folder: Path, root: Path) -> Path:
    """Make what an outer guest of the tree ``root`` has as /work; returns its copy of the project.

    It has this checkout, as it is, with the .venv that bin/inv made of the tree's own Python.
    """
    ssh_keys.make_key(folder / "ssh/host")
    ssh_keys.make_key(folder / "ssh/user")
    project = folder / "project"
    shell.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, project])
    listed = ["git", "ls-files", "-z"]
    gone = shell.run([*listed, "--deleted"], cwd=ROOT).stdout.split("\0")
    there = shell.run([*listed, "--cached", "--others", "--exclude-standard"], cwd=ROOT).stdout
    for name in {*there.split("\0")} - {*gone} - {""}:
        target = project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # a link is not written over
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    for name in filter(None, gone):
        (project / name).unlink(missing_ok=True)
    shell.run(_inside(root, folder, "/work", f"{PROJECT}/bin/inv", "--list"), timeout=900)
    return project


@contextlib.contextmanager
def running(folder: Path, root: Path, carried: Path) -> Iterator[Outer]:
    """Start an outer guest of the tree ``root``, with the folder ``carried`` as its /work.

    Its disks are copies; its power is cut at the end.
    """
    for name, tree, size in (("root", root, 16), ("work", carried, 40)):
        disk = folder / f"{name}.raw"
        with disk.open("wb") as file:
            file.truncate(size * GIB)
        shell.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, disk], timeout=900)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = folder / "known_hosts"
    public = (carried / "ssh/host.pub").read_text()
    ssh_keys.write_known_hosts(known, "127.0.0.1", port, public)
    login = ssh_keys.Login("127.0.0.1", port, "root", carried / "ssh/user", known)
    console = folder / "console.log"
    with subprocess.Popen(
        _inside(root, folder, "/mnt", *_qemu(root, port)), stdin=subprocess.DEVNULL
    ) as qemu:
        try:
            outer = Outer(login, console)
            _await(outer, qemu)
            yield outer
        finally:
            qemu.kill()
            print(console.read_text(errors="replace")[-4000:])


def _await(outer: Outer, qemu: subprocess.Popen[bytes]) -> None:
    def answers() -> None:
        assert qemu.poll() is None, "QEMU ended"
        outer.succeed("true", 60)

    Retrying(
        retry=retry_if_exception_type((AssertionError, shell.CommandError)),
        stop=stop_after_delay(_DEADLINE),
        wait=wait_fixed(2),
        reraise=True,
    )(answers)


def _inside(root: Path, folder: Path, place: str, *argv: str) -> list[str]:
    """The command line that runs a program of the tree, which has a folder as ``place``."""
    enter = ["unshare", "--mount", "--propagation=private", "sh", "-c", _ENTER, "enter"]
    return [*enter, str(root), str(folder), place, *argv]


def _qemu(root: Path, port: int) -> list[str]:
    [kernel] = (root / "boot").glob("vmlinuz-*")
    argv = ["qemu-system-x86_64", "-machine", "pc", "-nodefaults", "-display", "none"]
    argv += ["-accel", "tcg,thread=multi", "-cpu", _CPU, "-smp", "1", "-m", _MEMORY]
    argv += ["-kernel", f"/boot/{kernel.name}", "-append", _ARGUMENTS]
    argv += ["-initrd", f"/boot/{kernel.name.replace('vmlinuz', 'initrd.img')}"]
    argv += ["-serial", "file:/mnt/console.log"]
    argv += ["-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22"]
    argv += ["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]
    for disk in ("root", "work"):
        # It is thrown away: what it flushes need not be on our disk.
        argv += ["-drive", f"file=/mnt/{disk}.raw,format=raw,if=virtio,cache=unsafe,discard=unmap"]
    return argv
