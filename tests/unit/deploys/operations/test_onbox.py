"""Files and archives put on a box: run for real on this machine, twice."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import OperationValueError

from deploys.errors import DeployError
from deploys.operations import onbox
from deploys.operations.onbox import OnboxFile
from deploys.session import Session, Target
from deploys.settings import paths

real = pytest.mark.commands


@pytest.fixture
def apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], bool]:
    """Applies one operation to this machine; whether it changed it."""
    monkeypatch.setattr(paths, "UPLOADS", f"{tmp_path}/upload.")
    monkeypatch.setattr(onbox, "OWNER", f"{tmp_path.owner()}:{tmp_path.group()}")

    def apply(operation: Callable[[], Any]) -> bool:
        with Session(Target("here")) as session:
            session.prepare([operation])
            return bool(session.run())

    return apply


@real
def test_files_of_any_name_are_written_once(apply: Any, tmp_path: Path) -> None:
    names = ("a b/$(touch pwned)'q\"", "-leading", "*", "plain")
    sources = {f"{tmp_path}/box/{name}": OnboxFile(name.encode(), 0o755) for name in names}
    assert apply(lambda: onbox.files(name="f", sources=sources))
    for path, source in sources.items():
        assert Path(path).read_bytes() == source.content
        assert Path(path).stat().st_mode & 0o7777 == 0o755
    assert not apply(lambda: onbox.files(name="f", sources=sources))
    found = {str(path) for path in (tmp_path / "box").rglob("*") if path.is_file()}
    assert found == set(sources)


@real
def test_only_what_differs_is_replaced(apply: Any, tmp_path: Path) -> None:
    same, other, link = (tmp_path / name for name in ("same", "other", "link"))
    sources = {str(path): OnboxFile(b"new\n") for path in (same, other, link)}
    apply(lambda: onbox.files(name="f", sources=sources))
    inode = same.stat().st_ino
    other.write_text("changed")
    target = tmp_path / "target"
    target.write_text("new\n")
    link.unlink()
    link.symlink_to(target)
    same.chmod(0o600)
    assert apply(lambda: onbox.files(name="f", sources=sources))
    assert same.stat().st_ino == inode
    assert same.stat().st_mode & 0o777 == 0o644
    assert other.read_text() == "new\n"
    assert not link.is_symlink()


@pytest.mark.parametrize("path", ["relative", "/a\nb", "/a\\b"])
def test_paths_that_cannot_be_read_back_are_refused(path: str) -> None:
    with pytest.raises(OperationValueError):
        list(onbox.files._inner(sources={path: OnboxFile(b"")}))


@pytest.mark.parametrize("digest", ["", "short", "../" + "a" * 64, "A" * 64])
def test_odd_digests_are_refused(digest: str) -> None:
    with pytest.raises(OperationValueError):
        list(onbox.unpacked._inner(archive=Path("x"), digest=digest, path="/opt/x"))


@real
def test_archives_are_switched_whole(apply: Any, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("module.py")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"x=1\n"))
    path = tmp_path / "a box/python"
    path.mkdir(parents=True)  # what an older way of provisioning may have left
    (path / "old.py").write_text("")

    def unpack(digest: str) -> bool:
        changed: bool = apply(
            lambda: onbox.unpacked(
                name="u", archive=archive, digest=digest * 64, path=str(path), compiled=True
            )
        )
        return changed

    assert unpack("a")
    assert not unpack("a")
    (path.parent / f"python-{'b' * 16}.part").mkdir()  # a power cut in the midst of it
    assert unpack("b")
    assert path.readlink() == Path(f"python-{'b' * 16}")
    assert (path / "module.py").read_text() == "x=1\n"
    assert (path / "__pycache__").is_dir()
    assert sorted(found.name for found in path.parent.iterdir()) == ["python", f"python-{'b' * 16}"]


@real
def test_what_was_compiled_is_not_taken_for_a_file_that_came_later(
    apply: Any, tmp_path: Path
) -> None:
    """Of the same size and time, as when the power goes before it is compiled anew."""
    folder = tmp_path / "a box"

    def said(word: str) -> str:
        source = OnboxFile(f"print('{word}')\n".encode())
        apply(lambda: onbox.files(name="f", sources={f"{folder}/module.py": source}))
        argv = ["python3", "-c", "import module"]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert said("one") == "one"
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    assert apply(lambda: onbox.byte_compiled(name="c", path=str(folder)))
    (made,) = (folder / "__pycache__").iterdir()
    before = made.read_bytes()
    assert said("one") == "one"
    assert made.read_bytes() == before
    assert said("two") == "two"


def test_tree_takes_modes_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/run").write_text("x")
    (tmp_path / "usr/sbin/run").chmod(0o700)
    (tmp_path / "usr/data").write_text("y")
    assert onbox.tree("usr", root=tmp_path) == {
        "/usr/data": OnboxFile(b"y", 0o644),
        "/usr/sbin/run": OnboxFile(b"x", 0o755),
    }
    with pytest.raises(DeployError, match="no such file"):
        onbox.tree("etc/nothing", root=tmp_path)


def test_provisiond_is_in_the_tree() -> None:
    files = onbox.tree("usr/sbin/provisiond", "usr/lib/provisiond/runsetup")
    assert {file.mode for file in files.values()} == {0o755}
