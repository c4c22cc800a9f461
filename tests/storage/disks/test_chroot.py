"""A pass of deploys on a root that is no running host."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

from deploys.operations import onbox
from deploys.operations.onbox import OnboxFile
from deploys.session import Session, Target
from tasks.desk import loop


@operation()
def noted(variable: str, path: str) -> Generator[StringCommand, None, None]:
    words = ("sh", "-c", f'printf %s "${variable}" >"$1"', "note", path)
    yield StringCommand(shlex.join(words))


@pytest.fixture
def root(loop_disk: str, tmp_path: Path) -> Iterator[Path]:
    """A root with this machine's /usr and nothing else of it."""
    assert loop_disk
    root = tmp_path / "root"
    for name in ("usr", "tmp", "proc", "dev", "var/cache", "etc"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    with loop.mounted("/usr", root / "usr", "--bind"), loop.mounted("/dev", root / "dev", "--bind"):
        yield root


def test_the_same_operations_act_on_the_root_alone(root: Path) -> None:
    target = Target("the image", chroot=root, environment={"SOURCE_DATE_EPOCH": "17"})

    def deploy() -> None:
        noted(variable="SOURCE_DATE_EPOCH", path="/tmp/epoch")
        onbox.files(sources={"/etc/of-the-image": OnboxFile(b"text", 0o750)})

    with Session(target) as session:
        session.prepare([deploy])
        assert len(session.run()) == 2
    assert (root / "tmp/epoch").read_text() == "17"
    assert (root / "etc/of-the-image").read_text() == "text"
    assert (root / "etc/of-the-image").stat().st_mode & 0o777 == 0o750
    assert not Path("/etc/of-the-image").exists()
    with Session(target) as session:
        operations = session.prepare([deploy])
    assert [operation.changes for operation in operations] == [True, False]
