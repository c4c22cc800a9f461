"""The settings and LVM itself, on the same names."""

from __future__ import annotations

import subprocess

from deploys.errors import SettingsError
from tasks.desk.flags import load
from tests.storage.commands import run

PARTS = (
    *("cdata", "cmeta", "corig", "cpool", "cvol", "imeta", "iorig", "mimage", "mlog", "pmspare"),
    *("rimage", "rmeta", "tdata", "tmeta", "vdata", "vorigin", "wcorig"),
)
NAMES = (
    *("root", "root_snap", "a.b", "+x", "_x", "x-y", "mlog", "historical", "a" * 90),
    *(".", "..", "snapshot", "snapshots", "pvmove", "pvmove0", "a b", "é", "a/b", "", "a" * 130),
    *(f"x_{part}" for part in PARTS),
)


def test_the_settings_take_the_volumes_that_lvm_takes(loop_disk: str) -> None:
    run("pvcreate", "--quiet", loop_disk)
    run("vgcreate", "--quiet", "group", loop_disk)

    def lvm_takes(name: str) -> bool:
        options = ("--test", "--activate=n", "--zero=n", "--wipesignatures=n", "--extents=1")
        argv = ["lvcreate", *options, f"--name={name}", "group"]
        return not subprocess.run(argv, capture_output=True, check=False).returncode

    def settings_take(name: str) -> bool:
        try:
            load(None, [f"volumes.lvsnap={name}"])
        except SettingsError:
            return False
        return True

    taken = {name: settings_take(name) for name in NAMES}
    assert taken == {name: lvm_takes(name) for name in NAMES}
    assert sum(taken.values()) == 9
