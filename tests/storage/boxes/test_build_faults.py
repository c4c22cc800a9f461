"""A build that fails or is interrupted leaves no mount, no loop device, no half file."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from deploys.errors import BoxError, PreflightError
from deploys.facts.state import HostState
from tasks.boxes import build
from tasks.boxes.build import Build
from tasks.debian import apt, archive, bootstrap
from tasks.debian.layer import ROOT, Layer, layer
from tasks.desk import loop, shell
from tasks.desk.flags import load
from tasks.disks import filesystems, grub, partitions
from tests.boot.lab.box import command
from tests.storage.commands import run
from tests.storage.faults import (
    Steps,
    given_back,
    held,
    interrupted_at,
    last_good_image,
    only_loop_devices,
    program,
)

_READ, _REQUIRE = archive.read, apt.require
_DIRECT = ("-o", "Acquire::http::Proxy=DIRECT", "-o", "Acquire::Retries=0")
# It would be built with the packages of an archive that is none.
SETTINGS = load(None, ["stack.openkim-python.source=none"])


@pytest.fixture
def out(loop_disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the last good image lies; the packages are a tree of empty folders."""
    assert loop_disk
    images = tmp_path / "images"
    images.mkdir()
    found = archive.Archive((), (), "digest", 1_790_000_000)
    monkeypatch.setattr(build, "IMAGES", images)
    monkeypatch.setattr(archive, "read", lambda *_: found)
    monkeypatch.setattr(apt, "require", lambda *_: None)
    installed = Layer(tmp_path / "layer.ext4", found.date)
    fill(installed.file, tmp_path / "tree")
    monkeypatch.setattr(build, "layer", lambda *_: contextlib.nullcontext(installed))
    with last_good_image(tmp_path) as file:
        yield file
    assert [left.name for left in images.iterdir() if left.suffix != ".lock"] == []


def fill(layer: Path, folder: Path) -> None:
    """A layer whose system is what is in the folder, and the folders that any has."""
    for name in ("proc", "sys", "dev", "run", "boot"):
        (folder / ROOT / name).mkdir(parents=True, exist_ok=True)
    layer.unlink(missing_ok=True)
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", folder, layer, "256M")


