"""The commands as they are typed: what they print, where, their exit codes, and completion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kimpipeline import commands
from kimpipeline.settings import load
from tests.pipeline import world

Run = Callable[..., tuple[int, str, str]]
REACH = Path(__file__).parent / "kim/items"
COMPLETION = Path(__file__).parents[2] / "static/pipeline/completions/pipeline"


@pytest.fixture
def settings(place: Path) -> Path:
    """The items of world.repository, and its Model installed."""
    world.repository(place / "items")
    (place / "models" / world.MODEL).mkdir(parents=True)
    file = place / "pipeline.toml"
    file.write_text(
        f'sandbox = "bubblewrap"\n[folders]\nitems = "{place}/items"\nmodels = ["{place}/models"]\n'
        f'work = "{place}/work"\n'
    )
    return file


@pytest.fixture
def run(settings: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: its exit code, its stdout and its stderr."""

    def run(name: str, *argv: str) -> tuple[int, str, str]:
        command: Callable[[list[str]], int] = getattr(commands, name)
        code = command([*argv, "--settings", str(settings)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_pair_runs_and_its_results_stay(run: Run, place: Path) -> None:
    out = place / "out"
    code, said, _ = run("run_pair", world.TEST, world.MODEL, "--out", str(out))
    (folder,) = out.iterdir()
    assert code == 0
    assert said.startswith(f"{world.TEST} {world.MODEL}: good (")
    assert said.rstrip().endswith(str(folder))
    assert (folder / "results.edn").exists()
    code, said, error = run("run_pair", world.TEST, world.MODEL, "--out", str(out))
    assert (code, said) == (1, "")
    assert f"{folder} exists" in error


def test_a_test_that_fails_has_an_exit_code_of_its_own(run: Run, place: Path) -> None:
    world.program(place / "items" / world.TEST / "runner", "exit 5")
    code, said, _ = run("run_pair", world.TEST, world.MODEL, "--out", str(place / "out"))
    assert code == 2
    assert ": failed with exit code 5 (" in said


def test_all_matches_run(run: Run, place: Path) -> None:
    code, said, _ = run("run_matches", world.DRIVER, "--list")
    assert (code, said) == (0, f"{world.TEST} {world.MODEL}\n")
    code, said, error = run("run_matches", world.MODEL, "--out", str(place / "out"))
    assert (code, len(said.splitlines())) == (0, 1)
    assert error.startswith("1 to run in bubblewrap")
    (place / "models" / world.MODEL).rmdir()
    code, _, error = run("run_matches", world.TEST)
    assert code == 1
    assert error == (
        f"pipeline-run-matches: {world.TEST}: it takes part in no pair with an installed Model; "
        f"the KIM API here lacks {world.MODEL}\n"
    )


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("run_pair", ("../../etc", world.MODEL)),
        ("run_pair", (world.TEST, "$(id)\n")),
        ("run_pair", (world.TEST, world.DRIVER)),
        ("run_matches", ("nothing",)),
        ("verify", ("Other__TE_000000000999_000",)),
        ("worker", ("--slot", "../x")),
    ],
)
def test_a_fault_is_one_line(name: str, argv: tuple[str, ...], run: Run) -> None:
    code, said, error = run(name, *argv)
    assert (code, said) == (1, "")
    assert len(error.splitlines()) == 1
    assert error.startswith("pipeline-")


def test_a_good_item_is_good(run: Run) -> None:
    for kimid in (world.TEST, world.DRIVER, world.MODEL):
        assert run("verify", kimid) == (0, f"{kimid}: good\n", "")


def test_all_that_is_wrong_with_an_item_is_said(run: Run, place: Path) -> None:
    folder = place / "items" / world.TEST
    (folder / "runner").chmod(0o644)
    (folder / "pipeline.stdin.tpl").write_text("@< query(1) >@")
    spec = (folder / "kimspec.edn").read_text().replace(world.PROPERTY, "tag:none")
    (folder / "kimspec.edn").write_text(spec)
    code, said, _ = run("verify", world.TEST)
    assert code == 2
    assert [line.partition(": ")[2] for line in said.splitlines()] == [
        "pipeline.stdin.tpl: query looks in results that are given to the job: name their Test in "
        "dependencies.edn",
        "runner is not executable",
        "tag:none is not a KIM property",
    ]
    (folder / "kimspec.edn").write_text("{")
    code, said, _ = run("verify", world.TEST)
    assert code == 2
    assert "kimspec.edn is not EDN" in said


