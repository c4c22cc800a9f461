"""The real VBoxManage, without its kernel module: all but the start of a machine works.

Debian has VirtualBox in contrib of its unstable release alone, built for that release's
libraries. So both are unpacked, not installed, below a folder of a test's, and run in a chroot.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.machines import bootstrap, loop, shell

SUITE = "sid"
# Of all that virtualbox depends on, what its VBoxManage and VBoxSVC are linked against.
_NEEDED = re.compile(
    r"^(libc6|zlib1g|lib(curl|gcc|lzf|lzma|ogg|png|ssl|stdc|vorbis|vpx|xml2)[\w.+-]*)$"
)
_APT_CONF = """\
Dir::State "{0}/state";
Dir::State::status "{0}/status";
Dir::Cache "{0}/cache";
Dir::Etc::sourcelist "{0}/sources.list";
Dir::Etc::sourceparts "-";
"""
_PROGRAM = """\
#!/bin/sh
exec env -i HOME=/root PATH=/usr/bin:/usr/sbin LANG=C.UTF-8 \\
    chroot {} /usr/lib/virtualbox/VBoxManage "$@"
"""


@contextlib.contextmanager
def unpacked(folder: Path, shared: Path) -> Iterator[Path]:
    """The folder of a VBoxManage program, to be put on PATH; it sees ``shared`` and no other.

    Skips the test where apt knows no mirror of Debian's.
    """
    root, programs = folder / "root", folder / "bin"
    programs.mkdir()
    _unpack(folder, root)
    program = programs / "VBoxManage"
    program.write_text(_PROGRAM.format(root))
    program.chmod(0o755)
    place = root / shared.relative_to("/")
    place.mkdir(parents=True)
    with loop.chroot(root), loop.mounted(shared, place, "--bind"):
        yield programs
        _wait_for_service(root)


def _unpack(folder: Path, root: Path) -> None:
    mirror = [line for line in bootstrap.sources(SUITE) if line.endswith(f" {SUITE} main")]
    if not mirror:
        pytest.skip("this machine's apt knows no mirror of Debian's")
    for name in ("state/lists/partial", "cache/archives/partial", "debs"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"{mirror[0]} contrib\n")
    conf = folder / "apt.conf"
    conf.write_text(_APT_CONF.format(folder) + "\n".join(bootstrap.relaxations()))
    env = {"APT_CONFIG": str(conf)}
    shell.run(["apt-get", "--quiet", "update"], env=env, timeout=300)
    shown = shell.run(["apt-cache", "show", "virtualbox"], env=env).stdout
    [depends] = re.findall(r"^Depends: (.*)$", shown, re.MULTILINE)
    names = re.findall(r"([\w.+-]+)(?: \([^)]*\))?[,|\s]*", depends)
    wanted = sorted({name for name in names if _NEEDED.match(name)})
    simulated = shell.run(
        ["apt-get", "--simulate", "--no-install-recommends", "install", *wanted], env=env
    ).stdout
    names = re.findall(r"^Inst (\S+)", simulated, re.MULTILINE)
    download = ["apt-get", "--quiet", "download", "virtualbox", *names]
    shell.run(download, env=env, cwd=folder / "debs", timeout=600)
    for name in ("dev", "proc", "run", "sys", "tmp", "root", "usr/lib", "usr/lib64"):
        (root / name).mkdir(parents=True)
    for name in ("lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for package in (folder / "debs").glob("*.deb"):
        shell.run(["dpkg-deb", "--extract", package, root])


def _wait_for_service(root: Path) -> None:
    """VBoxSVC ends some seconds after the last VBoxManage that it served."""
    deadline = time.monotonic() + 60
    while _inside(root):
        assert time.monotonic() < deadline, "VBoxSVC did not end"
        time.sleep(0.2)


def _inside(root: Path) -> bool:
    for link in Path("/proc").glob("[0-9]*/root"):
        with contextlib.suppress(OSError):
            if link.readlink() == root:
                return True
    return False
