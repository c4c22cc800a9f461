"""A package's sources: fetched by the real pip from a folder, its hash checked, never run."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.stack import sdist

BACKEND = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'

pytestmark = pytest.mark.commands


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that pip knows; it holds a package whose setup.py fails when it is run."""
    index = tmp_path / "index"
    index.mkdir()
    with tarfile.open(index / "our_pack-1.0.tar.gz", "w:gz") as tar:
        for name, text in (
            ("PKG-INFO", "Metadata-Version: 2.1\nName: our-pack\nVersion: 1.0\n"),
            ("pyproject.toml", BACKEND),
            ("setup.py", "raise SystemExit('setup.py was run')\n"),
        ):
            member = tarfile.TarInfo(f"our_pack-1.0/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return index


def lock(folder: Path, digest: str) -> Path:
    file = folder / "lock.txt"
    file.write_text(f"our-pack==1.0 \\\n    --hash=sha256:{digest}\n")
    return file


def test_the_sources_are_fetched_and_not_run(index: Path, tmp_path: Path) -> None:
    file = index / "our_pack-1.0.tar.gz"
    folder = tmp_path / "here"
    folder.mkdir()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    found = sdist.fetch(lock(tmp_path, digest), folder)
    assert found.read_bytes() == file.read_bytes()
    assert list(folder.iterdir()) == [found]


def test_other_sources_than_the_locks_are_refused(index: Path, tmp_path: Path) -> None:
    assert index.is_dir()
    folder = tmp_path / "here"
    folder.mkdir()
    with pytest.raises(BoxError, match=r"^fetching what lock\.txt names: ") as caught:
        sdist.fetch(lock(tmp_path, "0" * 64), folder)
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []
