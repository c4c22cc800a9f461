"""Loop devices with an LVM that sees nothing else, for a kernel without device-mapper and udev; a
gateway."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tasks.desk import loop
from tests.storage.commands import run
from tests.storage.gateway import gateway as gateways

LVM_CONF = """\
global {{ activation = 0 }}
devices {{
    filter = ["a|^{loop}(p[0-9]+)?$|", "r|.*|"]
    use_devicesfile = 0
    obtain_device_list_from_udev = 0
    external_device_info_source = "none"
}}
backup {{ backup = 0 archive = 0 }}
"""
# Here no udev makes the nodes of new partitions: the kernel does when partx asks it to.
UDEVADM = """\
#!/bin/sh
partx --update {loop} 2>/dev/null || true  # it fails when there is no table any more
"""


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a whole Debian is not quick: it runs beside the guests, with one root for all."""
    for item in items:
        if "gateway_root" in getattr(item, "fixturenames", ()):
            item.add_marker("boot")


@pytest.fixture
def loop_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty disk of 1 GiB at a loop device, the only one that LVM sees."""
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(2**30)
    loop = run("losetup", "--find", "--show", image).strip()
    try:
        lvm, stubs = tmp_path / "lvm", tmp_path / "bin"
        lvm.mkdir()
        (lvm / "lvm.conf").write_text(LVM_CONF.format(loop=loop))
        stubs.mkdir()
        (stubs / "udevadm").write_text(UDEVADM.format(loop=loop))
        (stubs / "udevadm").chmod(0o755)
        monkeypatch.setenv("LVM_SYSTEM_DIR", str(lvm))
        monkeypatch.setenv("LVM_SUPPRESS_FD_WARNINGS", "1")
        monkeypatch.setenv("PATH", f"{stubs}:{os.environ['PATH']}")
        yield loop
    finally:
        subprocess.run(["partx", "--delete", loop], capture_output=True, check=False)
        run("losetup", "--detach", loop)


def root_of(suite: str, shared: Path) -> Path:
    """The root of a gateway of this release, with the deploy applied; not to be changed."""
    if os.geteuid() != 0:
        pytest.skip("making a Debian tree needs root")
    made = shared / f"gateway-{suite}"
    with FileLock(made.with_suffix(".lock")):
        if not made.exists():
            folder = made.with_suffix(".new")
            folder.mkdir()
            gateways.apply(gateways.unpacked(folder, suite))
            folder.rename(made)
    return made / "root"


@pytest.fixture(scope="session")
def gateway_root(shared: Path) -> Path:
    """The root of a gateway, with the deploy applied, and no account on it; not to be changed."""
    return root_of("trixie", shared)


@pytest.fixture
def root(gateway_root: Path, tmp_path: Path) -> Iterator[Path]:
    """A small Debian that deploys can be applied to: a layer over that root, ready for commands."""
    (tmp_path / "layers").mkdir()
    with gateways.layered(gateway_root, tmp_path / "layers") as root, loop.chroot(root):
        yield root


@pytest.fixture(scope="session")
def gateway(
    gateway_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[gateways.Gateway]:
    """A gateway that runs, with the owners ada and bob, an item, and a result of bob's."""
    with (
        gateways.layered(gateway_root, tmp_path_factory.mktemp("layers")) as root,
        gateways.running(root, tmp_path_factory.mktemp("home")) as made,
    ):
        for owner, password in gateways.PASSWORDS.items():
            made.inside(gateways.OWNERS, "add", owner, stdin=f"{password}\n")
        for folder in (made.items / gateways.ITEM, made.results("bob") / "job"):
            folder.mkdir()
            (folder / "results.edn").write_text(f"of {folder.name}\n")
        made.inside("chown", "-R", "pipeline:pipeline", "/srv/pipeline/results/bob/job")
        yield made