def test_what_would_not_run_is_said_beforehand(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an item and of what it needs; what can be built is built."""

    def lines(kimid: str) -> list[str]:
        return [line.removeprefix(f"{kimid}: ") for line in run("verify", kimid)[1].splitlines()]

    items = place / "items"
    for each in (REACH / "Reach_Al__MO_000000000962_000", REACH / "Reach__MD_000000000961_000"):
        shutil.copytree(each, items / each.name)
    assert lines("Reach_Al__MO_000000000962_000") == ["good"]
    makefile = items / world.DRIVER / "Makefile"
    makefile.write_text("all:\n\techo 'int x = y;' >a.c && cc -c a.c\n")
    failed = "cannot be built: failed with exit code 2: a.c:1:9: error: 'y' undeclared here"
    (line,) = lines(world.DRIVER)
    assert line.replace("\\u2018", "'").replace("\\u2019", "'").startswith(failed)
    (line,) = lines(world.TEST)
    assert line.startswith(f"{world.DRIVER} cannot be built: failed with exit code 2: a.c:1:9: ")
    makefile.write_text("all:\n\trm runner && touch x\n")
    assert lines(world.DRIVER) == ["there is no program named runner"]
    shutil.rmtree(items / "Reach__MD_000000000961_000")
    (line,) = lines("Reach_Al__MO_000000000962_000")
    assert "its driver is not installed: 'Reach__MD_000000000961_000': there is no such" in line
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name == "make" else which(name))
    assert lines(world.TEST) == [
        f"{world.DRIVER} has to be built, and there is no make here: see stack.packages"
    ]
    (place / "models" / world.MODEL).rmdir()
    world.item(items, "Old_Al__MO_000000000970_000", species="Al", kim_api_version="1.6")
    lacks = "the KIM API here lacks it, and there is no CMakeLists.txt to build it by"
    assert lines(world.MODEL) == [lacks]
    assert lines("Old_Al__MO_000000000970_000") == ["is for KIM API 1.6, here is 2", lacks]
    (items / world.DRIVER / "local-props").mkdir()
    (items / world.DRIVER / "local-props/own.edn").write_text("{")
    makefile.unlink()
    assert [line.partition(": ")[0] for line in lines(world.TEST)] == ["own.edn is not EDN"]


def test_items_are_listed_by_kind(run: Run) -> None:
    assert run("items", "list", "TE", "TD") == (0, f"{world.DRIVER}\n{world.TEST}\n", "")
    assert len(run("items", "list")[1].splitlines()) == 3


def test_items_are_added_from_folders_and_archives(run: Run, place: Path, tmp_path: Path) -> None:
    """As KIM's website ships them, whoever owned the files; a second time it is refused."""
    first, second = "Other_Al__TE_000000000940_000", "Third_Al__TE_000000000941_000"
    world.make_test(tmp_path, kimid=first).chmod(0o700)
    world.make_test(tmp_path, kimid=second)
    archive = tmp_path / f"{second}.txz"
    subprocess.run(["tar", "-C", tmp_path, "-cJf", archive, second], check=True)
    code, said, _ = run("items", "add", str(tmp_path / first), str(archive))
    assert (code, said) == (0, f"{first}: added\n{second}: added\n")
    assert run("verify", "TE_000000000940")[:2] == (0, f"{first}: good\n")
    assert (place / "items" / first).stat().st_mode & 0o777 == 0o755
    code, said, error = run("items", "add", str(archive))
    assert (code, said) == (1, "")
    assert (
        error == f"pipeline-items: {second} is here already: a version of an item never changes\n"
    )


def test_what_is_no_item_is_not_added(run: Run, place: Path, tmp_path: Path) -> None:
    before = sorted((place / "items").iterdir())
    (tmp_path / "none").mkdir()
    bad = world.item(tmp_path / "bad", world.TEST)
    (bad / "kimspec.edn").write_text("{")
    (tmp_path / "empty.txz").write_bytes(b"")
    (tmp_path / "text.md").write_bytes(b"")
    (tmp_path / "Linked__TE_000000000942_000").symlink_to(world.item(tmp_path / "x", world.MODEL))
    subprocess.run(
        ["tar", "-C", tmp_path, "-cf", "link.tar", "Linked__TE_000000000942_000"],
        check=True,
        cwd=tmp_path,
    )
    for name in (
        "none",
        f"bad/{world.TEST}",
        "empty.txz",
        "text.md",
        "link.tar",
        "gone",
        "gone.txz",
    ):
        code, said, error = run("items", "add", str(tmp_path / name))
        assert (code, said) == (1, "")
        assert error.startswith("pipeline-items: ")
        assert len(error.splitlines()) == 1
    assert sorted((place / "items").iterdir()) == before


def test_items_are_removed_when_that_was_said_twice(run: Run, place: Path) -> None:
    def remove(*words: str) -> tuple[int, str, str]:
        return run("items", "remove", *words)

    before = run("items", "list")[1]
    assert remove(world.TEST)[2] == "pipeline-items: nothing was removed: say y, or --force\n"
    assert "is needed by" in remove(world.DRIVER, "--force")[2]
    assert "there is no such item" in remove(world.TEST, "Other__TE_000000000999_000", "--force")[2]
    assert "is no KIM id" in remove(world.TEST, "../items", "--force")[2]
    assert run("items", "list")[1] == before
    assert remove(world.TEST, world.DRIVER, "--force") == (0, "", "")
    assert [each.name for each in (place / "items").iterdir()] == [world.MODEL]


def with_template(items: Path, *lines: str) -> None:
    """Give the Driver a template of Tests that its runner could run."""
    folder = items / world.DRIVER
    template = folder / "test_template"
    template.mkdir()
    (folder / "test_generator.json").write_text("\n".join(lines))
    (template / "kimspec.edn.genie").write_text(
        '{"extended-id" "Energy_{{ species }}__TE_{{ number }}_{{ version }}" '
        '"species" "{{ species }}" "test-driver" "{{ TEST_DRIVER_NAME }}"}\n'
    )
    (template / "runner.genie").write_text("#!/bin/sh\n# of {{ kimspec['extended-id'] }}\n")
    (template / "pipeline.stdin.tpl.genie").write_text("@< MODELNAME >@\n")
    (template / "a").write_text("{# FILENAME = {{species}}.txt #}{{ [1, 2]|length }}")


def test_a_drivers_tests_are_made_from_its_template(run: Run, place: Path) -> None:
    lines = (
        f'{{"species": "{each}", "number": "00000000095{each == "Ni":d}"}}' for each in ("Al", "Ni")
    )
    with_template(place / "items", *lines)
    names = ["Energy_Al__TE_000000000950_002", "Energy_Ni__TE_000000000951_002"]
    code, said, error = run("generate", "TD_000000000902", "--version", "2")
    assert (code, error) == (0, "")
    assert said == "".join(f"{name}: added\n" for name in names)
    for name in names:
        assert run("verify", name)[:2] == (0, f"{name}: good\n")
    folder = place / "items" / names[0]
    assert sorted(path.name for path in folder.iterdir()) == [
        "Al.txt",
        "kimspec.edn",
        "pipeline.stdin.tpl",
        "runner",
    ]
    assert (folder / "runner").read_text() == f"#!/bin/sh\n# of {names[0]}\n"
    assert (folder / "Al.txt").read_text() == "2"
    again = run("generate", "TD_000000000902", "--version", "2")
    assert "is here already" in again[2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "it makes no Tests"),
        ("[", "JSONDecodeError"),
        ('{"species": "Al"}', "'number' is undefined"),
        ('{"species": "/../../x", "number": "1"}', ""),
        ('{"species": "Al", "number": "1"}', "is no KIM id"),
        (
            '{"species": "Al", "number": "000000000950", "FILES_TO_COPY": ["/etc/shadow"]}',
            "FILES_TO",
        ),
    ],
)
def test_a_template_that_makes_no_tests_changes_nothing(
    line: str, reason: str, run: Run, place: Path
) -> None:
    with_template(place / "items", line)
    before = run("items", "list")[1]
    code, said, error = run("generate", world.DRIVER)
    assert (code, said) == (1, "")
    assert reason in error
    assert len(error.splitlines()) == 1
    assert run("items", "list")[1] == before


