"""Guests in QEMU: start them, find them again, shut them down, cut their power."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Self

from deploys.errors import BoxError
from deploys.settings import STATUS_PORT
from tasks.desk import shell, ssh_keys
from tasks.desk.awaiting import awaited
from tasks.guests import folder
from tasks.guests.qemu import accelerator, hardware, qmp
from tasks.guests.qemu.console import Console


class _Record(folder.Note):
    FILE = "guest.json"

    machine: hardware.Machine
    identity: ssh_keys.Identity
    pid: int
    port: int
    page: int = 0


class Guest:
    """A QEMU process and its folder. The guest goes on running when this process ends."""

    provider = "qemu"
    off_to_compact = False  # QEMU makes a hole in the file as soon as the guest trims

    def __init__(self, directory: Path, record: _Record) -> None:
        self.directory = directory
        self._record = record

    @classmethod
    def start(
        cls,
        directory: Path,
        machine: hardware.Machine,
        identity: ssh_keys.Identity,
        accel: accelerator.Accelerator,
    ) -> Self:
        """Power on a machine in its own folder; returns as soon as QEMU runs.

        Raises:
            BoxError: the folder's guest is running, or QEMU is missing, too old or failed.
        """
        accelerator.qemu_version()
        directory = directory.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        with folder.starting(directory):
            before = cls.find(directory)
            if before is not None and before.alive:
                raise BoxError(
                    f"the guest in {directory} is running already, as process {before.pid}"
                )
            record = _launch(directory, machine, identity, accel, before)
            known_hosts = directory / "known_hosts"
            ssh_keys.write_known_hosts(known_hosts, hardware.HOST, record.port, identity.host_key)
            record.write(directory)
        return cls(directory, record)

    @classmethod
    def find(cls, directory: Path) -> Self | None:
        """Find the guest in a folder; None if there is none. It may be off.

        Raises:
            BoxError: its note cannot be read.
        """
        record = _Record.read(directory.resolve())
        return None if record is None else cls(directory.resolve(), record)

    @property
    def is_box(self) -> bool:
        """Whether it was made from a box's image: only boxes get credentials."""
        return bool(self.machine.credentials)

    @property
    def root_disk(self) -> Path:
        """The disk that it boots from."""
        return self.machine.disks[0]

    @property
    def machine(self) -> hardware.Machine:
        """The hardware with which it was started."""
        return self._record.machine

    @property
    def identity(self) -> ssh_keys.Identity:
        """Its user and its host key."""
        return self._record.identity

    @property
    def pid(self) -> int:
        """The id of the process that was started; it may have ended, see ``alive``."""
        return self._record.pid

    @property
    def alive(self) -> bool:
        """Whether it is on: its pid, which may have been reused, is a QEMU of this folder."""
        return _is_ours(self.pid, self.directory)

    @property
    def console(self) -> Console:
        """Its serial console, over all its boots."""
        return Console(self.directory / "serial.log")

    @property
    def login(self) -> ssh_keys.Login:
        """How to log in; the port may change when the guest is started again."""
        who = self._record.identity
        known_hosts = self.directory / "known_hosts"
        return ssh_keys.Login(hardware.HOST, self._record.port, who.user, who.user_key, known_hosts)

    @property
    def page(self) -> str:
        """The address of its status page on this host; the port may change as that of ``login``."""
        return f"http://{hardware.HOST}:{self._record.page}/"

    @property
    def disk_usage(self) -> int:
        """The room that its disks take on this host, in bytes, without the images below them."""
        return sum(disk.stat().st_blocks for disk in self.machine.disks) * 512

    def compact(self) -> int:
        """Do nothing, as the guest has trimmed already; returns the bytes that its disks take."""
        return self.disk_usage

    def qmp(self, name: str, **arguments: object) -> object:
        """Run a command of the QEMU Machine Protocol; raises QmpError."""
        return qmp.command(self.directory / "qmp.sock", name, **arguments)

    def halt(self, deadline: float = folder.OFF_DEADLINE) -> None:
        """Press the power button and wait, at most ``deadline`` seconds, until it is off.

        Raises:
            UnreachableError: it did not go off.
        """
        if self.alive:
            self.qmp("system_powerdown")
            self._wait(lambda: not self.alive, deadline, "is not off")

    def cut_power(self) -> None:
        """Pull the plug. A guest that is off stays off."""
        if not self.alive:
            return
        # After this nothing is written; what QEMU has written already is in the files.
        os.kill(self.pid, signal.SIGKILL)
        self._wait(lambda: not self.alive, 30, "does not die")

    def destroy(self) -> None:
        """Cut the power and remove the guest's folder."""
        self.cut_power()
        shutil.rmtree(self.directory)

    def _wait(self, condition: Callable[[], bool], deadline: float, fault: str) -> None:
        def line() -> str:
            said = f"its console ends: {self.console.tail()}"
            return f"the guest in {self.directory} {fault} after {deadline:g} s; {said}"

        awaited(condition, deadline, 0.2, line)


def _is_ours(pid: int, directory: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(directory / "pid") in words  # a zombie has no words


def _launch(
    directory: Path,
    machine: hardware.Machine,
    identity: ssh_keys.Identity,
    accel: accelerator.Accelerator,
    before: Guest | None,
) -> _Record:
    """Start QEMU, on the same ports as before if they are still free."""
    pidfile = directory / "pid"
    pidfile.unlink(missing_ok=True)
    ports = (before._record.port, before._record.page) if before else (0, 0)
    try:
        _run_qemu(directory, machine, accel, ports)
        port, page = _forwarded_ports(directory)
    except BaseException:  # Ctrl-C too: no guest may run without a note
        pid = int(pidfile.read_text()) if pidfile.exists() else 0
        if _is_ours(pid, directory):
            os.kill(pid, signal.SIGKILL)
        raise
    pid = int(pidfile.read_text())
    return _Record(machine=machine, identity=identity, pid=pid, port=port, page=page)


def _run_qemu(
    directory: Path,
    machine: hardware.Machine,
    accel: accelerator.Accelerator,
    ports: tuple[int, int],
) -> None:
    try:
        shell.run(hardware.argv(directory, machine, accel, *ports), cwd=directory, timeout=60)
    except shell.CommandError as error:
        if not any(ports) or "host forwarding" not in error.stderr:
            raise
        shell.run(hardware.argv(directory, machine, accel, 0), cwd=directory, timeout=60)


def _forwarded_ports(directory: Path) -> tuple[int, int]:
    """The ports that lead to the guest's login and to its status page.

    QEMU took them itself, so nobody can have come between.
    """
    monitor = {"command-line": "info usernet"}
    table = qmp.command(directory / "qmp.sock", "human-monitor-command", **monitor)
    rows = re.findall(r"TCP\[HOST_FORWARD\]\s+\S+\s+\S+\s+(\d+)\s+\S+\s+(\d+)\b", str(table))
    ports = {int(there): int(here) for here, there in rows}
    if not {22, STATUS_PORT} <= set(ports):
        raise BoxError("QEMU did not say which ports lead to the guest")
    return ports[22], ports[STATUS_PORT]
