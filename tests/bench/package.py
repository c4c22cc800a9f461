"""What box.package takes, each format alone and all together, and how large a box gets."""

from __future__ import annotations

import os
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploys.settings import Settings
from tasks.boxes.ship import Packaging
from tasks.boxes.ship.formats import FORMATS
from tasks.desk import shell
from tasks.desk.places import BOX
from tasks.disks import convert
from tests.bench.shared.guest import SilentProgress
from tests.bench.shared.rows import Row, Step, Target

_TOGETHER = Target(high=2.5)
_SIZE = Target(high=1.05)
_CHUNK = 2**20
_MB = 1e6


def package(step: Step) -> list[Row]:
    """Seconds, beside the slowest format's; megabytes, beside those of the used blocks.

    Raises:
        BoxError: there is no image of box.build, or it could not be packaged.
    """
    convert.look(BOX)
    with tempfile.TemporaryDirectory(dir=BOX.parent, prefix="bench-package-") as name:
        # A guest that the other benches need may run on the image itself, which is then refused.
        image = Path(name) / BOX.name
        shell.run(["cp", "--sparse=always", BOX, image])
        step("compressing the used blocks")  # and so what follows finds them in memory
        blocks = compressed(image)
        alone = {}
        for format_name in FORMATS:
            step(f"{format_name} alone")
            alone[format_name] = _timed(image, Path(name) / format_name, [format_name])
        step("all together")
        out = Path(name) / "all"
        together = _timed(image, out, list(FORMATS))
        sizes = {
            each: next(out.glob(f"*.{FORMATS[each].ending}")).stat().st_size for each in FORMATS
        }
    return rows(alone, together, sizes, blocks)


def rows(alone: dict[str, float], together: float, sizes: dict[str, int], blocks: int) -> list[Row]:
    """What was measured: seconds by format and for all, bytes by format and of the blocks."""
    return [
        *(Row(f"box.package, {name} alone", "s", took) for name, took in alone.items()),
        Row(
            "box.package, all, by the slowest alone",
            "s",
            together,
            max(alone.values()),
            _TOGETHER,
        ),
        *(
            Row(
                f"{name}, by the used blocks in gzip",
                "MB",
                size / _MB,
                blocks / _MB,
                _SIZE if FORMATS[name].provider else None,
            )
            for name, size in sizes.items()
        ),
    ]


def compressed(image: Path) -> int:
    """The bytes that a sparse file's blocks take when compressed as one, as gzip would do."""
    deflate = zlib.compressobj()
    size = sum(len(deflate.compress(chunk)) for chunk in _used(image))
    return size + len(deflate.flush())


def _used(image: Path) -> Iterator[bytes]:
    with image.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        hole = 0
        while hole < end:
            try:
                data = os.lseek(file.fileno(), hole, os.SEEK_DATA)
            except OSError:  # nothing but a hole up to the end
                return
            hole = os.lseek(file.fileno(), data, os.SEEK_HOLE)
            file.seek(data)
            while data < hole:
                chunk = file.read(min(_CHUNK, hole - data))
                data += len(chunk)
                yield chunk


def _timed(image: Path, out: Path, formats: Sequence[str]) -> float:
    began = time.perf_counter()
    progress = {name: SilentProgress() for name in formats}
    Packaging(image, out, Settings(), progress).run()
    return time.perf_counter() - began
