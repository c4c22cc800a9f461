"""What only tests ask of QEMU, as further words of a machine's command line."""

from __future__ import annotations

from pathlib import Path

WAITS_FOR_STATE = ("-incoming", "defer")
"""The guest does not boot: each time it is started it waits for the state of one like it."""


def starts_by_uefi(code: Path, nvram: Path | None = None) -> tuple[str, ...]:
    """This firmware takes the place of QEMU's BIOS.

    ``nvram`` is a file of this guest in which it keeps its boot entries, a copy of the template
    that comes with it.
    """
    if nvram is None:
        return ("-bios", str(code))
    flash = "if=pflash,format=raw,unit={},readonly={},file={}"
    escaped = [str(file).replace(",", ",,") for file in (code, nvram)]
    files = [flash.format(0, "on", escaped[0]), flash.format(1, "off", escaped[1])]
    return tuple(word for file in files for word in ("-drive", file))


def without_flushes(disks: int) -> tuple[str, ...]:
    """The guest's flushes of its first so many disks cost nothing.

    What was flushed may be lost when QEMU is killed: this is not for a guest whose power is cut and
    that must boot again from the same files.
    """
    numbers = range(disks)
    return tuple(
        word for number in numbers for word in ("-set", f"drive.disk{number}.cache=unsafe")
    )


def boots_kernel(image: Path, initrd: Path, arguments: str) -> tuple[str, ...]:
    """QEMU boots this kernel directly, with this initrd and command line; no disk is read."""
    return ("-kernel", str(image), "-initrd", str(initrd), "-append", arguments)
