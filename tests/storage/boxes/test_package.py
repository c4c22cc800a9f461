"""A disk goes through the real qemu-img and comes back; what fails leaves the folder as it was."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.boxes.ship import Packaging
from tasks.boxes.ship.formats import FORMATS
from tasks.desk import loop
from tasks.desk.flags import load
from tasks.desk.places import ROOT
from tasks.desk.progress import HostProgress, bars
from tests.storage import faults
from tests.storage.boxes.small_disk import MIB, small_disk
from tests.storage.commands import run

ALL = tuple(FORMATS)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_disk(tmp_path_factory.mktemp("disk") / "box.raw")


@pytest.fixture(scope="module")
def packages(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one packaging of all formats."""
    out = tmp_path_factory.mktemp("packages")
    packaging(disk, out).run()
    return out


def packaging(
    image: Path, out: Path, formats: tuple[str, ...] = ALL, version: str = "1.2.0"
) -> Packaging:
    frame = bars()
    progress = {name: HostProgress(name, frame) for name in formats}
    return Packaging(image, out, load(None, [f"package.version={version}"]), progress)


def unpacked(archive: Path, into: Path) -> list[str]:
    with tarfile.open(archive, "r:") as tar:
        tar.extractall(into)
        return tar.getnames()


def same(image: Path, disk: Path) -> None:
    """A machine sees the same bytes in both."""
    assert "identical" in run("qemu-img", "compare", "-F", "raw", image, disk)


def test_what_was_made_is_all_there_is(packages: Path) -> None:
    assert sorted(each.name for each in packages.iterdir()) == [
        "SHA256SUMS",
        "Vagrantfile",
        "openkim-pipeline-1.2.0.libvirt.box",
        "openkim-pipeline-1.2.0.ova",
        "openkim-pipeline-1.2.0.qcow2",
        "openkim-pipeline-1.2.0.virtualbox.box",
        "openkim-pipeline.json",
    ]
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=packages, check=True
    )
    assert checked.returncode == 0
    [version] = json.loads((packages / "openkim-pipeline.json").read_text())["versions"]
    for provider in version["providers"]:
        file = Path(provider["url"].removeprefix("file://"))
        assert hashlib.sha256(file.read_bytes()).hexdigest() == provider["checksum"]


def test_the_virtualbox_box_has_the_disk(packages: Path, disk: Path, tmp_path: Path) -> None:
    names = unpacked(packages / "openkim-pipeline-1.2.0.virtualbox.box", tmp_path)
    assert names == ["metadata.json", "Vagrantfile", "box.ovf", "box-disk001.vmdk"]
    same(tmp_path / "box-disk001.vmdk", disk)
    about = json.loads((tmp_path / "metadata.json").read_text())
    assert about == {"provider": "virtualbox", "architecture": "amd64"}


def test_the_libvirt_box_has_the_disk(packages: Path, disk: Path, tmp_path: Path) -> None:
    names = unpacked(packages / "openkim-pipeline-1.2.0.libvirt.box", tmp_path)
    assert names == ["metadata.json", "Vagrantfile", "box.img"]
    same(tmp_path / "box.img", disk)
    about = json.loads((tmp_path / "metadata.json").read_text())
    assert (about["format"], about["virtual_size"]) == ("qcow2", 1)


def test_the_qcow2_is_the_disk_and_whole(packages: Path, disk: Path) -> None:
    image = packages / "openkim-pipeline-1.2.0.qcow2"
    same(image, disk)
    run("qemu-img", "check", image)


def test_the_ova_begins_with_its_description(packages: Path, disk: Path, tmp_path: Path) -> None:
    archive = packages / "openkim-pipeline-1.2.0.ova"
    assert archive.read_bytes()[257:262] == b"ustar"
    names = unpacked(archive, tmp_path)
    assert names == ["openkim-pipeline.ovf", "box-disk001.vmdk", "openkim-pipeline.mf"]
    same(tmp_path / "box-disk001.vmdk", disk)
    lines = (tmp_path / "openkim-pipeline.mf").read_text().splitlines()
    assert lines == [
        f"SHA256({name})= {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}"
        for name in names[:2]
    ]


