"""Running a pair for real, in bubblewrap: its results directory, and what a Test may not do."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kimpipeline.errors import QueueError, SandboxError
from kimpipeline.files import remove
from kimpipeline.kim import edn
from kimpipeline.run.pair import Outcome, run_test
from kimpipeline.run.provenance import provenance
from kimpipeline.run.sandbox import calls
from kimpipeline.run.sandbox.bubblewrap import Bubblewrap
from kimpipeline.run.sandbox.confined import Sandbox
from kimpipeline.run.supervise import disk_usage
from kimpipeline.settings import Limits
from tests.pipeline import world

Run = Callable[..., Outcome]
# A word of a Test's own that no file and no terminal takes.
ODD = r'[{"property-id" "\ud800\u001b[2J" "instance-id" 1}]'


@pytest.fixture
def run(place: Path, sandbox: Sandbox) -> Run:
    """Runs a Test whose runner is the given lines of shell."""

    def run(
        lines: str, limits: Limits = world.LIMITS, beat: Callable[[], None] = lambda: None
    ) -> Outcome:
        items = world.repository(place / "items", lines)
        (place / "scratch").mkdir()
        return run_test(world.pair(items), place / "scratch", sandbox, limits, beat)

    return run


def test_a_results_directory_has_kims_shape(run: Run) -> None:
    done = run(f"{world.GOOD}; cat; echo words >&2; echo log >kim.log; echo 1 >output/more.txt")
    assert done.fault == ""
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "kim.log",
        "kimspec.edn",
        "more.txt",
        "pipeline.stderr",
        "pipeline.stdin",
        "pipeline.stdout",
        "pipelinespec.edn",
        "results.edn",
    ]
    text = {path.name: path.read_text() for path in done.folder.iterdir()}
    assert text["pipeline.stdin"].splitlines()[1] == world.MODEL
    assert text["pipeline.stdin"].splitlines()[0].endswith(f"/{world.DRIVER}/runner")
    assert text["pipeline.stdout"] == text["pipeline.stdin"]
    assert (text["pipeline.stderr"], text["kim.log"]) == ("words\n", "log\n")
    about = edn.read(done.folder / "kimspec.edn")
    assert about["UUID"] == done.folder.name
    assert (about["item-type"], about["test"], about["model"]) == ("tr", world.TEST, world.MODEL)
    spec = edn.read(done.folder / "pipelinespec.edn")
    assert spec["provenance"]["items"] == [world.DRIVER, world.TEST, world.MODEL]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert spec["provenance"]["boot-id"] == boot
    assert spec["profiling"]["time"] == pytest.approx(done.seconds, abs=0.001)


def test_the_result_of_a_verification_check_is_one(place: Path, sandbox: Sandbox) -> None:
    items = world.repository(place / "items")
    check = "Forces_Al__VC_000000000907_000"
    world.make_test(items.root, kimid=check)
    (place / "scratch").mkdir()
    pair = world.pair(items, check)
    done = run_test(pair, place / "scratch", sandbox, world.LIMITS)
    assert (done.fault, edn.read(done.folder / "kimspec.edn")["item-type"]) == ("", "vr")


TEMPLATE = f"""@# of the platform's own language #@
@[ for number in range(3) ]@@< number >@ @[ endfor ]@
@[ if "Al" in MODELNAME ]@aluminium@[ else ]@nothing@[ endif ]@
@< path("{world.DRIVER}") >@
@< MODELNAME|stripversion >@ @< parse_kim_code(MODELNAME)[3] >@ @< ["a"]|edn >@ @< SUBJECTNAME >@
"""


@pytest.fixture
def filled(place: Path, sandbox: Sandbox) -> Callable[[str], Outcome]:
    """Runs a Test with this template, whose runner prints what it is given."""

    def run(template: str) -> Outcome:
        items = world.repository(place / "items", f"cat; {world.GOOD}")
        (place / "items" / world.TEST / "pipeline.stdin.tpl").write_text(template)
        (place / "scratch").mkdir()
        return run_test(world.pair(items), place / "scratch", sandbox, world.LIMITS)

    return run


def test_a_template_is_filled_in_as_the_platform_does(filled: Callable[[str], Outcome]) -> None:
    done = filled(TEMPLATE)
    assert done.fault == ""
    text = (done.folder / "pipeline.stdin").read_text()
    assert text == (done.folder / "pipeline.stdout").read_text()
    _, numbers, which, path, last = text.splitlines()
    assert (numbers.split(), which) == (["0", "1", "2"], "aluminium")
    assert path.endswith(f"/{world.DRIVER}/runner")
    assert last.split() == [world.MODEL[:-4], "000", '["a"]', world.MODEL]


TWICE = "@[ for i in range(99999) ]@@[ for j in range(99999) ]@"
HOSTILE = {
    "@< MODELNAME.__class__.__mro__ >@": "unsafe",
    "@[ for i in range(10 ** 9) ]@x@[ endfor ]@": "Range too big",
    f"{TWICE}@< 'x' * 999 >@@[ endfor ]@@[ endfor ]@": "",
    "@< 'a' * 10 ** 11 >@": "",
    f"{TWICE}@[ endfor ]@@[ endfor ]@": "not done after",
    "@< path('/etc/passwd') >@@# #@": "is not in kimspec.edn's needs",
    "@[ include '/etc/passwd' ]@": "no loader",
    "@< query({}) >@": "query: no result that was given to this job is one",
    "@< nothing >@@# #@": "is undefined",
    "@[": "",
}


@pytest.mark.parametrize("template", HOSTILE)
def test_a_hostile_template_is_a_fault_of_its_test(
    template: str, filled: Callable[[str], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded in time, memory and size, and in the sandbox in any case."""
    monkeypatch.setattr("kimpipeline.run.pair._FILL_SECONDS", 3)
    done = filled(template)
    assert done.fault.startswith("pipeline.stdin.tpl: ")
    assert HOSTILE[template] in done.fault
    assert done.fault.isprintable()
    assert (done.folder / "pipeline.stdin").read_text() == ""
    assert edn.read(done.folder / "kimspec.edn")["item-type"] == "er"


