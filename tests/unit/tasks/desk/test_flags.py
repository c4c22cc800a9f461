"""Settings: what is taken, and the one line for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from deploys.errors import SettingsError
from deploys.settings import GIB, MIB, Settings, format_size, parse_size
from tasks.desk.flags import load


def test_without_anything_there_are_defaults() -> None:
    settings = load()
    assert settings == Settings()
    assert settings.volumes.volgroup == "vagrant-pipeline"
    assert settings.volumes.lvsize == "100%ORIGIN"
    assert settings.volumes.root_size is None


def test_a_file_then_the_flags(tmp_path: Path) -> None:
    file = tmp_path / "box.toml"
    file.write_text('[volumes]\nlvsize = "4G"\nswap_size = 134217728\n[boot]\ndeadline = 60\n')
    settings = load(file, ["volumes.lvsize=50%ORIGIN", "guest.cpus=4"])
    assert (settings.volumes.lvsize, settings.volumes.swap_size) == ("50%ORIGIN", 128 * MIB)
    assert (settings.boot.deadline, settings.guest.cpus) == (60, 4)


@pytest.mark.parametrize(("value", "size"), [("1.3G", "1332M"), ("9000001", "9M"), ("4G", "4G")])
def test_a_snapshot_has_whole_mebibytes(value: str, size: str) -> None:
    """A number without a unit would be MiB to LVM."""
    assert load(None, [f"volumes.lvsize={value}"]).volumes.lvsize == size


@pytest.mark.parametrize("value", ["a,b-1", "a b-1", "a, b-1"])
def test_a_list_is_words(value: str) -> None:
    said = value.replace("a", "aa")
    settings = load(None, [f"image.packages={said}", f"stack.packages={said}"])
    assert settings.image.packages == settings.stack.packages == ("aa", "b-1")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], True),
        (["stack.openkim-python.source=none"], False),
        (["stack=none"], False),
        (["stack.ase.source=none"], False),
        (["stack.lammps.source=none"], True),
    ],
)
def test_kimpy_comes_with_what_it_joins(overrides: list[str], expected: bool) -> None:
    assert ("openkim-python" in load(None, overrides).stack.built) is expected


def test_the_role_is_in_no_section(tmp_path: Path) -> None:
    file = tmp_path / "box.toml"
    file.write_text('role = "gateway"\n')
    assert load().role == "devel"
    assert load(file).role == load(None, ["role=gateway"]).role == "gateway"
    assert '"role": "gateway"' in load(file).of_box()
    with pytest.raises(
        SettingsError, match="setting role: provision makes devel or gateway, not 'king'"
    ):
        load(file, ["role=king"])


def test_an_empty_list_is_none() -> None:
    assert load(None, ["image.packages="]).image.packages == ()


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("volumes.lvsiz=4G", "unknown setting 'volumes.lvsiz'; did you mean 'volumes.lvsize'?"),
        ("volume.lvsize=4G", "unknown setting 'volume'; did you mean 'volumes'?"),
        ("boot.deadlin=5", "unknown setting 'boot.deadlin'; did you mean 'boot.deadline'?"),
        ("boot.deadline=soon", "setting boot.deadline: 'soon' is not a whole number"),
        ("boot.deadline=4", "setting boot.deadline: it must be 5 to 3600"),
        ("boot.deadline=9999", "setting boot.deadline: it must be 5 to 3600"),
        ("volumes.lvsize=lots", "setting volumes.lvsize: 'lots' is not a size such as 512M or 8G"),
        ("volumes.lvsize=0%ORIGIN", "setting volumes.lvsize: '0%ORIGIN' is not a size"),
        ("volumes.lvsize=10%FREE", "setting volumes.lvsize: '10%FREE' is not a size"),
        ("volumes.lvsize=0", "setting volumes.lvsize: '0' must be at least 4M"),
        ("volumes.chunksize=12K", "setting volumes.chunksize: 12K is not a power of two"),
        (f"volumes.swap_size={'9' * 400}", "setting volumes.swap_size: '9999"),
        ("stack.packages=sudo-", "setting stack.packages.0: 'sudo-' is no name of a Debian"),
        ("stack.packages=pipeline-ase", "setting stack: packages: pipeline-ase is built here"),
        ("stack.lammps.location=lammps-", "setting stack.lammps: location 'lammps-': write the"),
        ("volumes.swap_size=-1G", "setting volumes.swap_size: '-1G' is not a size"),
        ("volumes.swap_size=1M", "setting volumes.swap_size: it must be 64M or more"),
        ("volumes.chunksize=1M", "setting volumes.chunksize: it must be 4K to 512K"),
        ("volumes.volgroup=-x", "setting volumes.volgroup: '-x' is no name for LVM"),
        ("volumes.volgroup=a b", "setting volumes.volgroup: 'a b' is no name for LVM"),
        ("volumes.volgroup=", "setting volumes.volgroup: '' is no name for LVM"),
        ("volumes.lvroot=a;reboot", "setting volumes.lvroot: 'a;reboot' is no name for LVM"),
        ("setup.branch=--upload-pack=x", "setting setup.branch: '--upload-pack=x' is no name"),
        ("setup.hostname=a b", "setting setup.hostname: 'a b': write a git URL prefix"),
        ("image.packages=lammps,$(x)", "setting image.packages.1: '$(x)' is no name of"),
        (
            "volumes.warn_percent=95",
            "setting volumes: warn_percent 95 is not below reset_percent 95",
        ),
        ("volumes.reset_percent=100", "setting volumes.reset_percent: it must be 2 to 99"),
        ("jobs.drain=-1", "setting jobs.drain: it must be 0 to 86400"),
        ("volumes=4G", "--set 'volumes=4G': write SECTION.NAME=VALUE, as volumes.lvsize=4G"),
        ("volumes.lvsize", "--set 'volumes.lvsize': write SECTION.NAME=VALUE"),
        ("=4G", "--set '=4G': write SECTION.NAME=VALUE"),
        ("", "--set '': write SECTION.NAME=VALUE"),
        (".lvsize=4G", "--set '.lvsize=4G': write SECTION.NAME=VALUE"),
    ],
)
def test_a_wrong_flag_is_one_line(override: str, line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, [override])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[volumes", "box.toml: "),
        (b"[volumes]\nlvsize = 4G\n", "box.toml: "),
        (b'volumes = "all"\n', "setting volumes: "),
        (b"[volums]\n", "unknown setting 'volums'; did you mean 'volumes'?"),
        (b"\xff\xfe\x00", "box.toml: "),
        (b"[volumes]\nlvsize = 4\xff\n", "box.toml: "),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "box.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"^settings file .*: (No such file|this is no file)"):
        load(tmp_path / name)


def test_a_flag_into_what_a_file_has_as_no_section_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "box.toml"
    file.write_text("volumes = 3\n")
    with pytest.raises(SettingsError):
        load(file, ["volumes.lvsize=4G"])


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 * MIB), ("1.5G", 3 * GIB // 2), ("8 GiB", 8 * GIB), ("1t", 2**40), ("7", 7)],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, MIB, 3 * GIB, GIB + 1, 2**40, 5 * 2**40])
def test_a_size_that_was_written_is_read_exactly(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["volumes.lvsize=1.5G", "volumes.root_size=5000000000", "stack.lammps.source=none"],
        ["stack=none", "boot.reboot_deadline=70", "setup.hostname=ssh://git@host/a"],
    ],
)
def test_what_a_box_carries_reads_back_the_same(overrides: list[str]) -> None:
    settings = load(None, overrides)
    assert Settings.model_validate_json(settings.model_dump_json(indent=1)) == settings


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().volumes.lvsize = "1G"  # type: ignore[misc]
