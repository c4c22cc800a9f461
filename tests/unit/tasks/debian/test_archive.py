"""What an archive is, and what is installed from it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.debian import archive, bootstrap
from tasks.desk import shell
from tests.storage.faults import program

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


CHROOT = """\
#!/bin/sh
echo "$@" >>{log}
case $2 in
dpkg-divert) [ "$6" != --remove ] || mv "$1$7.real" "$1$7" ;;
*) [ "$4" != broken ] ;;
esac
"""


@pytest.mark.commands
@pytest.mark.parametrize(("package", "code"), [("python3-ase", 0), ("broken", 123)])
def test_python_is_compiled_at_the_end(
    package: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What packages ask for is noted; then the real one does it, and is the only one again."""
    root, log = tmp_path / "root", tmp_path / "log"
    for folder in ("usr/bin", "var/lib/dpkg", "run"):
        (root / folder).mkdir(parents=True)
    program(tmp_path, "chroot", CHROOT.format(log=log), monkeypatch)
    asked: list[str] = []
    monkeypatch.setattr(shell, "run", lambda argv, **_: asked.extend(map(str, argv)))
    with contextlib.suppress(FileNotFoundError):  # nothing was made
        bootstrap.make_tree(tmp_path / "tree.tar", bootstrap.Tree("trixie", (), LINES, ()))
    hooks = dict(word.split("=", 1) for word in asked if "-hook=" in word)

    def hooked(name: str) -> int:
        script = hooks[f"--{name}-hook"]
        return subprocess.run(["sh", "-c", script, "sh", root], check=False).returncode

    assert hooked("essential") == 0
    real = root / "usr/bin/py3compile.real"
    real.write_text("the package's")
    noting = (root / "usr/bin/py3compile").read_text()
    script = noting.replace("/var/lib", f"{root}/var/lib")
    for words in (("-p", package), ("-p", "python3-numpy", "-V", "3.13")):
        subprocess.run(["sh", "-c", script, "py3compile", *words], check=True)
    assert not any("numpy" in line for line in log.read_text().splitlines())
    assert hooked("customize") == code
    assert sorted(log.read_text().splitlines()[2:]) == [
        f"{root} /usr/bin/py3compile -p {package}",
        f"{root} /usr/bin/py3compile -p python3-numpy -V 3.13",
    ]
    left = {file.relative_to(root) for file in root.rglob("*") if file.is_file()}
    assert left - {Path("run/py3compile")} == {Path("usr/bin/py3compile")}
    assert (root / "usr/bin/py3compile").read_text() == "the package's"
