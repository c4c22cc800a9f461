"""What only tests ask of QEMU, as further words of a machine's command line."""

from __future__ import annotations

from pathlib import Path

WAITS_FOR_STATE = ("-incoming", "defer")
"""The guest does not boot: each time it is started it waits for the state of one like it."""


def boots_kernel(image: Path, initrd: Path, arguments: str) -> tuple[str, ...]:
    """QEMU boots this kernel directly, with this initrd and command line; no disk is read."""
    return ("-kernel", str(image), "-initrd", str(initrd), "-append", arguments)
