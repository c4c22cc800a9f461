"""Hostile Tests under a real systemd: what each reaches of its neighbour, the box and the disk.

They are run as root runs them on a box, by ``pipeline-run-pair``; a worker does the same. Their
kernel has no controllers of memory and processes for this container: systemd was asked to limit
these, and that is not tried here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kim_edn
import pytest

from tests.pipeline import world
from tests.storage.conftest import root_of
from tests.storage.gateway.booted import Booted, booted
from tests.storage.gateway.gateway import SUITES, layered

pytestmark = pytest.mark.boot  # of systemd, in a container

ITEMS = "/persistent/pipeline/items"
OUT = "/root/out"
DISK = 16 * world.MIB
SETTINGS = f"""
[folders]
items = "{ITEMS}"
[limits]
seconds = 30
disk = {DISK}
"""


@dataclass(frozen=True)
class Lab:
    box: Booted
    items: Path

    def test(self, number: int, lines: str, attack: str = "") -> str:
        """A Test with this number whose runner is these lines of shell; ``attack.py`` is beside."""
        kimid = f"Attack__TE_{number:012}_000"
        folder = world.make_test(self.items, lines, kimid)
        (folder / "attack.py").write_text(attack)
        return kimid

    def run(self, *tests: str) -> list[tuple[str, str]]:
        """What Tests that ran side by side printed, and their faults."""
        words = ["pipeline-run-pair", "--settings", "/etc/small.toml", "--out", OUT]
        each = [shlex.join([*words, test, world.MODEL]) for test in tests]
        script = f"rm -rf {OUT}; {' & '.join(each)} & wait"
        said = self.box.run("sh", "-c", f"({script}) 2>&1")
        return [self._outcome(test, said) for test in tests]

    def left(self) -> str:
        """The mounts, images and units of jobs that are there."""
        look = "grep cell- /proc/mounts; "
        look += "find /var/tmp/pipeline -path '*/built/*' -prune -o -type f -print; "
        return self.box.run("sh", "-c", f"{look} systemctl list-units --all -q 'pipeline-job-*'")

    def _outcome(self, test: str, said: str) -> tuple[str, str]:
        out = Path(f"/proc/{self.box.pid}/root{OUT}")
        folder = next((path for path in out.glob("*") if test[8:23] in path.name), None)
        assert folder, said
        about = kim_edn.loads((folder / "kimspec.edn").read_text())
        if "error" not in about:
            (found,) = kim_edn.loads((folder / "results.edn").read_text())
            assert (found["a"].pop("si-unit"), found["a"].pop("si-value")) == ("m", 4.05e-10)
            assert found["a"] == world.RESULT["a"]
        return (folder / "pipeline.stdout").read_text(), about.get("error", "")


# The others are made for this file alone, which takes minutes.
OTHERS = [pytest.param(each, marks=pytest.mark.long) for each in SUITES if each != "trixie"]


@pytest.fixture(scope="module", params=["trixie", *OTHERS])
def lab(
    request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A box of each system, with a key of root's, a Driver and a Model."""
    lower = root_of(request.param, shared)
    with layered(lower, tmp_path_factory.mktemp("layers")) as root:
        items = root / ITEMS[1:]
        world.repository(items)
        (root / "etc/small.toml").write_text(SETTINGS)
        with booted(root) as made:
            able = "echo memory pids >/run/able && mount --bind /run/able "
            made.run("sh", "-c", f"{able} /sys/fs/cgroup/cgroup.controllers")
            yield Lab(made, Path(f"/proc/{made.pid}/root{ITEMS}"))


# It looks for its neighbour for as long as that one runs, forges its result, and kills all it can.
NEIGHBOUR = """
import contextlib, os, time
deadline, foreign, forged = time.monotonic() + 4, set(), 0
while time.monotonic() < deadline:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd") == os.getcwd():
                continue
            foreign.add(pid)
            open(f"/proc/{pid}/cwd/output/results.edn", "w").write("forged")
            forged += 1
        except OSError:
            foreign.add(pid)
    time.sleep(0.05)
print(len(foreign), forged, flush=True)
with contextlib.suppress(ProcessLookupError):
    os.kill(-1, 9)
"""


def test_a_neighbour_can_be_neither_seen_nor_forged_nor_killed(lab: Lab) -> None:
    """What an attacker kills is at most its own shell: that is its own fault."""
    victim = lab.test(910, f"sleep 6; {world.GOOD}; echo lived")
    attacker = lab.test(920, "exec python3 attack.py", NEIGHBOUR)
    assert lab.run(victim, attacker) == [("lived\n", ""), ("0 0\n", "ended by signal 9")]


def test_calls_deep_into_the_kernel_are_refused(lab: Lab) -> None:
    [(said, fault)] = lab.run(lab.test(930, f"python3 attack.py && {world.GOOD}", world.CALLS))
    assert fault == ""
    told = dict(line.split() for line in said.splitlines())
    families = {name for name in told if name.startswith("AF_")}
    assert (len(told), len(families)) == (20, 6)
    assert {told[name] for name in families} == {"EAFNOSUPPORT"}
    assert not {name: told[name] for name in set(told) - families if told[name] != "EPERM"}


# Files that nobody can see, then more between two looks than fits; what could be written is told.
WRITER = """
import os
def fill(name):
    written = 0
    try:
        with open(name, "wb", buffering=0) as file:
            os.unlink(name)
            kept.append(os.dup(file.fileno()))
            while written < 4 * 2**20:
                written += file.write(bytes(2**16))
    except OSError as error:
        assert error.errno == 28, error
    return written
kept = []
print(sum(fill(f"file-{number}") for number in range(50)))
os.closerange(3, 100)
"""


