"""Make LVM metadata independent of the time and the host on which it was written.

The metadata text on a physical volume has the time, the host's name, the device's path and random
identifiers in it, and no option of LVM leaves them out. This module writes the text again with
fixed values, as the only one in its area. The layout is that of LVM2's lib/format_text/layout.h and
lib/label/label.h.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from deploys.errors import BoxError
from tasks.disks.identifiers import Fixed

_SECTOR = 512
_LABEL = struct.Struct("<8sQII8s")  # id, sector, crc, offset of what follows, type
_PV_HEADER = struct.Struct("<32sQ")  # uuid, size; then areas
_AREA = struct.Struct("<QQ")  # offset, size; a list of them ends with an empty one
_MDA_HEADER = struct.Struct("<I16sIQQ")  # checksum, magic, version, start, size; then texts
_TEXT = struct.Struct("<QQII")  # offset, size, checksum, flags
_MAGIC = b" LVM2 x[5A%r0N*>"
_CRC_START = 0xF597A6CF
# These lines are left out: they say where the device was on the host that made the image.
_DROPPED = ("device_id", "device_id_type")
_COMMENT = re.compile(r"(^|\t)#.*")
_SECTION = re.compile(r"(\S+) \{$")
_ASSIGNMENT = re.compile(r"(\w+) = (.*)$")


def normalize(disk: Path, offset: int, fixed: Fixed) -> None:
    """Rewrite the metadata of the physical volume at byte ``offset`` of a disk image.

    The PV keeps its UUID. No loop device may have the image open.

    Raises:
        BoxError: there is no PV there with exactly one metadata area that is intact.
    """
    with disk.open("r+b") as file:
        start = offset + _area(file, offset)
        header = bytearray(_read(file, start, _SECTOR))
        _, magic, _, _, size = _MDA_HEADER.unpack_from(header)
        if magic != _MAGIC:
            raise BoxError(f"{disk}: no LVM metadata at byte {start}")
        text = normalized(_text(file, start, bytes(header), size), fixed)
        _TEXT.pack_into(header, _MDA_HEADER.size, _SECTOR, len(text), _crc(text), 0)
        struct.pack_into("<I", header, 0, _crc(bytes(header[4:])))
        area = bytes(header) + text
        file.seek(start)
        file.write(area.ljust(size, b"\0"))


def normalized(text: bytes, fixed: Fixed) -> bytes:
    """The metadata text with fixed identifiers, time, host and device, and without comments."""
    lines = _lines(text.rstrip(b"\0").decode(), fixed)
    return "".join(f"{line}\n" for line in lines).encode() + b"\0"


def _lines(text: str, fixed: Fixed) -> Iterator[str]:
    sections: list[str] = []
    for raw in text.splitlines():
        line = _COMMENT.sub("", raw).strip()
        if section := _SECTION.match(line):
            sections.append(section[1])
        elif line == "}":
            sections.pop()
        elif assignment := _ASSIGNMENT.match(line):
            name, value = assignment.groups()
            if name in _DROPPED:
                continue
            line = f"{name} = {_value(name, value, sections, fixed)}"
        if line:
            yield line


def _value(name: str, value: str, sections: list[str], fixed: Fixed) -> str:
    if name == "creation_time":
        return str(fixed.time)
    if name == "creation_host":
        return '"localhost"'
    if "physical_volumes" in sections:
        return '"[unknown]"' if name == "device" else value
    return f'"{fixed.identifiers.lvm("/".join(sections))}"' if name == "id" else value


def _area(file: BinaryIO, offset: int) -> int:
    """The start of the PV's metadata area, in bytes from the start of the PV."""
    sector = _read(file, offset + _SECTOR, _SECTOR)
    label, _, _, header, kind = _LABEL.unpack_from(sector)
    if (label, kind) != (b"LABELONE", b"LVM2 001"):
        raise BoxError(f"{file.name}: no LVM physical volume at byte {offset}")
    at = header + _PV_HEADER.size
    areas = []
    for _ in ("data", "metadata"):
        while (area := _AREA.unpack_from(sector, at)) != (0, 0):
            areas.append(area)
            at += _AREA.size
        at += _AREA.size
    if len(areas) != 2:
        raise BoxError(f"{file.name}: a physical volume with {len(areas)} areas, not 2")
    return int(areas[1][0])


def _text(file: BinaryIO, start: int, header: bytes, size: int) -> bytes:
    """The text that the header points at; the area is a ring buffer."""
    offset, length, checksum, _ = _TEXT.unpack_from(header, _MDA_HEADER.size)
    ring = _read(file, start + _SECTOR, size - _SECTOR)
    text = (ring[offset - _SECTOR :] + ring)[:length]
    if _crc(text) != checksum:
        raise BoxError(f"{file.name}: the LVM metadata is damaged")
    return text


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _crc(data: bytes) -> int:
    # zlib has the same polynomial, but inverts the bits before and after.
    return zlib.crc32(data, _CRC_START ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
