"""Vagrant's list of versions, and the sums: what is added, kept and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploys.errors import BoxError, PreflightError
from tasks.boxes.ship import catalog
from tasks.boxes.ship.catalog import Entry

EMPTY = {"name": "a/b", "versions": []}
LIBVIRT = Entry("libvirt", "https://box.example.org/b.box", "11")
VIRTUALBOX = Entry("virtualbox", "https://box.example.org/c.box", "22")


def test_without_a_file_there_is_an_empty_one(tmp_path: Path) -> None:
    assert catalog.read(tmp_path / "a.json", "a/b") == EMPTY
    assert catalog.read_sums(tmp_path / "SHA256SUMS") == {}


def test_what_is_added_comes_back(tmp_path: Path) -> None:
    made = catalog.merged(EMPTY, "1.0", [LIBVIRT], force=False)
    (tmp_path / "a.json").write_text(catalog.as_json(made))
    assert catalog.read(tmp_path / "a.json", "a/b") == made
    [version] = made["versions"]
    assert version["providers"] == [
        {
            "name": "libvirt",
            "url": LIBVIRT.url,
            "checksum_type": "sha256",
            "checksum": "11",
            "architecture": "amd64",
            "default_architecture": True,
        }
    ]


def test_what_was_there_stays() -> None:
    """Other versions, other providers of this one, and what only its writer knows."""
    before = {
        "name": "a/b",
        "description": "ours",
        "versions": [{"version": "1.0", "status": "active", "providers": [{"name": "hyperv"}]}],
    }
    text = json.dumps(before)
    made = catalog.merged(before, "1.0", [LIBVIRT], force=False)
    made = catalog.merged(made, "1.1", [LIBVIRT, VIRTUALBOX], force=False)
    assert json.dumps(before) == text
    assert made["description"] == "ours"
    old, new = made["versions"]
    assert old["status"] == "active"
    assert [each["name"] for each in old["providers"]] == ["hyperv", "libvirt"]
    assert [each["name"] for each in new["providers"]] == ["libvirt", "virtualbox"]


def test_the_same_once_more_changes_nothing() -> None:
    once = catalog.merged(EMPTY, "1.0", [LIBVIRT], force=False)
    assert catalog.merged(once, "1.0", [LIBVIRT], force=False) == once


def test_another_content_of_a_version_needs_force() -> None:
    once = catalog.merged(EMPTY, "1.0", [LIBVIRT], force=False)
    other = Entry("libvirt", LIBVIRT.url, "33")
    with pytest.raises(BoxError, match=r"libvirt box of version 1\.0 already"):
        catalog.merged(once, "1.0", [other], force=False)
    forced = catalog.merged(once, "1.0", [other], force=True)
    assert [each["checksum"] for each in forced["versions"][0]["providers"]] == ["33"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "is no Vagrant catalog: "),
        ("[]", "is no Vagrant catalog$"),
        ('{"name": "a/b", "versions": [{"version": "1"}]}', "is no Vagrant catalog$"),
        ('{"name": "a/b", "versions": ["1"]}', "is no Vagrant catalog$"),
        ('{"name": "c/d", "versions": []}', "is the catalog of c/d, not of a/b$"),
    ],
)
def test_what_is_no_catalog_of_the_box_is_refused(text: str, line: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(PreflightError, match=line):
        catalog.read(file, "a/b")
    assert file.read_text() == text


def test_sums_are_kept_and_sorted(tmp_path: Path) -> None:
    file = tmp_path / "SHA256SUMS"
    file.write_text(f"{'b' * 64}  b.box\n{'c' * 64} *c d.box\n")
    before = catalog.read_sums(file)
    assert before == {"b.box": "b" * 64, "c d.box": "c" * 64}
    after = catalog.merged_sums(before, {"a.box": "a" * 64}, "1", force=False)
    assert [line[66:] for line in catalog.as_sums(after).splitlines()] == [
        "a.box",
        "b.box",
        "c d.box",
    ]
    with pytest.raises(BoxError, match=r"there is a b\.box of version 1 already"):
        catalog.merged_sums(before, {"b.box": "a" * 64}, "1", force=False)
    assert catalog.merged_sums(before, {"b.box": "a" * 64}, "1", force=True)["b.box"] == "a" * 64


def test_a_file_of_something_else_is_no_sums(tmp_path: Path) -> None:
    file = tmp_path / "SHA256SUMS"
    file.write_text("nothing of the kind\n")
    with pytest.raises(PreflightError, match="holds no SHA-256 sums"):
        catalog.read_sums(file)
