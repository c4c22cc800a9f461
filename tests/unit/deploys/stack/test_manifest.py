"""The manifest: the same box has the same hash, another box another."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from pyinfra.api.command import FileUploadCommand
from pyinfra.context import ctx_host

from deploys.facts.manifest import System, SystemState
from deploys.facts.onbox import FileState
from deploys.operations import manifest as operations
from deploys.operations.onbox import OnboxFile
from deploys.settings import Settings
from tasks.desk.flags import load

OUTPUT = """@os
PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
VERSION_ID="13"
VERSION_CODENAME=trixie
ID=debian
@release
13.1
@python
python-0123456789abcdef
@packages
pipeline-lammps:amd64 20250204+pipeline.beef installed git:c0ffee
pipeline-openkim-python 2.1.4+pipeline.feed installed pip:f00d
pipeline-ase 3.25+pipeline.feed config-files git:c0ffee
lammps 20250204+dfsg.1-2 installed
libc6:amd64 2.41-12 installed
linux-image-6.12.48-amd64 6.12.48-1 installed
gone 1.0 config-files""".splitlines()
SYSTEM = SystemState().process(OUTPUT)


class Host:
    """A host whose facts are given."""

    def __init__(self, system: System, files: dict[str, FileState]) -> None:
        self.system, self.files = system, files

    def get_fact(self, fact: type[object], **_arguments: object) -> object:
        return self.system if fact is SystemState else self.files


def _commands(files: dict[str, FileState]) -> list[object]:
    settings = Settings().model_dump_json()
    with ctx_host.use(Host(SYSTEM, files)):
        return list(
            operations.manifest._inner(commit="c0ffee", digest="d1", settings=settings, python="/p")
        )


def _canonical(system: System = SYSTEM, commit: str = "c", settings: str = "{}") -> bytes:
    return operations.canonical(commit, "d", settings, system)


def test_system_is_read() -> None:
    expected = {"id": "debian", "version_id": "13", "codename": "trixie", "release": "13.1"}
    assert expected == SYSTEM.os
    assert SYSTEM.python == "python-0123456789abcdef"
    debians = ["lammps", "libc6:amd64", "linux-image-6.12.48-amd64"]
    ours = ["pipeline-lammps:amd64", "pipeline-openkim-python"]
    assert list(SYSTEM.packages) == [*ours, *debians]
    lammps, kimpy = "20250204+pipeline.beef", "2.1.4+pipeline.feed"
    assert SYSTEM.built == {
        "pipeline-lammps": {"version": lammps, "source": "git", "commit": "c0ffee"},
        "pipeline-openkim-python": {"version": kimpy, "source": "pip", "sha256": "f00d"},
    }
    assert SYSTEM.kernels == {"linux-image-6.12.48-amd64": "6.12.48-1"}


def test_a_host_without_libraries_or_release_is_read() -> None:
    system = SystemState().process(["@os", "@release", "@python", "@packages"])
    assert system == System()


def test_the_same_box_gives_the_same_bytes() -> None:
    shuffled = replace(SYSTEM, packages=dict(reversed(SYSTEM.packages.items())))
    assert _canonical(shuffled) == _canonical()
    assert json.loads(_canonical())["packages"]["lammps"] == "20250204+dfsg.1-2"


def test_any_difference_gives_other_bytes() -> None:
    upgraded = replace(SYSTEM, packages={**SYSTEM.packages, "lammps": "2"})
    rebuilt = replace(SYSTEM, built={**SYSTEM.built, "pipeline-lammps": {"version": "1"}})
    other = {_canonical(upgraded), _canonical(rebuilt), _canonical(commit="e")}
    assert len(other | {_canonical(), _canonical(settings='{"a": 1}')}) == 5


def test_the_virtual_machine_around_a_box_is_not_the_box() -> None:
    assert load(overrides=["guest.cpus=4"]).of_box() == Settings().of_box()
    assert load(overrides=["image.disk_size=30G"]).of_box() == Settings().of_box()
    assert load(overrides=["package.version=2.0"]).of_box() == Settings().of_box()
    assert load(overrides=["boot.reboot_deadline=900"]).of_box() == Settings().of_box()
    assert Settings.model_validate_json(Settings().of_box()) == Settings()


def test_written_once() -> None:
    first, script = _commands({})
    assert isinstance(first, FileUploadCommand)
    assert operations.MANIFEST in str(script)
    settings = Settings().model_dump_json()
    content = operations.canonical("c0ffee", "d1", settings, SYSTEM)
    release = (
        'NAME="OpenKIM pipeline box"\nROLE=devel\n'
        f"MANIFEST={hashlib.sha256(content).hexdigest()}\nCOMMIT=c0ffee\nPROJECT=d1\n"
    )
    there = {
        operations.MANIFEST: content,
        operations.SETTINGS: f"{settings}\n".encode(),
        operations.RELEASE: release.encode(),
    }
    states = {
        path: FileState(OnboxFile(text).sha256, 0o644, "root:root") for path, text in there.items()
    }
    assert _commands(states) == []


def test_settings_survive_the_way_through_the_box() -> None:
    settings = Settings()
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
