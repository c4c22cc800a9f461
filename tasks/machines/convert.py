"""A disk image in the formats it is shipped in; the same image gives the same bytes."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploys.errors import PreflightError
from tasks.machines import shell

Heard = Callable[[float], None]
"""Is told several times a second how much is done, in percent; what it raises ends the work."""

_FORMATS = ("raw", "qcow2")
_SIGNATURE = b"\x55\xaa"  # of a boot sector, which a GPT begins with too
_CHUNK = 2**20
# A descriptor's content ID is 32 random bits, which tell an image from its parent when that
# was changed. Here they follow from the content; these two have a meaning of their own.
_CID = re.compile(rb"^CID=([0-9a-f]{8})$", re.MULTILINE)
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
    told = shell.run(["qemu-img", "info", "--output=json", path]).stdout
    about = json.loads(told)
    image = Image(path, about["format"], about["virtual-size"])
    if image.format not in _FORMATS:
        raise PreflightError(f"{path} is a {image.format} image, not {' or '.join(_FORMATS)}")
    if image.format == "raw" and not _is_disk(path):
        raise PreflightError(f"{path} is no disk image: it has no partition table")
    return image


def vmdk(image: Image, out: Path, heard: Heard) -> None:
    """Write a VMDK of compressed grains, as VirtualBox and VMware import it.

    Raises:
        CommandError: it could not be written.
    """
    _convert(image, out, ("vmdk", "-o", "subformat=streamOptimized"), heard)
    with out.open("r+b") as file:
        head = file.read(_CHUNK)
        found = _CID.search(head)
        assert found  # qemu-img wrote the descriptor
        file.seek(found.start(1))
        file.write(b"0" * 8)
        file.seek(0)
        content = 0
        while chunk := file.read(_CHUNK):
            content = zlib.crc32(chunk, content)
            heard(100)
        if content in _RESERVED:
            content = 0
        file.seek(found.start(1))
        file.write(b"%08x" % content)


def qcow2(image: Image, out: Path, heard: Heard) -> None:
    """Write a compressed qcow2, as QEMU reads it from 5.1 on.

    Clusters are what is compressed at once: in those of 256 KiB the whole is 3 % smaller than
    in QEMU's 64 KiB, and made no slower.

    Raises:
        CommandError: it could not be written.
    """
    options = "compression_type=zstd,cluster_size=256k"
    _convert(image, out, ("qcow2", "-c", "-o", options), heard)


def _convert(image: Image, out: Path, how: tuple[str, ...], heard: Heard) -> None:
    def line(text: str) -> None:
        found = re.search(r"\((\d+(?:\.\d+)?)/100%\)", text)
        if found:
            done[0] = float(found[1])
        heard(done[0])

    done = [0.0]
    argv: list[str | Path] = ["qemu-img", "convert", "-p", "-f", image.format, "-O", *how]
    shell.follow([*argv, image.path, out], line)


def _is_disk(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512)[-2:] == _SIGNATURE
