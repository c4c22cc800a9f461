"""The scripts by which UEFI firmware finds a box, run for real; efibootmgr and mounts stand in."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploys.facts.firmware import Esp, EspContent
from deploys.operations import efi
from tests.unit.onbox.fakeroot import FakeRoot

pytestmark = pytest.mark.commands

SIGNED = ("shimx64.efi", "grubx64.efi", "mmx64.efi", "grub.cfg", "BOOTX64.CSV")
# efibootmgr 18, and 17 that tells no paths
LIST = """BootCurrent: 0000
Timeout: 0 seconds
BootOrder: 0000,0003
Boot0000* debian\tHD(1,GPT,aa)/\\EFI\\debian\\shimx64.efi
Boot0001* pipeline-of-another\tHD(1,GPT,bb)/\\EFI\\x.efi
Boot0003* pipeline\tHD(2,GPT,cc)/\\EFI\\pipeline\\grubx64.efi
Boot000A  pipeline
Boot000B* UEFI pipeline\tPciRoot(0x0)
"""


@pytest.fixture
def esp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is on the partition; it is mounted, and no namespace is needed to see it."""
    fake = FakeRoot(tmp_path)
    log, at = shlex.quote(str(tmp_path / "calls")), shlex.quote(str(tmp_path / "esp"))
    bodies = {
        "findmnt": f"echo {at}",
        "unshare": 'shift; exec "$@"',
        "efibootmgr": f'echo "$*" >>{log}; [ $# -gt 0 ] || cat {at}/../list',
    }
    for name, body in bodies.items():
        fake.tool(name, body)
    monkeypatch.setenv("PATH", fake.environment["PATH"])
    (tmp_path / "list").write_text(LIST)
    partition = tmp_path / "esp"
    (partition / "EFI").mkdir(parents=True)
    return partition


def loader(esp: Path, folder: str, names: tuple[str, ...]) -> None:
    (esp / "EFI" / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        (esp / "EFI" / folder / name).write_text(f"{folder}'s {name}")


def run(operation: Callable[..., Any], **arguments: object) -> None:
    [command] = operation._inner(**arguments)  # type: ignore[attr-defined]
    done = subprocess.run(
        ["sh", "-c", command.get_raw_value()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def found(esp: Path, folder: str) -> dict[str, str]:
    return {file.name: file.read_text() for file in (esp / "EFI" / folder).iterdir()}


def test_a_signed_chain_is_copied_with_all_that_shim_starts(esp: Path) -> None:
    """Beside shim nothing is left that would start what else is there."""
    loader(esp, "pipeline", SIGNED)
    loader(esp, "BOOT", ("fbx64.efi",))
    run(efi.removable_path, partition="/dev/vdb2", loader="pipeline", new=True)
    assert found(esp, "BOOT") == {
        "BOOTX64.EFI": "pipeline's shimx64.efi",
        "grubx64.efi": "pipeline's grubx64.efi",
        "mmx64.efi": "pipeline's mmx64.efi",
        "grub.cfg": "pipeline's grub.cfg",
    }


def test_a_grub_that_is_not_signed_is_all_there_is(esp: Path) -> None:
    loader(esp, "debian", ("grubx64.efi",))
    run(efi.removable_path, partition="/dev/vda1", loader="debian", new=True)
    assert found(esp, "BOOT") == {"BOOTX64.EFI": "debian's grubx64.efi"}


@pytest.mark.parametrize("name", ["BOOTX64.EFI", "bootx64.efi"])
def test_the_old_removable_path_gets_another_name(esp: Path, name: str) -> None:
    loader(esp, "BOOT", (name, "grubx64.efi"))
    loader(esp, "debian", ("grubx64.efi",))
    run(efi.no_removable_path, partition="/dev/vda1")
    run(efi.no_removable_path, partition="/dev/vda1")  # of a run that broke off
    assert set(found(esp, "BOOT")) == {"BOOTX64.OLD", "grubx64.efi"}
    assert set(found(esp, "debian")) == {"grubx64.efi"}


def test_the_old_removable_path_gets_its_name_back_where_it_is_free(esp: Path) -> None:
    loader(esp, "BOOT", ("BOOTX64.OLD", "grubx64.efi"))
    run(efi.old_removable_path, partition="/dev/vda1")
    assert set(found(esp, "BOOT")) == {"BOOTX64.EFI", "grubx64.efi"}
    loader(esp, "BOOT", ("BOOTX64.OLD",))
    run(efi.old_removable_path, partition="/dev/vda1")
    assert set(found(esp, "BOOT")) == {"BOOTX64.EFI", "BOOTX64.OLD", "grubx64.efi"}


def test_the_boxs_boot_entries_alone_are_removed(esp: Path) -> None:
    run(efi.no_boot_entry, label="pipeline")
    assert (esp.parent / "calls").read_text().splitlines() == [
        "",
        "--quiet --bootnum 0003 --delete-bootnum",
        "--quiet --bootnum 000A --delete-bootnum",
    ]
    FakeRoot(esp.parent).tool("findmnt", "exit 1")  # NVRAM that is not writable
    run(efi.no_boot_entry, label="pipeline")
    assert len((esp.parent / "calls").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("names", "started"), [(SIGNED, "shimx64.efi"), (("grubx64.efi",), "grubx64.efi")]
)
def test_the_boot_entry_takes_the_place_of_its_like_alone(
    esp: Path, names: tuple[str, ...], started: str
) -> None:
    loader(esp, "pipeline", names)
    run(efi.boot_entry, partition="/dev/vdb2", disk="/dev/vdb", number=2, label="pipeline")
    assert (esp.parent / "calls").read_text().splitlines() == [
        "",
        "--quiet --bootnum 0003 --delete-bootnum",
        "--quiet --bootnum 000A --delete-bootnum",
        "--quiet --create --disk /dev/vdb --part 2 --label pipeline "
        f"--loader \\EFI\\pipeline\\{started}",
    ]


def test_what_is_on_a_partition_is_read(esp: Path) -> None:
    loader(esp, "debian", ("grubx64.efi",))
    settings = "search.fs_uuid 12-ab root hd0,gpt2\nset prefix=($root)'/grub'\n"
    (esp / "EFI/debian/grub.cfg").write_text(settings)
    (esp / "EFI/debian/deeper").mkdir()
    (esp / "EFI/debian/deeper/file").touch()
    command = Esp().command(device="/dev/vda1")
    output = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    content = Esp().process(output.stdout.splitlines())
    assert content.free > 0
    assert content == EspContent(
        {"debian/grubx64.efi": 20, "debian/grub.cfg": len(settings)}, content.free, ("12-ab",)
    )