def test_a_box_is_hardly_larger_than_its_used_blocks(packages: Path, disk: Path) -> None:
    used = len(subprocess.run(["gzip", "--stdout", disk], capture_output=True, check=True).stdout)
    tables = 6 * 256 * 1024  # a qcow2 has them in clusters of their own, however small the disk
    for ending in ("virtualbox.box", "libvirt.box"):
        size = (packages / f"openkim-pipeline-1.2.0.{ending}").stat().st_size
        assert size < 1.05 * used + tables


def test_the_same_image_gives_the_same_bytes(packages: Path, disk: Path, tmp_path: Path) -> None:
    other = tmp_path / "copied.raw"
    run("cp", "--sparse=always", disk, other)
    packaging(other, tmp_path / "again").run()
    sums = (packages / "SHA256SUMS").read_text()
    assert (tmp_path / "again" / "SHA256SUMS").read_text() == sums


def test_an_overlay_is_packaged_with_what_it_lies_on(
    packages: Path, disk: Path, tmp_path: Path
) -> None:
    """As the disk of a guest that was started from a box's image."""
    overlay = tmp_path / "root.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk, overlay)
    packaging(overlay, tmp_path / "out", ("libvirt",)).run()
    [line] = (tmp_path / "out" / "SHA256SUMS").read_text().splitlines()
    assert line in (packages / "SHA256SUMS").read_text()


def test_what_a_killed_one_left_goes(disk: Path, tmp_path: Path) -> None:
    left = tmp_path / "out" / ".partial" / "box.img"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    packaging(disk, tmp_path / "out", ("qcow2",)).run()
    assert not left.parent.exists()


@pytest.mark.long
@pytest.mark.skipif(shutil.which("vagrant") is None, reason="vagrant is not installed")
def test_vagrant_adds_both_boxes_by_the_catalog(disk: Path, tmp_path: Path) -> None:
    out = tmp_path / "a folder"
    packaging(disk, out, ("virtualbox", "libvirt")).run()
    env = {**os.environ, "VAGRANT_HOME": str(tmp_path / "vagrant"), "VAGRANT_NO_PLUGINS": "1"}
    for provider in ("virtualbox", "libvirt"):
        add = ["vagrant", "box", "add", "--provider", provider, "openkim-pipeline.json"]
        subprocess.run(add, cwd=out, env=env, check=True)
    listed = subprocess.run(
        ["vagrant", "box", "list"], env=env, check=True, capture_output=True, text=True
    )
    assert "openkim/pipeline (virtualbox, 1.2.0)" in listed.stdout
    assert "openkim/pipeline (libvirt, 1.2.0)" in listed.stdout
    subprocess.run(["vagrant", "validate", "--ignore-provider"], cwd=out, env=env, check=True)


