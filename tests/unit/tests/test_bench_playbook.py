"""Ansible's side of the bench of a provision: the same operations as ours."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from deploys import box
from deploys.box import Golden
from deploys.errors import BoxError
from deploys.facts.state import HostState
from deploys.operations.onbox import OnboxFile, tree
from deploys.operations.packages import LocalPackage
from deploys.plan.preflight import Preflight
from deploys.plan.result import Kind, VolumePlan
from deploys.session import Session, Target
from deploys.session.root_shell import Answer
from deploys.settings import Settings
from deploys.stack import Parts
from deploys.stack.bundle import Archive, Project
from tests.bench.shared import playbook

DIGEST = "ab" * 32


class _Silent:
    """A shell that answers every command with nothing: each operation would change that host."""

    def run(self, _command: str, _timeout: float | None = None) -> Answer:
        return Answer(0, "", "")


def test_the_playbook_has_each_operation_of_a_pass(tmp_path: Path) -> None:
    """Of a provision with the settings as they are; but for the deploys that are left out."""
    plan = VolumePlan(Kind.BOX, "vagrant-pipeline", "root", "root_snap", "4G")
    archive = Archive(Path("a"), DIGEST)
    parts = Parts((LocalPackage("pipeline-openkim-python", DIGEST, Path("kimpy")),))
    golden = Golden(
        settings=Settings(),
        project=Project("c", "d"),
        plan=plan,
        python=archive,
        copy=archive,
        parts=parts,
    )
    deploys = box.deploys(golden)
    shell: Any = _Silent()
    with Session(Target("box", shell)) as session:
        part = playbook.measured(session, deploys)
    found = Preflight(HostState(), plan, "3.13")
    everything: defaultdict[str, str] = defaultdict(str)
    known = playbook.Known(found, Settings(), (), everything, everything)
    [play] = playbook.playbook(part.operations, known, tmp_path)
    assert [task["name"] for task in play["tasks"]] == list(part.operations)
    assert part.whole > len(part.operations) > part.whole / 4
    assert len(part.places) < len(deploys)


def test_an_operation_the_playbook_lacks_is_refused(tmp_path: Path) -> None:
    """Else Ansible would be measured doing less."""
    known: Any = type("Known", (), {"facts": ()})
    with pytest.raises(BoxError, match="nothing like the operation"):
        playbook.playbook(["Stack | New"], known, tmp_path)


def test_files_are_copied_with_content_and_mode(tmp_path: Path) -> None:
    """One item a file, from a local copy with the very content."""
    sources = {**tree("usr/lib/pipeline"), "/etc/one": OnboxFile(b"1\n", 0o600)}
    task = playbook._copies(sources, tmp_path)
    modes = {item["dest"]: item["mode"] for item in task["loop"]}
    assert modes["/etc/one"] == "0600"
    assert modes.keys() == sources.keys()
    for item in task["loop"]:
        assert Path(item["src"]).read_bytes() == sources[item["dest"]].content


def test_the_playbook_reads_what_our_pass_reads() -> None:
    """LVM's report, the disks and the packages are among its facts."""
    commands = playbook.fact_commands()
    for words in ("lvm fullreport", "lsblk", "findmnt", "dpkg-query"):
        assert any(words in command for command in commands)
