"""Guests in VirtualBox: make them from a box's image, start, find again, compact."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from deploys.errors import BoxError
from tasks.desk import shell, ssh_keys, whole_files
from tasks.desk.awaiting import awaited
from tasks.guests import credentials, folder
from tasks.guests.virtualbox import hardware, manage
from tasks.guests.virtualbox.hardware import HOST, MIB, Ports, free_port

T = TypeVar("T")
_DISK = "box.vdi"
_OFF = ("poweroff", "aborted", "saved", "aborted-saved")


class _Record(folder.Note):
    """The note is written before the machine is made; ``made`` is set when that has succeeded."""

    FILE = "virtualbox.json"

    uuid: str
    port: int
    page: int = 0
    user: str
    user_key: Path
    host_key: str = ""  # not known before its first boot
    made: bool = False


class Guest:
    """A machine in VirtualBox and its folder; the UUID tells it from the user's other machines."""

    provider = "virtualbox"
    is_box = True  # VirtualBox runs no bare hosts here
    off_to_compact = True  # VirtualBox locks the disk of a running machine

    def __init__(self, directory: Path, record: _Record) -> None:
        self.directory = directory
        self._record = record

    @classmethod
    def make(cls, directory: Path, image: Path, user: str, user_key: Path) -> Self:
        """Make a machine, which is off, in its own folder; if that fails, nothing of it is left.

        Args:
            directory: the guest's folder, for its disk and its settings.
            image: the raw disk of a box; it is copied.
            user: the name of the user who logs in.
            user_key: the file of our private key; made when it is missing.

        Raises:
            BoxError: VBoxManage or qemu-img is missing, or failed.
        """
        directory = directory.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        with folder.starting(directory):
            login = credentials.oem_string(user, user_key)
            made = uuid.uuid4()
            record = _Record(
                uuid=str(made), port=free_port(), page=free_port(), user=user, user_key=user_key
            )
            guest = cls(directory, record)
            guest._write(record)
            try:
                guest._create(image, login)
            except BaseException:  # Ctrl-C too: no incomplete machine may be left
                with contextlib.suppress(BoxError):  # inv destroy can still remove it, by its note
                    guest.destroy()
                raise
            guest._write(record.model_copy(update={"made": True}))
        return guest

    @classmethod
    def find(cls, directory: Path) -> Self | None:
        """Find the guest in a folder; None if there is none.

        Raises:
            BoxError: its note cannot be read.
        """
        record = _Record.read(directory.resolve())
        return None if record is None else cls(directory.resolve(), record)

    @property
    def is_complete(self) -> bool:
        """Whether it was made completely; otherwise it can only be destroyed."""
        return self._record.made

    @property
    def alive(self) -> bool:
        """Whether it is on, paused or changing between these; raises BoxError."""
        machine = manage.machine(self._record.uuid)
        return machine is not None and machine.get("VMState", "poweroff") not in _OFF

    @property
    def login(self) -> ssh_keys.Login:
        """How to log in; the port may change when the guest is started again."""
        record = self._record
        return ssh_keys.Login(HOST, record.port, record.user, record.user_key, self._known_hosts)

    @property
    def page(self) -> str:
        """The address of its status page on this host; the port may change as that of ``login``."""
        return f"http://{HOST}:{self._record.page}/"

    @property
    def disk_usage(self) -> int:
        """The room that its disk takes on this host, in bytes."""
        return self.root_disk.stat().st_blocks * 512

    def start(self, memory: int | None = None, cpus: int | None = None) -> None:
        """Power it on; returns as soon as VirtualBox runs it.

        Args:
            memory: in bytes; None: as before.
            cpus: None: as before.

        Raises:
            BoxError: another process is starting it, VirtualBox does not know it any more, or
                VirtualBox refused, as without its kernel module.
        """
        with folder.starting(self.directory):
            if manage.machine(self._record.uuid) is None:
                raise BoxError(
                    "VirtualBox does not know this guest any more: remove it with inv destroy"
                )
            changes = ["--memory", str(memory // MIB)] if memory else []
            changes += ["--cpus", str(cpus)] if cpus else []
            before = self._ports
            ports = Ports(*map(free_port, before))
            if ports != before:
                changes += hardware.forwarded_anew(before, ports)
            if changes:
                self._manage("modifyvm", *changes)
                self._write(self._record.model_copy(update={"port": ports.ssh, "page": ports.page}))
            self._manage("startvm", "--type", "headless")

    def learn_host_key(self, deadline: float) -> None:
        """Record the host key that the guest shows at its first boot; it must show the same later.

        Raises:
            UnreachableError: it showed no key within ``deadline`` seconds.
            CommandError: ssh-keyscan is missing.
        """
        if self._record.host_key:
            return
        port = self._record.port
        key = _awaited(lambda: ssh_keys.offered_key(HOST, port), deadline, "showed no SSH host key")
        self._write(self._record.model_copy(update={"host_key": key}))

    def halt(self, deadline: float = folder.OFF_DEADLINE) -> None:
        """Press the power button and wait, at most ``deadline`` seconds, until it is off.

        Raises:
            UnreachableError: it did not go off.
            BoxError: VBoxManage refused.
        """
        if self.alive:
            self._manage("controlvm", "acpipowerbutton")
            _awaited(lambda: not self.alive, deadline, "is not off")

    def cut_power(self) -> None:
        """Pull the plug. A guest that is off stays off."""
        if self.alive:
            self._manage("controlvm", "poweroff")
            _awaited(lambda: not self.alive, 30, "is not off")

    def compact(self) -> int:
        """Give blocks of zeros back to this host; returns the bytes that the disk then takes.

        A guest that is on is halted before and started again after.

        Raises:
            BoxError: it did not go off, or VBoxManage refused.
        """
        words = ("modifymedium", "disk", str(self.root_disk), "--compact")
        was_alive = self.alive
        self.halt()
        try:
            manage.run(*words, deadline=1800)
            return self.disk_usage
        finally:
            if was_alive:
                self.start()

    def destroy(self) -> None:
        """Cut the power, and remove the machine and the guest's folder."""
        self.cut_power()
        self._unregister()
        shutil.rmtree(self.directory)

    @property
    def root_disk(self) -> Path:
        """Its only disk."""
        return self.directory / _DISK

    @property
    def _ports(self) -> Ports:
        return Ports(self._record.port, self._record.page)

    @property
    def _known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    def _write(self, record: _Record) -> None:
        record.write(self.directory)
        self._record = record
        if record.host_key:
            ssh_keys.write_known_hosts(self._known_hosts, HOST, record.port, record.host_key)

    def _manage(self, command: str, *words: str) -> None:
        manage.run(command, self._record.uuid, *words)

    def _create(self, image: Path, login: str) -> None:
        # Not VBoxManage convertfromraw, which reads all holes of a sparse image.
        with whole_files.replaced(self.root_disk) as disk:
            shell.run(["qemu-img", "convert", "-f", "raw", "-O", "vdi", image, disk])
        name = f"openkim-box-{self._record.uuid[:8]}"
        folder = self.directory / "machine"
        hardware.create(self._record.uuid, name, folder, self.root_disk, self._ports, login)

    def _unregister(self) -> None:
        # Without --delete, which would also delete disks that the user has attached.
        if manage.machine(self._record.uuid) is not None:
            self._manage("unregistervm")


def _awaited(value: Callable[[], T], deadline: float, fault: str) -> T:
    line = f"the guest in VirtualBox {fault} after {deadline:g} s"
    return awaited(value, deadline, 0.5, lambda: line)
