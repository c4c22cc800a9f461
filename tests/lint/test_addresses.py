"""No registry is named, and the lock files are whole and agree with each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

# Spelled apart, so that this file does not name what it looks for.
_HOSTS = re.compile(
    "|".join(
        [
            r"\bpypi\.(?:org|io|python)",
            r"python" r"hosted\.org",
            r"\bdebian\." r"(?:org|net)\b",
            r"\bubuntu\." r"com\b",
            r"\bregistry\.npm" r"js\b",
        ]
    )
)


def _named(text: str) -> list[str]:
    return _HOSTS.findall(text)


def test_no_registry_host_is_named(tracked: list[Path], root: Path) -> None:
    """Each machine uses the mirrors it was set up with."""
    named = []
    for file in tracked:
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            if _named(line):
                named.append(f"{file.relative_to(root)}:{number}: {line.strip()}")
    assert not named


def test_a_registry_host_is_seen() -> None:
    """The pattern finds what it is for, and lets other names pass."""
    assert _named("see " + ".".join(["deb", "debian", "org"]))
    assert _named("index https://" + ".".join(["pypi", "org"]) + "/simple")
    assert not _named("debian.sources pypi-mirror noubuntu.example")


LOCKS = ("requirements", "requirements-box", "requirements-kimpy", "requirements-kim-tools")


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_has_version_and_hashes(name: str, root: Path) -> None:
    """And nothing else is in the file: no address, no option of pip's."""
    text = (root / f"{name}.txt").read_text()
    assert "://" not in text
    blocks = list(_blocks(text))
    assert blocks
    for requirement, hashes in blocks:
        assert [each.operator for each in requirement.specifier] == ["=="]
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes)


def test_a_box_gets_the_versions_of_the_tool(root: Path) -> None:
    """One deploy means the same over SSH and on the box."""
    tool = {str(requirement) for requirement, _ in _blocks((root / "requirements.txt").read_text())}
    for requirement, _ in _blocks((root / "requirements-box.txt").read_text()):
        assert str(requirement) in tool


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_file_holds_what_was_asked(name: str, root: Path) -> None:
    """A line added to the .in file, and not locked, is seen here."""
    locked: dict[str, list[str]] = {}
    for requirement, _ in _blocks((root / f"{name}.txt").read_text()):
        version = next(iter(requirement.specifier)).version
        locked.setdefault(requirement.name, []).append(version)
    for line in (root / f"{name}.in").read_text().splitlines():
        asked = line.partition("#")[0].strip()
        if asked:
            wanted = Requirement(asked)
            versions = locked.get(wanted.name, [])
            assert versions, f"{asked} is not in {name}.txt: run bin/inv lock"
            assert all(wanted.specifier.contains(version) for version in versions)


def _blocks(text: str) -> Iterator[tuple[Requirement, list[str]]]:
    """A lock file's requirements, each with its hashes."""
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        if line and not line.startswith("#"):
            words, *hashes = re.split(r"\s+(?=--)", line)
            yield Requirement(words), [each.strip() for each in hashes]
