"""A guest in QEMU with what only tests do to one: load, reset, plug in a disk, read its console."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from deploys.errors import BoxError, UnreachableError
from tasks.guests import qemu


class Guest(qemu.Guest):
    """A QEMU process and its folder, for tests and benches; ``with`` cuts its power at the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.cut_power()

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Find the guest in a folder, which must have one; it may be off.

        Raises:
            BoxError: there is none, or its note cannot be read.
        """
        guest = cls.find(directory)
        if guest is None:
            raise BoxError(f"there is no guest in {directory}: make one with inv up")
        return guest

    @property
    def accelerator(self) -> str:
        """QEMU's name of the accelerator that it runs on, kvm or tcg; nothing if it is off."""
        if not self.alive:
            return ""
        told = self.qmp("query-kvm")
        assert isinstance(told, dict)
        return "kvm" if told["enabled"] else "tcg"

    def add_disk(self, disk: Path) -> None:
        """Plug in a qcow2 disk while the guest runs; it is gone after a power-off."""
        name = f"late{len(self._late())}"
        node = {"driver": "file", "filename": str(disk.resolve()), "discard": "unmap"}
        self.qmp("blockdev-add", driver="qcow2", discard="unmap", file=node, **{"node-name": name})
        port = name.replace("late", "hot")
        self.qmp("device_add", driver="virtio-blk-pci", drive=name, bus=port, id=f"{name}-device")

    def reset(self) -> None:
        """Press the reset button."""
        self.qmp("system_reset")

    def wait_for_serial(self, text: str, deadline: float, since: int = 0) -> None:
        """Wait until ``text`` is on the serial console, after its first ``since`` bytes.

        Raises:
            UnreachableError: not within ``deadline`` seconds, or the guest went off; with the
                console's last lines.
        """

        def is_there() -> bool:
            return self.console.says(text, since)

        self._wait(lambda: is_there() or not self.alive, deadline, f"did not say {text!r}")
        if not is_there():
            raise UnreachableError(
                f"the guest in {self.directory} went off, saying: {self.console.tail()}"
            )

    def _late(self) -> list[str]:
        nodes = self.qmp("query-named-block-nodes", flat=True)
        assert isinstance(nodes, list)
        return [row["node-name"] for row in nodes if str(row["node-name"]).startswith("late")]