def test_help_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        commands.generate,
        commands.items,
        commands.run_matches,
        commands.run_pair,
        commands.verify,
    ):
        with pytest.raises(SystemExit) as ended:
            command(["--help"])
        assert ended.value.code == 0
        assert "usage: pipeline-" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("queue = 3", "queue: "),
        ("[queue]\nport = 99999", "queue.port: "),
        ("[remote]\nitems = '-e sh'", "remote.items: "),
        ("[remote]\nitems = 'host:$(id)/'", "remote.items: "),
        ("[remote]\nresults = 'folder'", "remote.results: "),
        ("unknown = 1", "unknown: "),
        ("[", "Invalid"),
    ],
)
def test_settings_that_are_wrong_are_one_line(
    text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_text(text)
    assert commands.items(["list", "--settings", str(file)]) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("place", ["pipeline@gateway:", "gateway:", "gw:items/", "/srv/items/"])
def test_where_items_may_come_from(place: str, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_text(f"[remote]\nitems = '{place}'")
    assert load(file).remote.items == place


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pipeline-run-pair", ""], [world.TEST]),
        (["pipeline-run-pair", "Energy_f"], [world.TEST]),
        (["pipeline-run-pair", "Pair"], []),
        (["pipeline-run-pair", world.TEST, ""], [world.MODEL]),
        (["pipeline-run-pair", "--out", "/", world.TEST, "P"], [world.MODEL]),
        (["pipeline-run-pair", world.TEST, world.MODEL, ""], []),
        (["pipeline-verify", "Energy__"], [world.DRIVER]),
        (["pipeline-run-matches", "--list", "P"], [world.MODEL]),
        (["pipeline-items", "re"], ["remove"]),
        (["pipeline-items", "remove", "P"], [world.MODEL]),
        (["pipeline-items", "list", "T"], ["TE", "TD"]),
    ],
)
def test_bash_completes_item_names(
    words: list[str], expected: list[str], settings: Path, tmp_path: Path
) -> None:
    code = "import sys; from kimpipeline.commands import items; sys.exit(items())"
    world.program(tmp_path / "pipeline-items", f"exec '{sys.executable}' -c '{code}' \"$@\"")
    script = '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pipeline "$1"\n'
    script += 'printf "%s\\n" "${COMPREPLY[@]}"'
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(COMPLETION.parents[1]),
        "KIMPIPELINE_SETTINGS": str(settings),
    }
    done = subprocess.run(
        ["bash", "-c", script, "bash", COMPLETION, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == (expected, "")