def test_the_processors_time_is_counted(run: Run) -> None:
    """That of the runner's children too; what it writes in the file's place counts for nothing."""
    burn = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done"
    done = run(f"sh -c '{burn}'; echo nonsense >pipeline.times; {world.GOOD}")
    profiling = edn.read(done.folder / "pipelinespec.edn")["profiling"]
    assert 0.05 < profiling["cputime"] <= profiling["time"]


def test_provenance_is_of_the_box(tmp_path: Path) -> None:
    assert "manifest" not in provenance(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/pipeline-release").write_text(f"NAME=x\nMANIFEST={'ab' * 32}\nCOMMIT=c\n")
    (tmp_path / "run/resnap").mkdir(parents=True)
    (tmp_path / "run/resnap/in-snapshot").write_text("fresh\n")
    found = provenance(tmp_path)
    assert (found["manifest"], found["reset"]) == ("ab" * 32, "fresh")


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("exit 3", "failed with exit code 3"),
        ("kill -SEGV $$", "ended by signal 11"),
        ("true", "results.edn: No such file"),
        ("echo '[' >output/results.edn", "results.edn is not EDN"),
        ("echo '[{}]' >output/results.edn", "property-id"),
        ("ln -s /etc/passwd output/results.edn", "results.edn: No such file"),
        ("ln -s ../results.edn output/results.edn", "results.edn: No such file"),
        ("mkfifo output/results.edn", "results.edn: No such file"),
        ("rmdir output; ln -s . output", "results.edn: No such file"),
        (f"{world.GOOD}; echo forged >output/pipelinespec.edn", "that name is the pipeline's own"),
        ("mkdir output/results.edn.invalid; echo '[' >output/results.edn", "the pipeline's own"),
        ("mkdir output/results.edn", "results.edn: Is a directory"),
        (f"{world.GOOD}; chmod 0 output/results.edn", "its own user cannot read all of it"),
        (f"echo '{ODD}' >output/results.edn", "results.edn: "),
        ("exit 200", "failed with exit code 200"),
    ],
)
def test_a_failure_is_an_outcome_with_one_line(lines: str, fault: str, run: Run) -> None:
    done = run(lines)
    assert fault in done.fault
    assert done.fault.isprintable()
    assert not (done.folder / "results.edn").exists()
    about = edn.read(done.folder / "kimspec.edn")
    assert (about["item-type"], about["error"]) == ("er", done.fault)
    assert (done.folder / "pipelinespec.edn").exists()


