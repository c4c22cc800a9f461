"""What root writes below /persistent replaces what lies there, and changes nothing elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import FakeRoot
from tests.unit.onbox.reset import test_pressure, test_quarantine, test_trial, test_versions_script
from tests.unit.onbox.services.setupbox import install

pytestmark = pytest.mark.commands


def _trial(box: FakeRoot) -> test_trial.Box:
    made = test_trial.Box(box.root)
    made.does("save")
    return made


def _begin(box: FakeRoot) -> None:
    _trial(box).does("begin")


def _back(box: FakeRoot) -> None:
    _trial(box).does("back", "it is bad")


def _restore(box: FakeRoot) -> None:
    made = _trial(box)
    made.boots("safety")
    assert "what it was: the change broke off" in made.does("check")


def _versions(box: FakeRoot) -> None:
    made = test_versions_script.Box(box.root)
    made.does("keep")
    made.does("back", "root_feedfeedfeed")


def _pressure(box: FakeRoot) -> None:
    made = test_pressure.Box(box.root)
    made.write("proc/cmdline", "lvsize=4G resnap\n")
    made.write("proc/sys/kernel/panic", "10\n")
    made.write("etc/default/resnap", test_pressure.DEFAULTS)
    made.came_out("fresh", "overflowed=yes")
    made.watch("1/100 1")


def _quarantine(box: FakeRoot) -> None:
    assert test_quarantine.Box(box.root).boot("failed").shutdown


def _provisiond(box: FakeRoot) -> None:
    install(box.root)
    for name in ("runsetup", "runsecure"):
        box.program(f"usr/lib/provisiond/{name}", "")
    box.write("proc/cmdline", "resnap\n")
    box.write("proc/sys/kernel/random/boot_id", "1\n")
    assert box.run(ONBOX / "usr/sbin/provisiond").returncode == 0


def _runsetup(box: FakeRoot) -> None:
    install(box.root)
    box.write("opt/pipeline/setup/deploys/__main__.py")
    box.write("opt/pipeline/setup/deploys/__init__.py")
    done = box.run(ONBOX / "usr/lib/provisiond/runsetup", "/nowhere")
    assert done.returncode == 0


def _lock(box: FakeRoot) -> None:
    box.write("etc/passwd", "")
    box.write("etc/shadow", "")
    box.write("proc/cmdline", "secured panic=10 systemd.import_credentials=no\n")
    box.came_out("golden")
    for name in ("nft", "systemctl", "pkill"):
        box.tool(name, "")
    assert box.run(ONBOX / "usr/lib/secure/lock").returncode == 0


class Writer(NamedTuple):
    """A program of a box's, and the files below /persistent that it has written then."""

    run: Callable[[FakeRoot], None]
    files: tuple[str, ...]


WRITERS = {
    "trial begin": Writer(_begin, ("log/trial", "log/trial-route")),
    "trial back": Writer(_back, ("log/trial",)),
    "trial restore": Writer(_restore, ("log/rolled-back",)),
    "versions back": Writer(_versions, ("log/trial",)),
    "pressure": Writer(_pressure, ("log/overfull",)),
    "quarantine": Writer(_quarantine, ("log/failed-resets",)),
    "provisiond": Writer(_provisiond, ("log/provisiond.log",)),
    "runsetup": Writer(_runsetup, ("settings/runsetup",)),
    "lock": Writer(_lock, ("settings/secured",)),
}


def _linked(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def _dangling(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere.with_name("new"))


def _fifo(path: Path, elsewhere: Path) -> None:  # noqa: ARG001
    os.mkfifo(path)


def _device(path: Path, elsewhere: Path) -> None:  # noqa: ARG001
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))  # zero, which has no end


def _folder(path: Path, elsewhere: Path) -> None:  # noqa: ARG001
    (path / "more").mkdir(parents=True)


def _others(path: Path, elsewhere: Path) -> None:  # noqa: ARG001
    path.write_text("of a user\n")
    os.chown(path, 65534, 65534)
    path.chmod(0o666)


FORMS = (_linked, _dangling, _fifo, _device, _folder, _others)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__[1:])
@pytest.mark.parametrize("name", WRITERS)
def test_what_lies_there_is_replaced(
    tmp_path: Path, name: str, form: Callable[[Path, Path], None]
) -> None:
    """Links and FIFOs also in the place of its new one, of one that is read, and of the folder."""
    writer = WRITERS[name]
    for place in ("{}", "{}.new", "log/trial", "folder")[: 4 if form in (_linked, _fifo) else 1]:
        root = tmp_path / f"{place.strip('{}').replace('/', '-')}-root"
        elsewhere = root / "etc/elsewhere"
        elsewhere.mkdir(parents=True)
        (elsewhere / "file").write_text("mine\n")
        (root / "persistent").mkdir()
        for file in writer.files:
            path = root / "persistent" / (file if place == "folder" else place.format(file))
            if place == "folder":
                path = path.parent
            if not path.exists() and not path.is_symlink():
                path.parent.mkdir(exist_ok=True)
                form(path, elsewhere if place == "folder" else elsewhere / "file")
        writer.run(FakeRoot(root))
        for file in writer.files:
            path = root / "persistent" / file
            found, above = path.lstat(), path.parent.lstat()
            assert stat.S_ISREG(found.st_mode), (place, file)
            assert stat.S_ISDIR(above.st_mode), (place, file)
            assert {found.st_uid, above.st_uid} == {0}, (place, file)
            assert (found.st_mode | above.st_mode) & 0o022 == 0, (place, file)
        assert [each.name for each in elsewhere.iterdir()] == ["file"], place
        assert (elsewhere / "file").read_text() == "mine\n", place
