"""The archives a box carries: reproducible, and only what belongs on a box."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from deploys.errors import DeployError, PreflightError
from deploys.operations import onbox
from deploys.stack import bundle
from tasks.desk import shell
from tasks.stack import bundle as tasks_bundle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for name in ("deploys/a.py", "deploys/__pycache__/a.pyc", "static/onbox/run", "README"):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (root / "static/onbox/run").chmod(0o755)
    return root


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_copy_holds_deploys_and_static_alone(root: Path, tmp_path: Path) -> None:
    archive = tasks_bundle.project_copy(tmp_path / "state", root)
    with tarfile.open(archive.path) as tar:
        modes = {member.name: member.mode for member in tar}
        owners = {(member.uid, member.gid, member.mtime) for member in tar}
    assert modes == {".commit": 0o644, "deploys/a.py": 0o644, "static/onbox/run": 0o755}
    assert owners == {(0, 0, 0)}


def test_the_same_files_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    first = tasks_bundle.project_copy(tmp_path / "one", root)
    (root / "deploys/a.py").touch()
    second = tasks_bundle.project_copy(tmp_path / "two", root)
    assert first.path.read_bytes() == second.path.read_bytes()
    (root / "deploys/a.py").write_text("other")
    assert tasks_bundle.project_copy(tmp_path / "two", root).digest != first.digest


def test_an_unpacked_copy_has_the_version_of_its_checkout(root: Path, tmp_path: Path) -> None:
    archive = tasks_bundle.project_copy(tmp_path / "state", root)
    with tarfile.open(archive.path) as tar:
        tar.extractall(tmp_path / "box")
    assert bundle.project(tmp_path / "box") == tasks_bundle.project_version(root)


@pytest.mark.commands
def test_the_commit_is_the_last_that_touched_what_goes_on_a_box(root: Path) -> None:
    _git(root, "init", "-q")
    assert tasks_bundle.project_version(root).commit == "unknown"
    (root / ".gitignore").write_text("*.log\n")
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", "one")
    commit = _git(root, "rev-parse", "HEAD")
    (root / "README").write_text("changed")
    (root / "deploys/noise.log").write_text("ignored")
    _git(root, "commit", "-qam", "two")
    version = tasks_bundle.project_version(root)
    assert version.commit == commit
    (root / "deploys/new.py").write_text("")
    dirty = tasks_bundle.project_version(root)
    assert dirty.commit == f"{commit}-dirty"
    assert dirty.digest != version.digest


def test_an_execute_bit_is_part_of_the_version(root: Path) -> None:
    before = bundle.project(root)
    (root / "static/onbox/run").chmod(0o644)
    assert bundle.project(root).digest != before.digest


def test_no_copy_of_this_project(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="not a copy of this project"):
        bundle.project(tmp_path)


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.13; rm", "", "3.13\n"])
def test_a_python_that_cannot_carry_the_libraries(version: str, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"3\.10 or newer"):
        tasks_bundle.python_bundle(version, tmp_path)


def test_libraries_already_fetched_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "lock"
    lock.write_text("x==1 --hash=sha256:0\n")
    calls: list[list[object]] = []

    def install(argv: list[object], **_options: object) -> None:
        calls.append(argv)
        target = Path(str(argv[argv.index("--target") + 1]))
        for name in ("x/__init__.py", "x/tests/t.py", "x/x.pyi", "bin/x", "x-stubs/x.py"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text("")

    monkeypatch.setattr(shell, "run", install)
    first = tasks_bundle.python_bundle("3.13", tmp_path / "state", lock=lock)
    assert tasks_bundle.python_bundle("3.13", tmp_path / "state", lock=lock) == first
    assert len(calls) == 1
    assert "--require-hashes" in calls[0]
    assert calls[0][calls[0].index("--python-version") + 1] == "3.13"
    with tarfile.open(first.path) as tar:
        assert tar.getnames() == ["x/__init__.py"]
    lock.write_text("x==2 --hash=sha256:0\n")
    assert tasks_bundle.python_bundle("3.13", tmp_path / "state", lock=lock).digest != first.digest


def test_links_stay_links(tmp_path: Path) -> None:
    library = tmp_path / "made/lib/libkim-api.so.2.3.0"
    library.parent.mkdir(parents=True)
    library.write_text("a library")
    (library.parent / "libkim-api.so.2").symlink_to(library.name)
    tasks_bundle.pack(tmp_path / "made.tar.gz", tmp_path / "made")
    with tarfile.open(tmp_path / "made.tar.gz") as tar:
        found = {member.name: member.linkname for member in tar}
    assert found == {"lib/libkim-api.so.2": library.name, f"lib/{library.name}": ""}


def test_what_python_compiled_here_goes_on_no_box(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/secure/__pycache__").mkdir(parents=True)
    for name in ("secure", "__pycache__/gateway.cpython-311.pyc"):
        (tmp_path / "usr/lib/secure" / name).touch()
    assert list(onbox.tree("usr/lib/secure", root=tmp_path)) == ["/usr/lib/secure/secure"]