def test_the_kernel_holds_a_job_to_its_disk(lab: Lab) -> None:
    """Files unlinked while open count, and so does what is written within a second."""
    [(said, fault)] = lab.run(lab.test(940, f"python3 attack.py && {world.GOOD}", WRITER))
    assert fault == ""
    assert DISK / 2 < int(said) <= DISK


def test_a_job_that_forgets_nothing_leaves_nothing_to_the_next(lab: Lab) -> None:
    """Not in memory, not on its disk, which the next one gets; nor a mount on the box."""
    hide = "echo secret | tee /tmp/x /dev/shm/x /var/tmp/x ../x >left"
    look = f"cat /tmp/x /dev/shm/x /var/tmp/x ../x left 2>/dev/null; ls ..; {world.GOOD}"
    first, second = lab.test(950, f"{hide}; {world.GOOD}"), lab.test(951, look)
    assert lab.run(first) == [("", "")]
    assert lab.run(second) == [("test\n", "")]
    assert not lab.left()


def test_a_command_that_is_killed_is_cleaned_up_after(lab: Lab) -> None:
    long, short = lab.test(960, "sleep 54325"), lab.test(961, world.GOOD)
    words = f"--settings /etc/small.toml --out {OUT} {long} {world.MODEL}"
    lab.box.run("sh", "-c", f"pipeline-run-pair {words} >/dev/null 2>&1 &")
    lab.box.succeeds("ps -eo args | grep -v grep | grep -q 'sleep 54325'")
    assert lab.left()
    lab.box.run("pkill", "-KILL", "-f", "pipeline-run-pair")
    assert lab.run(short) == [("", "")]
    assert "54325" not in lab.box.run("ps", "-eo", "args")
    assert not lab.left()


SEEN = """
ls -A /home /root /persistent /run | grep -v : | xargs
cat /etc/shadow /persistent/key 2>/dev/null
touch /etc/x /usr/x /var/lib/x 2>/dev/null && echo wrote
sed -n 's/^ *\\([^:]*\\):.*/\\1/p' /proc/net/dev | xargs
ls /dev
"""


def test_a_job_sees_no_file_of_others_no_network_and_no_device(lab: Lab) -> None:
    lab.box.run("sh", "-c", "echo secret >/persistent/key")
    [(said, fault)] = lab.run(lab.test(970, f"{SEEN}{world.GOOD}"))
    assert fault == ""
    hidden, network, *devices = said.splitlines()
    assert set(hidden.split()) <= {"pipeline", "systemd"}  # the items; an empty folder of systemd's
    assert network == "lo"
    assert not [name for name in devices if name.startswith(("loop", "sd", "vd", "kmsg", "mem"))]


ENDS = {
    "exit 200": "failed with exit code 200",
    "kill -KILL $$": "ended by signal 9",
    "mkdir output/results.edn.invalid; echo '[' >output/results.edn": (
        "output/results.edn.invalid: that name is the pipeline's own"
    ),
}


def test_how_a_job_ends_is_its_own_outcome(lab: Lab) -> None:
    tests = [lab.test(number, lines) for number, lines in enumerate(ENDS, 980)]
    assert [fault for _, fault in lab.run(*tests)] == [*ENDS.values()]


def test_a_template_is_filled_in_where_the_job_is(lab: Lab) -> None:
    """By Jinja2, and as the job's user; one that does not end is that Test's fault."""
    good, endless = lab.test(990, f"cat; {world.GOOD}"), lab.test(991, world.GOOD)
    name = "pipeline.stdin.tpl"
    (lab.items / good / name).write_text("@[ for i in range(3) ]@@< i >@@[ endfor ]@")
    loop = "@[ for i in range(99999) ]@"
    (lab.items / endless / name).write_text(f"{loop}{loop}@[ endfor ]@@[ endfor ]@")
    fault = "pipeline.stdin.tpl: not done after 10 s"
    assert lab.run(good, endless) == [("012", ""), ("", fault)]


def built(lab: Lab, number: int, recipe: str) -> tuple[str, str]:
    """Two Tests that print what their Driver, which has to be built, prints."""
    driver = f"Made__TD_{number:012}_000"
    folder = world.item(lab.items, driver)
    (folder / "Makefile").write_text(f"runner:\n\t{recipe}\n")
    tests = [lab.test(number + more, f'read -r it; "$it" && {world.GOOD}') for more in (1, 2)]
    for test in tests:
        (lab.items / test / "pipeline.stdin.tpl").write_text(f'@< path("{driver}") >@\n')
        spec = lab.items / test / "kimspec.edn"
        spec.write_text(spec.read_text().replace(world.DRIVER, driver))
    first, second = tests
    return first, second


def test_what_is_built_is_built_once_and_by_the_jobs_user(lab: Lab) -> None:
    """Of two Tests that begin at once one waits for the other's build; nobody changes it."""
    words = "$$(id -u) $$(cat /proc/sys/kernel/random/uuid)"
    program = '#!/bin/sh\\necho x >>"$$0"; echo %s %s\\n'
    recipe = f"printf '{program}' {words} >runner && chmod +x runner"
    (first, fault), (second, other) = lab.run(*built(lab, 1000, recipe))
    assert (fault, other) == ("", "")
    assert first == second
    assert first.startswith("660")


def test_a_build_has_the_disk_of_a_job(lab: Lab) -> None:
    tests = built(lab, 1010, "head -c 1G /dev/zero >runner")
    faults = [fault for _, fault in lab.run(*tests)]
    reason = "cannot be built: failed with exit code 2: "
    assert all(reason in fault for fault in faults), faults
    assert not lab.left()