@pytest.mark.parametrize(
    "step", ["asking the mirror what it has", "copying the packages", "applying the deploys"]
)
def test_ctrl_c_leaves_nothing(out: Path, step: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        Build(SETTINGS, out, interrupted_at(step)).run()


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deploys succeed, and GRUB's tools, which the tree has not."""

    def uefi_image(root: Path, *_: object) -> Path:
        loader = root / "run/loader"
        loader.write_bytes(b"a loader")
        return loader

    def write_ext4(_: Path, source: str, disk: str, extent: partitions.Extent, *__: object) -> None:
        root, image = (tree_of(disk) / path.lstrip("/") for path in (source, disk))
        place = f"offset={extent.offset}"
        shell.run(["mke2fs", "-q", "-E", place, "-d", root, image, f"{extent.size // 1024}k"])

    def tree_of(disk: str) -> Path:
        mounts = run("findmnt", "--raw", "--noheadings", "--output", "TARGET").split()
        return Path(next(each for each in mounts if each.endswith(disk)).removesuffix(disk))

    monkeypatch.setattr(Build, "_apply", lambda *_: HostState())
    monkeypatch.setattr(grub, "install_bios", lambda *_: None)
    monkeypatch.setattr(grub, "uefi_image", uefi_image)
    monkeypatch.setattr(filesystems, "write_ext4", write_ext4)


STEPS = (
    "laying out the disk",
    "installing GRUB",
    *(f"writing {label}" for label in ("boot", "persistent", "root")),
    "flushing it to the disk",
)


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_while_the_disk_is_written_leaves_nothing(out: Path, step: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        Build(SETTINGS, out, interrupted_at(step)).run()


@pytest.mark.usefixtures("applied")
def test_a_disk_that_fills_while_the_image_is_written_leaves_nothing(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the image lies, on another disk than the scratch files."""
    small = tmp_path / "small"
    small.mkdir()
    before = held(tmp_path)
    monkeypatch.setattr(Build, "_check_disk", lambda *_: None)
    with loop.mounted("small", small, "-t", "tmpfs", "-o", "size=8M"):
        kept = small / "box.raw"
        kept.write_text("the last good image")
        with pytest.raises(BoxError) as caught:
            Build(SETTINGS, kept, Steps()).run()
        assert "\n" not in str(caught.value)
        assert "No space left" in str(caught.value)
        assert [(each, each.read_text()) for each in small.iterdir()] == [
            (kept, "the last good image")
        ]
    assert given_back(tmp_path, before)
    assert out.exists()


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize("free", [1, 2, 3, 4])
def test_without_a_free_loop_device_it_is_one_line(
    out: Path, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first that is asked for, or from a later one on."""
    only_loop_devices(free, tmp_path, monkeypatch)
    with pytest.raises(BoxError, match=r"^losetup .*: cannot find an unused loop device$"):
        Build(SETTINGS, out, Steps()).run()


# The last of its arguments is the folder that the system is to be in.
MMDEBSTRAP = """\
#!/bin/sh
for root; do :; done
mkdir "$root" "$TMPDIR/tree"
mount -t tmpfs tree "$TMPDIR/tree"
mount -t tmpfs tree "$root"
echo >"{started}"
sleep 60
"""
INSTALLS = """\
#!/bin/sh
for root; do :; done
mkdir "$root"
head -c 60M /dev/urandom >"$root/junk"
"""


def test_ctrl_c_while_the_packages_are_installed_leaves_nothing(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does what it started outlive it, with what that has mounted."""
    monkeypatch.setattr(build, "layer", layer)
    started = tmp_path / "started"
    program(tmp_path, "mmdebstrap", MMDEBSTRAP.format(started=started), monkeypatch)
    began = time.monotonic()
    # to this process alone: a terminal's would end the others by itself
    interrupt = "while [ ! -e $0 ]; do sleep 0.1; done; kill -INT $1"
    with (
        subprocess.Popen(["timeout", "60", "sh", "-c", interrupt, started, str(os.getpid())]),
        pytest.raises(KeyboardInterrupt),
    ):
        Build(SETTINGS, out, Steps()).run()
    assert time.monotonic() - began < 30


def test_a_mirror_that_answers_nothing_is_one_line(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes the connection and stays silent."""
    monkeypatch.setattr(archive, "read", _READ)
    monkeypatch.setattr(archive, "_QUIET", ("-o", "Acquire::http::Timeout=1", *_DIRECT))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = f"deb http://127.0.0.1:{silent.getsockname()[1]}/debian trixie main"
        monkeypatch.setattr(bootstrap, "sources", lambda _: (line,))
        with pytest.raises(BoxError, match=r"^the mirror of trixie does not answer: ") as caught:
            Build(SETTINGS, out, Steps()).run()
    assert "\n" not in str(caught.value)


def test_a_package_that_does_not_exist_is_one_line(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As this machine's own mirror says; nothing is installed before."""
    monkeypatch.setattr(archive, "read", _READ)
    monkeypatch.setattr(apt, "require", _REQUIRE)
    monkeypatch.setattr(build, "layer", layer)
    settings = load(None, ["stack.lammps.location=no-such-package"])
    with pytest.raises(BoxError, match=r"^the archive has no package no-such-package; "):
        Build(settings, out, Steps()).run()


def test_a_full_disk_leaves_nothing(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even an image with holes where the files that were lost should be."""
    (tmp_path / "tree" / ROOT / "junk").write_bytes(os.urandom(40 * 2**20))
    fill(tmp_path / "layer.ext4", tmp_path / "tree")
    small = tmp_path / "images"
    before = held(tmp_path)
    with loop.mounted("small", small, "-t", "tmpfs", "-o", "size=30M"):
        with pytest.raises(PreflightError, match=r"images has .* free, a build needs"):
            Build(SETTINGS, out, Steps()).run()
        monkeypatch.setattr(Build, "_check_disk", lambda *_: None)
        with pytest.raises(BoxError, match=r"^cp .*: No space left on device$"):
            Build(SETTINGS, out, Steps()).run()
    assert given_back(tmp_path, before)


def test_a_disk_that_fills_while_the_packages_are_installed_leaves_nothing(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmdebstrap sees nothing of it: what it wrote is lost on the way to the disk."""
    monkeypatch.setattr(build, "layer", layer)
    small = tmp_path / "images"
    program(tmp_path, "mmdebstrap", INSTALLS, monkeypatch)
    before = held(tmp_path)
    with loop.mounted("small", small, "-t", "tmpfs", "-o", "size=30M"):
        with pytest.raises(BoxError, match="images: the disk is full or failing"):
            Build(SETTINGS, out, Steps()).run()
        assert [left.name for left in small.iterdir() if left.suffix != ".lock"] == []
    assert given_back(tmp_path, before)


def test_without_a_free_loop_device_nothing_is_installed(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "layer", layer)
    program(tmp_path, "mmdebstrap", f"#!/bin/sh\ntouch {tmp_path}/installed\n", monkeypatch)
    only_loop_devices(1, tmp_path, monkeypatch)
    with pytest.raises(BoxError, match=r"^losetup .*: cannot find an unused loop device$"):
        Build(SETTINGS, out, Steps()).run()
    assert not (tmp_path / "installed").exists()


def test_a_root_that_runs_nothing_is_one_line(out: Path) -> None:
    with pytest.raises(BoxError, match=r"^the image: connecting: ") as caught:
        Build(SETTINGS, out, Steps()).run()
    assert "\n" not in str(caught.value)


def test_not_root_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BoxError, match=r"^making a box's disk image needs root") as caught:
        Build(SETTINGS, out, Steps()).run()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("image.disk_size=1G", "error: setting image.disk_size"),
        ("volumes.root_size=20G", "error: image.disk_size 24.0 GiB is too small"),
        ("", "is in use by sleep"),
    ],
)
def test_what_can_be_seen_before_is_one_line_of_the_command(
    out: Path, tmp_path: Path, setting: str, line: str
) -> None:
    """The image is open in another process, as in a guest; but the settings are read first."""
    flags = ["--set", setting] if setting else []
    with out.open("rb") as file:
        guest = subprocess.Popen(["sleep", "infinity"], stdin=file)
    with guest:
        ran = command("inv", "box.build", "--out", str(out), *flags, state=tmp_path / "state")
        guest.kill()
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1
    assert line in ran.stderr
    assert not (tmp_path / "state").exists()


def test_a_second_build_is_refused(out: Path) -> None:
    with (
        FileLock(out.parents[1] / "images" / "build.lock"),
        pytest.raises(BoxError, match="being built here already"),
    ):
        Build(SETTINGS, out, Steps()).run()


def test_an_image_in_use_is_refused(out: Path) -> None:
    with out.open("rb"), pytest.raises(BoxError, match=r"is in use by .*halt the guest first"):
        Build(SETTINGS, out, Steps()).run()


def test_a_folder_that_is_not_there_is_refused(out: Path) -> None:
    with pytest.raises(BoxError, match="is no folder"):
        Build(SETTINGS, out.parent / "no" / "box.raw", Steps()).run()
    with pytest.raises(BoxError, match="is a folder: name a file"):
        Build(SETTINGS, out.parent, Steps()).run()


def test_a_time_that_is_none_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(BoxError, match="SOURCE_DATE_EPOCH 'yesterday' is not a number"):
        Build(SETTINGS, out, Steps()).run()