def test_the_time_asked_for_is_in_the_archive(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    made = packaging(disk, tmp_path / "out", ("libvirt",)).run()
    with tarfile.open(made["libvirt"]) as tar:
        members = tar.getmembers()
    assert {(each.mtime, each.uid, each.uname, each.mode) for each in members} == {
        (1_790_000_000, 0, "root", 0o644)
    }


def test_a_new_version_is_added_and_the_old_one_stays(
    packages: Path, disk: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shelf"
    run("cp", "-r", packages, out)
    packaging(disk, out, ("libvirt",), "1.3.0").run()
    catalog = json.loads((out / "openkim-pipeline.json").read_text())
    assert [each["version"] for each in catalog["versions"]] == ["1.2.0", "1.3.0"]
    assert [len(each["providers"]) for each in catalog["versions"]] == [2, 1]
    assert len((out / "SHA256SUMS").read_text().splitlines()) == 5
    assert (out / "openkim-pipeline-1.2.0.ova").exists()


def held(out: Path) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in out.iterdir()}


@pytest.fixture
def shelf(packages: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder of packages that is the same after the test."""
    out = tmp_path / "shelf"
    run("cp", "-r", packages, out)
    before = held(out)
    yield out
    assert held(out) == before


def test_another_box_of_the_same_version_is_refused(shelf: Path, tmp_path: Path) -> None:
    other = small_disk(tmp_path / "other.raw")
    with pytest.raises(BoxError, match=r"version 1\.2\.0 already, with other content: .*--force"):
        packaging(other, shelf).run()


def test_an_image_that_a_guest_writes_is_refused(shelf: Path, disk: Path) -> None:
    with disk.open("r+b"), pytest.raises(BoxError, match=r"is in use by .*halt the guest first"):
        packaging(disk, shelf, version="2").run()


def test_a_second_packaging_into_the_folder_is_refused(shelf: Path, disk: Path) -> None:
    folder = os.open(shelf, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(BoxError, match=r"is being packaged into .* already"):
            packaging(disk, shelf, version="2").run()
    finally:
        os.close(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted as root")
@pytest.mark.parametrize("formats", [("virtualbox", "ova"), ("libvirt", "qcow2"), ALL])
def test_a_full_disk_is_one_line(disk: Path, tmp_path: Path, formats: tuple[str, ...]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    before = faults.held(tmp_path)
    with loop.mounted("small", small, "-t", "tmpfs", "-o", "size=10M"):
        (small / "kept").write_text("kept")
        with pytest.raises(BoxError, match=r"/small: No space left on device$") as caught:
            packaging(disk, small, formats).run()
        assert "\n" not in str(caught.value)
        assert [each.name for each in small.iterdir()] == ["kept"]
    assert faults.given_back(tmp_path, before)


def test_a_failure_leaves_no_folder(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise BoxError("it failed")

    monkeypatch.setattr("tasks.boxes.ship.tarball.write", fail)
    with pytest.raises(BoxError, match="it failed"):
        packaging(disk, tmp_path / "deep" / "out").run()
    assert not (tmp_path / "deep" / "out").exists()


def test_ctrl_c_leaves_nothing_half(tmp_path: Path) -> None:
    """The task itself, in the middle of a conversion."""
    disk = tmp_path / "box.raw"
    with disk.open("wb") as file:
        file.write(bytes(510) + b"\x55\xaa")
        for _ in range(96):
            file.write(os.urandom(MIB // 2) + bytes(MIB // 2))
    out = tmp_path / "out"
    before = faults.held(tmp_path)
    inv: list[str | Path] = [Path(sys.executable).with_name("inv"), "--search-root", ROOT]
    with subprocess.Popen(
        [*inv, "box.package", "--image", disk, "--out", out],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that starts it in the background would have it ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as started:
        deadline = time.monotonic() + 60
        while not list(out.glob(".partial/*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=60)
    assert started.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted: no package was made or changed"
    assert not out.exists()
    assert faults.given_back(tmp_path, before)


def test_settings_name_the_place(disk: Path, tmp_path: Path) -> None:
    settings = load(None, ["package.url=https://box.example.org/kim/", "package.name=a/b"])
    progress = {"libvirt": HostProgress("libvirt", bars())}
    Packaging(disk, tmp_path / "out", settings, progress).run()
    catalog = json.loads((tmp_path / "out" / "a-b.json").read_text())
    [provider] = catalog["versions"][0]["providers"]
    assert provider["url"] == "https://box.example.org/kim/a-b-0.1.0.libvirt.box"
    user = (tmp_path / "out" / "Vagrantfile").read_text()
    assert '  config.vm.box = "a/b"\n' in user
    assert '  config.vm.box_url = "https://box.example.org/kim/a-b.json"\n' in user
