"""What jobs and boxes may use of a machine: the kernel holds them to it, and the worker goes on.

Here is a guest, as the containers of other tests have no controllers of cgroup v2. It is a gateway
whose queue a worker of its own serves; it has two processors, so that one can be too many.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import kim_edn
import pytest

from tasks.guests import bare, credentials
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine
from tests.boot.bed import bedinitrd
from tests.boot.lab.box import DEADLINE, SMALL, Box, command, flags, running
from tests.pipeline import world

pytestmark = pytest.mark.long

MEMORY, SECONDS = 256 * world.MIB, 30
SETTINGS = (
    *("role=gateway", "jobs.director=true", "gateway.quota=64M", "gateway.queue=128M"),
    *(f"jobs.memory={MEMORY}", f"jobs.seconds={SECONDS}", "jobs.disk=16M", *SMALL),
)
WORKER, QUEUE = "pipeline-worker@1.service", "pipeline-database.service"
ITEMS, RESULTS = "/srv/pipeline/items", "/persistent/pipeline/results"
MODELS = "/usr/lib/x/kim-api/portable-models"
# One Model is installed, and results stay here. A worker needs a key, the director none; a tunnel
# would have it wait for the database.
SETUP = f"""
    sed -i '/^items/a models = ["{MODELS}"]' /etc/pipeline/pipeline.toml
    mkdir -p {MODELS}/{world.MODEL} /persistent/pipeline/ssh
    touch /persistent/pipeline/ssh/id_ed25519
    systemctl mask --runtime --now pipeline-tunnel.service 2>/dev/null
    systemctl start {QUEUE}
    systemctl restart pipeline-director.service {WORKER}
"""
HOG = "exec python3 -c 'kept = []\nwhile True: kept.append(b\"x\" * 2**20)'"
BOMB = "b() { b | b & }; b 2>/dev/null; exec sleep 1000"
LOOPS = """exec python3 -c '
import os, time
began = time.monotonic()
for _ in range(4):
    if os.fork() == 0:
        while time.monotonic() - began < 10:
            pass
        os._exit(0)
for _ in range(4):
    os.wait()
print((os.times().children_user + os.times().children_system) / (time.monotonic() - began))
'"""
TESTS = {"hog": HOG, "bomb": BOMB, "loops": LOOPS, "good": world.GOOD}
KIMIDS = {name: f"Attack__TE_{number:012}_000" for number, name in enumerate(TESTS, 921)}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("limits")
    disk = folder / "box.raw"
    words = ("--out", str(disk), *flags(SETTINGS))
    assert command("inv", "box.build", *words, state=shared / "limits").code == 0
    kernel, _ = bedinitrd.take_kernel(disk, folder)
    identity, given = credentials.make(folder, "vagrant", folder / "id_ed25519")
    over = bare.overlay(disk, folder / "root.qcow2")
    machine = Machine(disks=(over,), cpus=2, credentials=given)
    with running(folder, identity, machine, accelerator.choose(kernel, folder)) as made:
        items = folder / "items"
        world.repository(items)
        for name, lines in TESTS.items():
            world.make_test(items, lines, KIMIDS[name])
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(items, ".")
        made.host.run(f"tar -C {ITEMS} --no-same-owner -xf -", stdin=packed.getvalue())
        made.succeed(SETUP)
        yield made


def submitted(box: Box, name: str) -> None:
    call = f"select pipeline.submit('{KIMIDS[name]}', 1, 'approved')"
    box.host.run("/usr/lib/gateway/database sql", stdin=call.encode())


def until(box: Box, condition: str) -> str:
    """What the condition printed when it held."""
    loop = f"until {condition}; do sleep 1; done"
    return box.host.run(f"timeout {DEADLINE} sh -s", stdin=loop.encode())


def outcome(box: Box, name: str) -> tuple[str, str]:
    """What a Test printed, and its fault."""
    folder = f"{RESULTS}/{KIMIDS[name][8:23]}*"
    until(box, f"grep -q . {folder}/kimspec.edn 2>/dev/null")
    about = kim_edn.loads(box.succeed(f"cat {folder}/kimspec.edn"))
    return box.succeed(f"cat {folder}/pipeline.stdout"), about.get("error", "")


def limit(box: Box, name: str) -> str:
    """What a file of the running job's cgroup says."""
    return until(box, f"cat /sys/fs/cgroup/system.slice/pipeline-job-*/{name} 2>/dev/null").strip()


def test_a_job_that_takes_all_memory_is_ended(box: Box) -> None:
    submitted(box, "hog")
    assert outcome(box, "hog") == ("", f"took more than {MEMORY} bytes of memory")


def test_a_fork_bomb_is_held_and_ended(box: Box) -> None:
    submitted(box, "bomb")
    assert limit(box, "pids.max") == "64"
    at_once = "cd /sys/fs/cgroup/system.slice/pipeline-job-*/ 2>/dev/null"
    until(box, f"( {at_once} && grep -q 'max [1-9]' pids.events && cat pids.current )")
    assert 32 < int(limit(box, "pids.peak")) <= 64
    assert outcome(box, "bomb") == ("", f"not done after {SECONDS} s")


def test_four_busy_processes_have_one_processor_together(box: Box) -> None:
    submitted(box, "loops")
    said, _ = outcome(box, "loops")
    assert 0.5 < float(said) < 1.15


def test_the_worker_goes_on(box: Box) -> None:
    """It is the one that ran them all."""
    submitted(box, "good")
    assert outcome(box, "good") == ("", "")
    report = json.loads(box.succeed("cat /run/pipeline/status.d/worker-1/report.json"))
    assert report["jobs"]["failed"] == 3
    assert box.succeed(f"systemctl show --value --property NRestarts {WORKER}").strip() == "0"


def test_a_statement_that_takes_much_memory_fails_alone(box: Box) -> None:
    """As of a hostile box; the others' connections stay."""
    group = f"/sys/fs/cgroup/system.slice/{QUEUE}"
    assert int(box.succeed(f"cat {group}/memory.max")) == 2 * 2**30
    much = "select length(repeat('x', 1000000000) || repeat('y', 70000000))"
    said = box.succeed(f'psql -d pipeline -c "{much}" 2>&1; true')
    assert "out of memory" in said
    assert box.succeed(f"systemctl show --value --property NRestarts {QUEUE}").strip() == "0"
    assert box.succeed(f"systemctl show --value --property NRestarts {WORKER}").strip() == "0"


def test_all_that_boxes_run_has_half_of_the_memory(box: Box) -> None:
    own = "user-$(id -u pipeline).slice"
    ran = f"systemd-run --quiet --wait --pipe --uid=pipeline --slice={own}"
    half = int(box.succeed("awk '/MemTotal/ { print $2 * 512 }' /proc/meminfo"))
    kept = int(box.succeed(f"{ran} cat /sys/fs/cgroup/user.slice/{own}/memory.max"))
    assert kept == pytest.approx(half, rel=0.02)
    hog = f'kept = b"x" * ({half} + 200 * 2**20)'
    box.fail(f"{ran} --property=MemorySwapMax=0 --unit=hog python3 -c {hog!r}")
    assert "oom" in box.succeed("journalctl --unit hog.service --output cat")
