"""Items that have to be built: for real, by make and by CMake with the KIM API, in bubblewrap."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kimpipeline.errors import ItemError
from kimpipeline.kim import edn
from kimpipeline.kim.items import ItemFolder
from kimpipeline.run.pair import Outcome, run_test
from kimpipeline.run.products import digest, how, lacking, runnable
from kimpipeline.run.sandbox.confined import Sandbox
from kimpipeline.settings import Folders, Limits
from tests.pipeline import world

REACH = Path(__file__).parents[1] / "kim/items"
TEST, MODEL = "Reach_Al__TE_000000000964_000", "Reach_Al__MO_000000000962_000"
MODEL_DRIVER, DRIVER = "Reach__MD_000000000961_000", "Reach__TD_000000000963_000"
LIMITS = Limits(seconds=60, memory=2**31, processes=64, disk=64 * world.MIB)

Run = Callable[..., Outcome]


@pytest.fixture
def folders(place: Path) -> Folders:
    """No Model is installed here."""
    return Folders(
        items=place / "items", work=place / "work", models=(f"{place}/none",), drivers=()
    )


@pytest.fixture
def run(place: Path, sandbox: Sandbox, folders: Folders) -> Run:
    """Runs a pair in a scratch folder of its own."""

    def run(
        items: ItemFolder, test: str = world.TEST, model: str = world.MODEL, limits: Limits = LIMITS
    ) -> Outcome:
        scratch = place / f"scratch-{len([*place.glob('scratch-*')])}"
        scratch.mkdir()
        return run_test(world.pair(items, test, model), scratch, sandbox, limits, folders=folders)

    return run


def with_makefile(place: Path, text: str, runner: str = "") -> ItemFolder:
    """A Test whose Driver has this Makefile; the Test runs what that makes."""
    items = world.repository(place / "items", runner or f'read -r it; "$it" && {world.GOOD}')
    (items.root / world.DRIVER / "runner").unlink()
    (items.root / world.DRIVER / "Makefile").write_text(text)
    return items


MADE = """runner:
	printf '#!/bin/sh\\necho made\\n' >runner && chmod +x runner && ln -s runner ./run
"""


def test_a_driver_a_model_and_its_driver_are_built_and_run(place: Path, run: Run) -> None:
    """By make, and by CMake with Debian's KIM API, which then finds them."""
    items = ItemFolder(Path(shutil.copytree(REACH, place / "items")))
    done = run(items, TEST, MODEL)
    assert done.fault == ""
    assert edn.read(done.folder / "results.edn") == {
        "property-id": "tag:staff@noreply.openkim.org,2026-12-01:property/influence-distance",
        "instance-id": 1,
        "reach": {
            "source-value": 4.5,
            "source-unit": "angstrom",
            "si-unit": "m",
            "si-value": 4.5e-10,
        },
    }
    spec = edn.read(done.folder / "pipelinespec.edn")
    names = {MODEL_DRIVER, MODEL, DRIVER}
    assert spec["provenance"]["built"] == {each: digest(items.get(each)) for each in names}
    said = (done.folder / "pipeline.stdout").read_text()
    assert f"/{DRIVER}/local-props/**" in said


def test_what_was_built_is_kept_by_its_content(place: Path, run: Run, folders: Folders) -> None:
    """The second run builds nothing; another content is built anew, and takes the place."""
    if os.geteuid() != 0:
        pytest.skip("without root nothing is kept")
    items = with_makefile(place, MADE)
    assert run(items).fault == ""
    (first,) = (folders.work / "built" / world.DRIVER).iterdir()
    program = first / world.DRIVER / "runner"
    before = program.stat()
    assert (before.st_uid, before.st_mode & 0o777) == (0, 0o755)
    assert (first / world.DRIVER / "run").readlink() == Path("runner")
    assert run(items).fault == ""
    assert program.stat().st_mtime_ns == before.st_mtime_ns
    with (items.root / world.DRIVER / "Makefile").open("a") as makefile:
        makefile.write("# another one\n")
    assert run(items).fault == ""
    (second,) = (folders.work / "built" / world.DRIVER).iterdir()
    assert second.name == digest(items.get(world.DRIVER)) != first.name


def test_a_product_is_read_only_for_the_job(place: Path, run: Run) -> None:
    items = with_makefile(place, MADE, 'read -r it; echo x >>"$it" || exit 7')
    done = run(items)
    assert done.fault == "failed with exit code 7"
    said = (done.folder / "pipeline.stderr").read_text()
    assert "Permission denied" in said or "Read-only file system" in said


