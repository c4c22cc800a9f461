"""A guest in VirtualBox, with the real VBoxManage; without its kernel module none starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.guests.virtualbox import Guest, manage
from tests.storage.boxes.real_vboxmanage import on_path
from tests.storage.boxes.small_disk import MIB, small_disk
from tests.storage.commands import run

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that VirtualBox sees; its VBoxManage is on PATH."""
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    shared = tmp_path_factory.mktemp("shared")
    with (
        on_path(tmp_path_factory.mktemp("virtualbox"), shared) as programs,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        yield shared


@pytest.fixture(scope="module")
def disk(shared: Path) -> Path:
    return small_disk(shared / "box.raw")


@pytest.fixture
def guest(shared: Path, disk: Path) -> Guest:
    return Guest.make(shared / "guest", disk, "vagrant", shared / "id_ed25519")


def machines() -> list[str]:
    """The names of all machines that VirtualBox has."""
    return re.findall(r'^"(.*)" \{', manage.run("list", "vms"), re.MULTILINE)


def test_a_machine_is_made_and_goes_and_no_other_is_touched(shared: Path, guest: Guest) -> None:
    manage.run("createvm", "--name", "other", "--basefolder", str(shared), "--register")
    try:
        uuid = guest._record.uuid
        assert set(machines()) == {"other", f"openkim-box-{uuid[:8]}"}
        about = manage.machine(uuid)
        assert about is not None
        assert about["VMState"] == "poweroff"
        assert about["SATA-0-0"] == str(shared / "guest/box.vdi")
        assert (about["SATA-discard-0-0"], about["SATA-nonrotational-0-0"]) == ("on", "on")
        assert (about["nictype1"], about["graphicscontroller"]) == ("virtio", "vmsvga")
        assert (about["uart1"], about["audio"]) == ("off", "none")
        assert about["Forwarding(0)"] == f"ssh,tcp,127.0.0.1,{guest.login.port},,22"
        assert "tmpfiles.extra=f+ /home/vagrant" in manage.run("getextradata", uuid, "enumerate")
        guest.destroy()
        assert machines() == ["other"]
        assert manage.run("list", "hdds").strip() == ""
        assert not (shared / "guest").exists()
    finally:
        manage.run("unregistervm", "other", "--delete")


def test_without_the_kernel_module_a_start_is_one_line_and_can_be_tried_again(
    guest: Guest,
) -> None:
    try:
        for cpus in (1, 2):
            with pytest.raises(BoxError, match=r"^VBoxManage startvm: The virtual machine .*$"):
                guest.start(memory=1024 * MIB, cpus=cpus)
            assert not guest.alive
        about = manage.machine(guest._record.uuid)
        assert about is not None
        assert (about["memory"], about["cpus"]) == ("1024", "2")
    finally:
        guest.destroy()


def test_a_compaction_gives_back_what_is_zeros(guest: Guest, shared: Path) -> None:
    vdi, before = shared / "guest/box.vdi", shared / "before.raw"
    try:
        untouched = guest.disk_usage
        # of a place that is a hole still: full, and then of zeros that are written out
        for pattern in ("1", "0"):
            run("qemu-io", "-f", "vdi", "-c", f"write -P {pattern} 60M 20M", vdi)
        assert guest.disk_usage - untouched >= 19 * MIB
        run("qemu-img", "convert", "-O", "raw", vdi, before)
        assert guest.compact() - untouched < MIB
        assert "identical" in run("qemu-img", "compare", "-f", "vdi", "-F", "raw", vdi, before)
    finally:
        guest.destroy()


def test_virtualboxs_own_conversion_is_the_same_disk(shared: Path, disk: Path) -> None:
    vdi = shared / "own.vdi"
    manage.run("convertfromraw", str(disk), str(vdi), "--format", "VDI")
    assert "identical" in run("qemu-img", "compare", "-f", "vdi", "-F", "raw", vdi, disk)


def test_the_machine_is_exported(shared: Path, guest: Guest) -> None:
    try:
        manage.run("export", guest._record.uuid, "--output", str(shared / "exported.ova"))
    finally:
        guest.destroy()
    names = run("tar", "--list", "--file", shared / "exported.ova").split()
    assert {Path(name).suffix for name in names} >= {".ovf", ".vmdk"}
