"""A disk image in the formats it is shipped in; the same image gives the same bytes."""

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
"""Is told several times a second how much is done, in percent; what it raises ends the work."""

_FORMATS = ("raw", "qcow2")
_SIGNATURE = b"\x55\xaa"  # of a boot sector, which a GPT begins with too
_CHUNK = 2**20
_SECTOR = 512
# A VMDK's: the magic, and where its descriptor begins and how long it is, in sectors.
_HEADER = struct.Struct("<4s24xQQ")
_FULL = 2**21  # bytes that are no room for what is written at once
# A descriptor's content ID is 32 random bits, which tell an image from its parent when that
# was changed. Here they follow from the content; these two have a meaning of their own.
_CID = re.compile(rb"^CID=[0-9a-f]{1,8}$", re.MULTILINE)  # QEMU pads it with nothing
_RESERVED = (0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Image:
    """A disk image: its file, its format as QEMU calls it, and the disk's size in bytes."""

    path: Path
    format: str
    size: int


def look(path: Path) -> Image:
    """What kind of image a file is.

    Raises:
        PreflightError: it is missing, or no disk image.
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
    """A disk image and all that it lies on, each with the bytes that it takes."""
    argv = ["qemu-img", "info", "--force-share", "--backing-chain", "--output=json"]
    files = json.loads(shell.run([*argv, path]).stdout)
    return {Path(each["filename"]): each["actual-size"] for each in files}


def vmdk(image: Image, out: Path, heard: Heard) -> None:
    """Write a VMDK of compressed grains, as VirtualBox and VMware import it.

    Raises:
        CommandError: it could not be written.
        OSError: as the disk is full.
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
    """Write a compressed qcow2, as QEMU reads it from 5.1 on.

    Clusters are what is compressed at once: in those of 256 KiB the whole is 3 % smaller than
    in QEMU's 64 KiB, and made no slower.

    Raises:
        CommandError: it could not be written.
        OSError: as the disk is full.
    """
    options = "compression_type=zstd,cluster_size=256k"
    _convert(image, out, ("qcow2", "-c", "-o", options), heard)


def raw(image: Image, out: Path, heard: Heard) -> None:
    """Write a sparse raw image, of a qcow2 with all that lies below it.

    Raises:
        CommandError: it could not be written.
        OSError: as the disk is full.
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
        if shutil.disk_usage(out.parent).free < _FULL:  # of which it has words of its own
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _identify(file: BinaryIO, content: int) -> None:
    """Write a content ID into a VMDK's descriptor: text with zeros up to a length in sectors."""
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