def test_a_test_without_a_runner_fails_alone(place: Path, sandbox: Sandbox) -> None:
    items = world.repository(place / "items")
    (place / "items" / world.TEST / "runner").unlink()
    (place / "scratch").mkdir()
    done = run_test(world.pair(items), place / "scratch", sandbox, world.LIMITS)
    assert done.fault.startswith("failed with exit code ")


def test_nothing_is_written_outside_its_directory(run: Run, place: Path) -> None:
    """Not into the items, the results directory, the system or another user's folders."""
    files = [place / "x", place / "items/x", place / "scratch/x", Path("/x"), Path("/etc/x")]
    files += [Path(name, "kimpipeline-x") for name in ("/tmp", "/var/tmp", "/dev/shm", "/var")]
    tries = "\n".join(f"echo x >{path}" for path in files)
    runner = place / "items" / world.TEST / "runner"
    done = run(f"{tries}\necho x >>{runner}\nls -A /home /root /run\n{world.GOOD}")
    assert done.fault == ""
    assert not [path for path in files if path.exists()]
    assert runner.read_text().endswith(f"{world.GOOD}\n")
    listing = (done.folder / "pipeline.stdout").read_text()
    assert set(listing.split()) <= {"/home:", "/root:", "/run:"}


def test_a_job_is_nobody_and_alone(run: Run) -> None:
    done = run(f"id -u; ls -d /proc/[0-9]* | wc -l; grep CapEff /proc/self/status; {world.GOOD}")
    uid, processes, *rest = (done.folder / "pipeline.stdout").read_text().split()
    assert uid != "0"
    assert int(processes) < 8
    assert rest == ["CapEff:", "0" * 16]


def test_the_network_is_not_there(run: Run) -> None:
    """Not even the loopback of this machine, where the queue is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        script = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        done = run(f'python3 -c "{script}" || exit 9')
        with pytest.raises(TimeoutError):
            server.accept()
    assert done.fault == "failed with exit code 9"
    assert "refused" in (done.folder / "pipeline.stderr").read_text()


def test_one_that_sleeps_for_ever_is_ended(run: Run) -> None:
    """And so is what it left in a session of its own."""
    limits = world.LIMITS.model_copy(update={"seconds": 1.5})
    began = time.monotonic()
    done = run("setsid sleep 98765 & sleep 98765", limits)
    assert done.fault == "not done after 1.5 s"
    assert time.monotonic() - began < 6
    assert not _running("sleep 98765")


def test_what_a_test_leaves_running_ends_with_it(run: Run) -> None:
    assert run(f"setsid sleep 98764 & {world.GOOD}").fault == ""
    assert not _running("sleep 98764")


def test_one_that_forks_without_end_is_contained(run: Run) -> None:
    """This machine can start processes meanwhile, and all of the job's are gone after it."""
    limits = world.LIMITS.model_copy(update={"seconds": 2.5})
    seen: list[int] = []
    bomb = "import os, time\nwhile True:\n  try: os.fork()\n  except OSError: time.sleep(9)"

    def beat() -> None:
        seen.append(len(_running("kimpipeline-bomb")))

    done = run(f"exec python3 -c '{bomb}' kimpipeline-bomb", limits, beat)
    assert done.fault == "not done after 2.5 s"
    assert 2 < max(seen) <= limits.processes
    assert not _running("kimpipeline-bomb")


def test_one_that_prints_gigabytes_is_ended(run: Run) -> None:
    done = run("exec cat /dev/zero")
    assert done.fault
    assert (done.folder / "pipeline.stdout").stat().st_size <= world.LIMITS.disk


def test_one_that_fills_the_disk_with_files_is_ended(run: Run) -> None:
    done = run("i=0; while :; do i=$((i + 1)); : >$i; done")
    assert done.fault == f"wrote more than {world.LIMITS.disk} bytes"


