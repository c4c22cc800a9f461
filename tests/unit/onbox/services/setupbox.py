"""A box below a directory, and the server its set-up comes from, for tests of runsetup."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploys.services import provisiond
from deploys.settings import Settings
from tests.setup_project import NAME, Repository, Signer
from tests.unit.onbox.fakeroot import FakeRoot

ONBOX = Path(__file__).parents[4] / "static/onbox"
PROGRAMS = ONBOX / "usr/lib/provisiond"
RUNSETUP = PROGRAMS / "runsetup"
# What a version of the project does when it is applied: say which it is, then fail or not.
_MAIN = """
import pathlib, sys
version = pathlib.Path("deploys/version").read_text()
with open(sys.path[1] + "/applied", "a") as file:
    file.write(version + "\\n")
sys.exit("broken set-up" if "broken" in version else 0)
"""


def install(root: Path) -> None:
    """Put the programs of provisiond where a box has them."""
    shutil.copytree(PROGRAMS, root / "usr/lib/provisiond", dirs_exist_ok=True)


def project(folder: Path, version: str) -> None:
    """Make a folder one of the project that says its version when it is applied."""
    (folder / "deploys").mkdir(parents=True, exist_ok=True)
    (folder / "deploys/__init__.py").write_text("")
    (folder / "deploys/__main__.py").write_text(_MAIN)
    (folder / "deploys/version").write_text(version)


@dataclass
class SetupBox(FakeRoot):
    """The box, whose one signer signs what ``publish`` makes."""

    server: Path
    signer: Signer
    origin: Repository = field(init=False)

    def __post_init__(self) -> None:
        self.origin = Repository(self.server / NAME, self.signer)

    @property
    def setup(self) -> Path:
        return self.root / "persistent/setup"

    @property
    def kept(self) -> Path:
        """The bundle of the commit that worked last."""
        return self.setup / "good.bundle"

    @property
    def good(self) -> str:
        """The commit that worked last."""
        return self.kept.read_bytes().split(b"\n")[1].split()[0].decode()

    @property
    def applied(self) -> list[str]:
        """The versions that were applied, in order."""
        return self.lines("opt/pipeline/python/applied")

    def publish(self, version: str, branch: str = "stable") -> str:
        """The commit of a new version on ``branch``."""
        project(self.origin.path, version)
        return self.origin.commit(version, branch)

    def provision(self, pin: str = "", name: str = NAME, signers: tuple[str, ...] = ()) -> None:
        """What a provision leaves of the row openkim-pipeline-setup, and of the signers."""
        row = {"source": "git", "location": name, "version": pin}
        stack = {"openkim-pipeline-setup": row} if pin else {}
        settings = Settings.model_validate({"setup": {"signers": signers}, "stack": stack})
        for path, file in provisiond.setup_policy(settings).items():
            self.write(path.lstrip("/"), file.content.decode())

    def pin(self, commit: str, name: str = NAME) -> None:
        self.provision(commit, name, (self.signer.line,))

    def runsetup(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return self.run(RUNSETUP, *arguments, **extra)


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("signers"))


@pytest.fixture
def box(tmp_path: Path, signer: Signer) -> SetupBox:
    box = SetupBox(tmp_path / "box", tmp_path / "server", signer)
    install(box.root)
    (box.root / "persistent").mkdir()
    (box.root / "opt/pipeline/python").mkdir(parents=True)
    project(box.root / "opt/pipeline/setup", "bundled")
    box.provision(signers=(signer.line,))
    return box
