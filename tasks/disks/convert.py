"""Convert a disk image to the formats in which it ships; the same image gives the same bytes."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deploys.errors import PreflightError
from tasks.desk import shell

Heard = Callable[[float], None]
"""Called several times a second with the percent done; if it raises, the work ends."""

_FORMATS = ("raw", "qcow2")
_SIGNATURE = b"\x55\xaa"  # of a boot sector, which a GPT begins with too
_CHUNK = 2**20
_SECTOR = 512
# The header of a VMDK: magic, then the descriptor's start and length in sectors.
_HEADER = struct.Struct("<4s24xQQ")
_FULL = 2**21  # bytes; with less room than this the disk is full
# A descriptor's content ID is 32 random bits, by which a change of the parent image is noticed.
# Here they are a checksum of the content. Two values are reserved.
_CID = re.compile(rb"^CID=[0-9a-f]{1,8}$", re.MULTILINE)  # QEMU writes no leading zeros
_RESERVED = (0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Image:
    """A disk image: its file, QEMU's name of its format, and the size of the disk in bytes."""

    path: Path
    format: str
    size: int


def look(path: Path) -> Image:
    """Find out the format and the size of a disk image.

    Raises:
        PreflightError: the file is missing, or not a disk image.
    """
    if not path.is_file():
        raise PreflightError(f"there is no image {path}: make one with inv box.build")
    told = shell.run(["qemu-img", "info", "--force-share", "--output=json", path]).stdout
    about = json.loads(told)
    image = Image(path, about["format"], about["virtual-size"])
    if image.format not in _FORMATS:
        raise PreflightError(f"{path} is a {image.format} image, not {' or '.join(_FORMATS)}")
    if image.format == "raw" and not _is_disk(path):
        raise PreflightError(f"{path} is no disk image: it has no partition table")
    return image


def chain(path: Path) -> dict[Path, int]:
    """A disk image and the images below it, each with the bytes that it takes on this disk."""
    argv = ["qemu-img", "info", "--force-share", "--backing-chain", "--output=json"]
    files = json.loads(shell.run([*argv, path]).stdout)
    return {Path(each["filename"]): each["actual-size"] for each in files}


def vmdk(image: Image, out: Path, heard: Heard) -> None:
    """Write a stream-optimized VMDK (compressed), as VirtualBox and VMware import it.

    Raises:
        CommandError: it could not be written.
        OSError: the disk is full.
    """
    _convert(image, out, ("vmdk", "-o", "subformat=streamOptimized"), heard)
    with out.open("r+b") as file:
        _identify(file, 0)
        file.seek(0)
        content = 0
        while chunk := file.read(_CHUNK):
            content = zlib.crc32(chunk, content)
            heard(100)
        _identify(file, 0 if content in _RESERVED else content)


def qcow2(image: Image, out: Path, heard: Heard) -> None:
    """Write a compressed qcow2, which QEMU reads from version 5.1 on.

    Each cluster is compressed by itself. With clusters of 256 KiB the file is 3 % smaller than with
    QEMU's default of 64 KiB, in the same time.

    Raises:
        CommandError: it could not be written.
        OSError: the disk is full.
    """
    options = "compression_type=zstd,cluster_size=256k"
    _convert(image, out, ("qcow2", "-c", "-o", options), heard)


def raw(image: Image, out: Path, heard: Heard) -> None:
    """Write a sparse raw image, of an image and those below it.

    Raises:
        CommandError: it could not be written.
        OSError: the disk is full.
    """
    _convert(image, out, ("raw",), heard)


def _convert(image: Image, out: Path, how: tuple[str, ...], heard: Heard) -> None:
    def line(text: str) -> None:
        found = re.search(r"\((\d+(?:\.\d+)?)/100%\)", text)
        if found:
            done[0] = float(found[1])
        heard(done[0])

    done = [0.0]
    argv: list[str | Path] = ["qemu-img", "convert", "-p", "-f", image.format, "-O", *how]
    try:
        shell.follow([*argv, image.path, out], line)
    except shell.CommandError as error:
        if shutil.disk_usage(out.parent).free < _FULL:  # callers have their own error line for this
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _identify(file: BinaryIO, content: int) -> None:
    """Write a content ID into a VMDK's descriptor, a text that zeros fill up to whole sectors."""
    file.seek(0)
    magic, first, length = _HEADER.unpack(file.read(_HEADER.size))
    assert magic == b"KDMV"
    file.seek(first * _SECTOR)
    text = file.read(length * _SECTOR).rstrip(b"\0")
    text, found = _CID.subn(b"CID=%08x" % content, text)
    assert found == 1
    file.seek(first * _SECTOR)
    file.write(text.ljust(length * _SECTOR, b"\0"))


def _is_disk(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512)[-2:] == _SIGNATURE