def test_calls_deep_into_the_kernel_are_refused(run: Run) -> None:
    """Those that the filter has. The others need a right that a job has not."""
    done = run(f"cat >attack.py <<'END'\n{world.CALLS}END\npython3 attack.py && {world.GOOD}")
    assert done.fault == ""
    said = (done.folder / "pipeline.stdout").read_text()
    told = dict(line.split() for line in said.splitlines())
    families = {told.pop(name) for name in [*told] if name.startswith("AF_")}
    assert families == {"EAFNOSUPPORT"}
    denied = [name for name in told if name in calls.DENIED]
    assert len(denied) == 10
    assert {told[name] for name in denied} == {"EPERM"}


DIG = 'import os; os.chdir("output")\nwhile True:\n  os.mkdir("a")\n  os.chdir("a")'


def test_one_that_digs_deeper_than_paths_reach_is_ended_and_removed(run: Run, place: Path) -> None:
    """What it writes there would not be seen; neither does the removal give up there."""
    deep = DIG.replace("while True", "for _ in range(2200)")
    done = run(f"python3 -c '{deep}'; sleep 98760")
    assert done.fault == f"wrote more than {world.LIMITS.disk} bytes"
    remove(place / "scratch")
    assert not (place / "scratch").exists()


def test_what_is_too_deep_is_not_taken_over(run: Run) -> None:
    deep = DIG.replace("while True", "for _ in range(1500)")
    done = run(f"python3 -c '{deep}'; {world.GOOD}")
    assert done.fault == "output is deeper than 100 folders"


def test_what_is_hidden_counts_as_too_much(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10_000)
    assert disk_usage(tmp_path) < 100_000
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(2100):  # deeper than a path may be long
        os.mkdir("a", dir_fd=here)
        deeper = os.open("a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    assert disk_usage(tmp_path) > 2**60
    remove(tmp_path / "a")
    assert disk_usage(tmp_path) < 100_000


def test_an_item_that_cannot_be_copied_fails_its_job(place: Path, sandbox: Sandbox) -> None:
    items = world.repository(place / "items")
    os.mkfifo(place / "items" / world.TEST / "pipe")
    (place / "scratch").mkdir()
    done = run_test(world.pair(items), place / "scratch", sandbox, world.LIMITS)
    assert done.fault == f"{world.TEST} cannot be copied: Error"


def test_one_that_takes_all_memory_is_ended(run: Run) -> None:
    done = run("""python3 -c "x = bytearray(700 * 2**20)" || exit 9""")
    assert done.fault == "failed with exit code 9"
    assert "MemoryError" in (done.folder / "pipeline.stderr").read_text()


def test_a_beat_that_fails_ends_the_job(run: Run) -> None:
    def beat() -> None:
        raise QueueError("gone")

    with pytest.raises(QueueError):
        run("sleep 98762", beat=beat)
    assert not _running("sleep 98762")


def test_a_job_ends_with_its_worker(place: Path) -> None:
    """Killed without a chance to clean up, it leaves no process behind."""
    items = world.repository(place / "items", "sleep 98761")
    (place / "scratch").mkdir()
    child = os.fork()
    if child == 0:
        box = Bubblewrap(66_999 if os.geteuid() == 0 else None)
        try:
            run_test(world.pair(items), place / "scratch", box, world.LIMITS)
        finally:
            os._exit(0)
    _until(lambda: bool(_running("sleep 98761")))
    os.kill(child, 9)
    os.waitpid(child, 0)
    _until(lambda: not _running("sleep 98761"))


def test_a_machine_that_cannot_shut_in_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = world.repository(place / "items")
    (place / "scratch").mkdir()
    (place / "bin").mkdir()
    world.program(place / "bin/bwrap", "echo no namespaces >&2; exit 1")
    monkeypatch.setenv("PATH", f"{place}/bin", prepend=":")
    with pytest.raises(SandboxError, match="could not start a job: no namespaces"):
        run_test(world.pair(items), place / "scratch", Bubblewrap(None), world.LIMITS)


def _running(line: str) -> list[str]:
    done = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True)
    return [each for each in done.stdout.splitlines() if each.strip().endswith(line)]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.05)
