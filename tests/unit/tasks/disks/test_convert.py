"""What qemu-img writes differently each time is made to follow from the content."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from tasks.desk import shell
from tasks.disks import convert
from tasks.disks.convert import Image

IMAGE = Image(Path("box.raw"), "raw", 2**20)


def written(content_id: str, data: bytes = b"grains") -> bytes:
    """A VMDK's header, descriptor and data, as QEMU lays them out."""
    header = struct.pack("<4sIIQQQQ", b"KDMV", 3, 0, 2048, 128, 1, 2).ljust(512, b"\0")
    descriptor = f"version=1\nCID={content_id}\nparentCID=ffffffff\nRW 2048 SPARSE\n"
    return header + descriptor.encode().ljust(1024, b"\0") + data


def converted(out: Path, monkeypatch: pytest.MonkeyPatch, vmdk: bytes) -> bytes:
    monkeypatch.setattr(shell, "follow", lambda *_: out.write_bytes(vmdk))
    convert.vmdk(IMAGE, out, lambda _: None)
    return out.read_bytes()


@pytest.mark.parametrize("content_id", ["ae41a9ff", "e41a9ff", "0", "9"])
def test_a_content_id_at_random_is_replaced(
    content_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short: QEMU writes the number without leading zeros."""
    found = converted(tmp_path / "a", monkeypatch, written(content_id))
    assert found == converted(tmp_path / "b", monkeypatch, written("12345678"))
    assert len(found) == len(written(content_id))
    assert re.search(rb"\nCID=[0-9a-f]{8}\nparentCID=ffffffff\nRW 2048 SPARSE\n\0", found)


def test_another_content_has_another_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = converted(tmp_path / "a", monkeypatch, written("1"))
    other = converted(tmp_path / "b", monkeypatch, written("1", b"others"))
    assert one[:1536] != other[:1536]


def test_progress_is_read_from_what_qemu_img_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(argv: list[str | Path], heard: object) -> None:
        assert callable(heard)
        assert argv[-2:] == [IMAGE.path, tmp_path / "a"]
        for line in ("    (0.00/100%)", "", "    (51.02/100%)", "nothing of the kind"):
            heard(line)

    told: list[float] = []
    monkeypatch.setattr(shell, "follow", follow)
    convert.qcow2(IMAGE, tmp_path / "a", told.append)
    assert told == [0, 0, 51.02, 51.02]