HOSTILE = {
    "never ends": ("all:\n\tsleep 98763\n", "not done after 2 s"),
    "fills the disk": ("all:\n\thead -c 1G /dev/zero >big\n", "failed with exit code 2"),
    "many files": ("all:\n\tseq 20000 | xargs touch\n", "more than 10000 files|wrote more than"),
    "prints without end": ("all:\n\tyes >&2\n", "exit code|wrote more than"),
    "forks": ("all:\n\tf() { f | f & }; f; sleep 9\n", "exit code|not done after"),
    "takes its folder away": ("all:\n\trm -rf ../../output\n", "its own folder is gone"),
    "is no Makefile": ("all\n\tnothing\n", "missing separator"),
    "a compiler's error": (
        "all:\n\techo 'int x = y;' >a.c && gcc -c a.c\n",
        r"failed with exit code 2: a\.c:1:9: error: ",
    ),
    "odd words": ("all:\n\t@printf 'error \\033[2J \\377'; false\n", r"error \\x1b"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_build_is_a_fault_of_its_pair(name: str, place: Path, run: Run) -> None:
    """Bounded in time and size as a job is, and gone with all its processes."""
    text, reason = HOSTILE[name]
    seconds = 2.0 if "not done" in reason else 60.0  # on a busy machine all else takes its time
    limits = LIMITS.model_copy(update={"seconds": seconds, "disk": 8 * world.MIB, "processes": 32})
    done = run(with_makefile(place, text), limits=limits)
    assert done.fault.startswith(f"{world.DRIVER} cannot be built: ")
    assert done.fault.isprintable()
    assert re.search(reason, done.fault)
    assert edn.read(done.folder / "kimspec.edn")["error"] == done.fault
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True
    )
    assert "sleep 98763" not in listed.stdout
    assert not [*place.rglob("build")]


def test_a_build_writes_nowhere_else_and_has_no_network(
    place: Path, run: Run, sandbox: Sandbox
) -> None:
    """Its words are those of the pair's error."""
    outside = [
        place / "x",
        place / "items/x",
        Path("/etc/kimpipeline-x"),
        Path("/var/kimpipeline-x"),
    ]
    tries = "".join(f"\t-echo x >{path}\n" for path in outside)
    network = "\t-@cat /proc/net/dev | grep -c :\n"
    done = run(with_makefile(place, f"all:\n{tries}{network}\tid -u; false\n"))
    assert not [path for path in outside if path.exists()]
    said = (done.folder / "pipeline.stderr").read_text()
    assert said.splitlines()[-4:-1] == ["1", "id -u; false", str(sandbox.user or os.getuid())]


def test_a_link_out_of_a_product_is_left_out(place: Path, run: Run) -> None:
    """And the pair's own files are not those of the box: a link to a secret leads nowhere."""
    links = "ln -s /etc/shadow a; ln -s ../.. b; mkfifo c"
    items = with_makefile(place, f"{MADE}\t{links}\n", 'read -r it; ls "${it%/*}"; false')
    done = run(items)
    made = (done.folder / "pipeline.stdout").read_text().split()
    assert made == ["Makefile", "kimspec.edn", "run", "runner"]


@pytest.mark.parametrize(
    ("makefile", "built"),
    [
        ("all:\n\t@printf 'Nothing to make.\\n'\n\nclean:\n\trm -f *.pyc\n", False),
        ("all:\n\t@echo none \\\n\t\n", False),
        ("all:\n\techo x >file\n", True),
        ("all:\n\techo x \\\n; touch x\n", True),
        ("all: ; touch x\n", True),
        ("all:\n\techo $(shell touch x)\n", True),
        ("include more.mk\nall:\n\techo none\n", True),
        ("all:\n\ttrue; touch x\n", True),
        ("X != touch x\nall:\n\ttrue\n", True),
    ],
)
def test_a_makefile_that_makes_nothing_asks_for_no_compiler(
    makefile: str, built: bool, place: Path, folders: Folders
) -> None:
    items = world.repository(place / "items")
    (items.root / world.DRIVER / "Makefile").write_text(makefile)
    assert bool(how(items.get(world.DRIVER), folders)) is built


def test_where_there_are_no_compilers_one_line_says_so(
    place: Path, run: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Model that is installed needs none; one that could be built elsewhere is no pair here."""
    items = with_makefile(place, MADE)
    shutil.copytree(REACH / MODEL, items.root / MODEL)
    shutil.copytree(REACH / MODEL_DRIVER, items.root / MODEL_DRIVER)
    assert MODEL in runnable(items, folders)
    which = shutil.which
    monkeypatch.setattr(
        shutil,
        "which",
        lambda name, **more: None if name in ("make", "cmake") else which(name, **more),
    )
    assert run(items).fault == (
        f"{world.DRIVER} has to be built, and there is no make here: see stack.packages"
    )
    assert MODEL not in runnable(items, folders)
    (place / "installed" / MODEL).mkdir(parents=True)
    has = folders.model_copy(update={"models": (f"{place}/installed",)})
    assert MODEL in runnable(items, has)
    assert not lacking(items.get(MODEL), has)


def test_a_models_driver_that_is_nowhere_is_named(place: Path, run: Run) -> None:
    items = world.repository(place / "items")
    shutil.copytree(REACH / MODEL, items.root / MODEL)
    done = run(items, model=MODEL)
    assert done.fault.startswith(f"'{MODEL_DRIVER}': there is no such item in ")


def test_the_digest_is_of_all_that_counts(place: Path) -> None:
    item = world.repository(place / "items").get(world.TEST)
    seen = {digest(item)}
    for change in (
        lambda: (item.path / "more").write_text("x"),
        lambda: (item.path / "more").rename(item.path / "other"),
        lambda: (item.path / "other").chmod(0o755),
        lambda: (item.path / "link").symlink_to("other"),
    ):
        change()
        assert digest(item) not in seen
        seen.add(digest(item))
    os.mkfifo(item.path / "pipe")
    with pytest.raises(ItemError, match="cannot be read: OSError"):
        digest(item)
