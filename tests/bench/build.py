"""``inv box.build`` from nothing, beside what others take to install the same packages.

The peers stop where a box begins: mmdebstrap leaves a tar file, debootstrap a plain ext4
filesystem; neither has the deploys, an initrd, LVM or a boot loader. Nor have they kimpy, whose
package is built once and kept for all builds after it: a row of its own, and there before the
build that is compared.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from deploys.errors import BoxError
from deploys.settings import Settings
from tasks.boxes.build import packages
from tasks.debian import archive, chroot
from tasks.debian.archive import Archive
from tasks.desk import loop, shell
from tasks.desk.places import ROOT
from tasks.stack import packages as debs
from tasks.stack.sources import Sources
from tests.bench.shared.rows import Row, Step, Target

_DEADLINE = 3600  # seconds of each
_BESIDE_MMDEBSTRAP = Target(high=1.3)
_BESIDE_DEBOOTSTRAP = Target(high=0.85)
_SECOND = Target(high=0.4)
_ANOTHER_SETTING = "boot.deadline=119"


def build(step: Step) -> list[Row]:
    """Seconds from nothing, and of a second build with another setting.

    Raises:
        BoxError: not root, debootstrap is missing, or a build failed.
    """
    loop.require_root("building boxes")
    if shutil.which("debootstrap") is None:
        raise BoxError("debootstrap is missing: apt-get install debootstrap")
    settings = Settings()
    suite, names = settings.image.suite, packages(settings)
    # Not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(prefix="bench-build-", dir="/var/tmp") as name:
        folder = Path(name)
        found = archive.read(suite, folder)
        bundles = folder / "state" / "bundles"
        bundles.mkdir(parents=True)
        kimpy = Sources.of(settings, "openkim-python")
        wheel = _seconds(lambda: debs.built(kimpy, found, suite, bundles, step))
        step("box.build, from nothing but that")
        said: list[str] = []
        first = _seconds(lambda: said.append(_box(folder)))
        step("box.build, another setting")
        second = _seconds(lambda: _box(folder, "--set", _ANOTHER_SETTING))
        step("mmdebstrap")
        bare = _seconds(lambda: _mmdebstrap(folder, suite, names, found))
        step("debootstrap")
        image = _seconds(lambda: _debootstrap(folder, suite, names, found))
    return [
        Row("kimpy's package, once", "s", wheel),
        Row("box.build beside mmdebstrap of its packages", "s", first, bare, _BESIDE_MMDEBSTRAP),
        Row("box.build beside debootstrap into ext4", "s", first, image, _BESIDE_DEBOOTSTRAP),
        *(Row(f"of box.build: {what}", "s", took) for what, took in steps(said[0])),
        Row("second build beside the first", "s", second, first, _SECOND),
    ]


def steps(said: str) -> list[tuple[str, float]]:
    """The steps of a build that wrote these lines, each with its seconds; the last is its end."""
    lines = re.findall(r"^box +([0-9.]+) s  (.+)$", said, re.MULTILINE)
    # Within a step its operations are told, with their number.
    begun = [(float(at), what) for at, what in lines if not re.search(r" \(\d+/\d+\): ", what)]
    return [(what, until - at) for (at, what), (until, _) in pairwise(begun)]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _box(folder: Path, *flags: str) -> str:
    """What it said of its steps."""
    argv = [sys.executable, "-m", "invoke", "box.build", *flags]
    env = {"OPENKIM_BOX_STATE": str(folder / "state")}
    return shell.run(argv, env=env, cwd=ROOT, timeout=_DEADLINE).stderr


def _url(suite: str, found: Archive) -> str:
    """The mirror's, of the suite itself."""
    return next(line for line in found.lines if line.endswith(f" {suite} main")).split()[1]


def _mmdebstrap(folder: Path, suite: str, names: Sequence[str], found: Archive) -> None:
    argv = ["mmdebstrap", "--variant=apt", "--mode=root", f"--include={','.join(names)}"]
    argv += [f"--aptopt={option}" for option in found.options]
    env = {"INITRD": "No", "TMPDIR": str(folder)}
    target = folder / "mmdebstrap.tar"
    shell.run([*argv, suite, target, *found.lines], env=env, timeout=_DEADLINE)


def _debootstrap(folder: Path, suite: str, names: Sequence[str], found: Archive) -> None:
    """Its base, then apt: its own resolver does not come to terms with so many packages."""
    root = folder / "root"
    root.mkdir()
    lines = "".join(f"{line}\n" for line in found.lines)
    options = "".join(f"{option}\n" for option in found.options)
    with loop.scratch(folder, 8 * 2**30) as device, loop.mounted(device, root):
        base = ("debootstrap", "--variant=minbase")
        shell.run([*base, suite, root, _url(suite, found)], timeout=_DEADLINE)
        (root / "etc/apt/sources.list").write_text(lines)
        (root / "etc/apt/apt.conf.d/90bench").write_text(options)
        with loop.chroot(root):
            resolver = root / "etc/resolv.conf"
            resolver.unlink(missing_ok=True)
            resolver.write_text(Path("/etc/resolv.conf").read_text())
            chroot.chroot_output(root, "apt-get", "-qq", "update")
            apt = ("chroot", root, "apt-get", "-qq", "--no-install-recommends", "install")
            shell.run([*apt, *names], env=chroot.environment(), timeout=_DEADLINE)
            shell.run(["sync", "--file-system", root])
