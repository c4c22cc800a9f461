"""Sizes, whole numbers and switches, as flags, TOML files and a box's own file write them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

KIB, MIB, GIB = 2**10, 2**20, 2**30
_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": 2**40}
_MOST = 2**63 - 1  # bytes: the kernel counts with 64 bits and a sign
_SHOWN = 60  # characters of a wrong value


def shown(value: object) -> str:
    """A value as an error line repeats it: printable, in one line, and short."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits, or levels, than Python writes
        text = f"this {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def parse_size(value: object) -> int:
    """Bytes from a number or from LVM's notation: ``512M``, ``8G``, ``1.5G``; powers of 1024.

    Raises:
        ValueError: the text is not a size.
    """
    number = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)"  # longer ones may be infinite to Python
    text = value.strip() if isinstance(value, str) else shown(value)
    match = re.fullmatch(rf"{number}\s*([KMGT]?)(?:i?B)?", text, re.IGNORECASE | re.ASCII)
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else -1
    if not 0 <= size <= _MOST:
        raise ValueError(f"{shown(value)} is not a size such as 512M or 8G")
    return size


def format_size(size: int) -> str:
    """A size in bytes in LVM's notation, as ``8G``; ``parse_size`` gives the same bytes back."""
    for unit in "TGMK":
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def _check_lvsize(value: object) -> str:
    # LVM takes a larger percentage, too; but a snapshot cannot use more than its origin's size.
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,2}%ORIGIN", value):
        return value
    size = parse_size(value)
    if size < 4 * MIB:
        raise ValueError(f"{shown(value)} must be at least 4M")
    # In whole MiB: LVM takes a number without a unit for MiB, the scripts of a box for bytes.
    return format_size(-(-size // MIB) * MIB)


def _check_chunk(size: int) -> int:
    if size & (size - 1):
        raise ValueError(f"{format_size(size)} is not a power of two, which LVM needs")
    return size


def _parse_whole(value: object) -> int:
    # A bool is an int to Python, and to pydantic, which takes floats and "1_000", too.
    text = value if isinstance(value, str) and value.isascii() else shown(value)
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise ValueError(f"{shown(value)} is not a whole number")
    return int(text)


def _parse_switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise ValueError(f"{shown(value)} is neither true nor false")
    return value == "true"


Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size)]
LvSize = Annotated[str, BeforeValidator(_check_lvsize)]
ChunkSize = Annotated[Size, AfterValidator(_check_chunk)]
Whole = Annotated[int, BeforeValidator(_parse_whole)]
Switch = Annotated[bool, BeforeValidator(_parse_switch)]
