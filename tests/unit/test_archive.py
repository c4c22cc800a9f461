"""What an archive is, and what is installed from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.machines import archive, bootstrap, shell

LINES = ("deb http://m.test/debian trixie main", "deb http://m.test/security trixie-security main")


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the mirror says of a suite; its lines are this machine's."""
    said = {
        "http://m.test/debian/dists/trixie/InRelease": "Date: Sat, 05 Sep 2026 08:00:00 UTC\n",
        "http://m.test/security/dists/trixie-security/InRelease": (
            "Suite: x\nDate: Sun, 06 Sep 2026 08:00:00 UTC\n"
        ),
    }

    def run(argv: Sequence[str | Path], **_: object) -> None:
        address, file = argv[-2:]
        if str(address) not in said:
            raise shell.CommandError("apt-helper failed", ("apt-helper",), 100)
        Path(file).write_text(said[str(address)])

    monkeypatch.setattr(bootstrap, "sources", lambda _: LINES)
    monkeypatch.setattr(bootstrap, "relaxations", lambda: ())
    monkeypatch.setattr(shell, "run", run)
    return said


def test_an_archive_is_as_old_as_its_newest_index(releases: dict[str, str], tmp_path: Path) -> None:
    first = archive.read("trixie", tmp_path)
    assert first.date == 1788681600  # date --date 'Sun, 06 Sep 2026 08:00:00 UTC' +%s
    assert first == archive.read("trixie", tmp_path)
    releases["http://m.test/debian/dists/trixie/InRelease"] += "SHA256: other\n"
    assert archive.read("trixie", tmp_path).digest != first.digest
    assert not list(tmp_path.iterdir())


def test_a_mirror_that_does_not_answer_is_named(releases: dict[str, str], tmp_path: Path) -> None:
    releases.clear()
    with pytest.raises(BoxError, match="the mirror of trixie does not answer"):
        archive.read("trixie", tmp_path)


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        (
            "I: running\nE: Unable to locate package nosuch\nE: mmdebstrap failed to run\n",
            "Unable to locate package nosuch",
        ),
        ("E: mmdebstrap failed to run: E: no space\n", "mmdebstrap failed"),
    ],
)
def test_what_apt_said_is_the_line(
    stderr: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise shell.CommandError("mmdebstrap failed", ("mmdebstrap",), 1, stderr)

    monkeypatch.setattr(shell, "run", fail)
    tree = bootstrap.Tree("trixie", ("nosuch",), LINES, ())
    with pytest.raises(BoxError, match=line) as caught:
        bootstrap.make_tree(tmp_path / "tree.tar", tree)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_script_in_a_throwaway_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the folder, none of this process's variables, and no tree is left."""
    asked: list[str] = []

    def run(argv: Sequence[str | Path], **_: object) -> None:
        asked.extend(map(str, argv))

    monkeypatch.setattr(shell, "run", run)
    work = tmp_path / "a folder" / "build"
    work.mkdir(parents=True)
    bootstrap.run_in_tree(bootstrap.Tree("trixie", ("g++",), LINES, ()), work, "make\n")
    hooks = [word.partition("=")[2] for word in asked if word.startswith("--customize-hook=")]
    assert hooks[0] == f"copy-in '{work}' /"
    assert "env -i PATH=" in hooks[1]
    assert hooks[2] == f"copy-out /build/out '{work}'"
    assert "--format=null" in asked
    assert [left.name for left in work.parent.iterdir()] == ["build"]
    assert (work / "run").read_text() == "cd /build\nmake\n"
