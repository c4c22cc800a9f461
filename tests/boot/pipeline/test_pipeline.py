"""The pipeline from end to end: a gateway that directs, a worker that is secured, two results.

The gateway is a box of ``inv box.build``, the worker is that of ``inv up``; it reaches the
gateway's sshd where QEMU forwards it on this machine. The tests are one walk, in order.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kim_edn
import pytest
from filelock import FileLock

from deploys.services.gateway import OWNERS
from tasks.desk.places import ROOT
from tasks.guests import bare, credentials
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine
from tests.boot.lab.box import (
    CPUS,
    DEADLINE,
    SMALL,
    Box,
    command,
    flags,
    home_that_knows,
    is_open,
    running,
    until,
)

HOST = "10.0.2.2"  # this machine, as a guest of QEMU's user network sees it
PASSWORD = "Ada's pass: word $(id)"
SILICON = "SW_StillingerWeber_1985_Si__MO_405512056662_005"
ALUMINIUM = "EAM_Dynamo_ErcolessiAdams_1994_Al__MO_123629422045_005"
RESULTS = "/srv/pipeline/results/ada"
# A director knows the Models that are installed; it computes nothing.
_MODELS = "stack.openkim-repository"
GATEWAY = (
    *("role=gateway", "jobs.director=true", "gateway.quota=64M", "gateway.queue=128M"),
    *(*SMALL, f"{_MODELS}.source=apt", f"{_MODELS}.location=openkim-models"),
)


def worker_image(shared: Path) -> Path:
    """The box of ``inv up``, built here if that was not run."""
    disk = shared / "box.raw"
    with FileLock(shared / "box.lock"):
        if not disk.exists():
            ran = command("inv", "box.build", state=shared)
            assert ran.code == 0, ran.stderr
    return disk


def gateway_image(shared: Path) -> Path:
    """In a state of its own: in the shared one inv up may be building, and two are refused."""
    disk = shared / "gateway.raw"
    words = ("--out", str(disk), *flags(GATEWAY))
    ran = command("inv", "box.build", *words, state=shared / "pipeline")
    assert ran.code == 0, ran.stderr
    return disk


@dataclass(frozen=True)
class Pipeline:
    gateway: Box
    worker: Box
    home: Path

    @property
    def site(self) -> str:
        return f"{HOST}:{self.gateway.guest.login.port}"

    def fab(self, *words: str) -> str:
        """What ``fab -H`` on the gateway printed, as its operator says it."""
        login = self.gateway.guest.login
        where = ("-i", str(login.key), "-H", f"{login.user}@{login.host}:{login.port}")
        ran = command("fab", *where, *words, state=self.home, home=self.home)
        assert ran.code == 0, ran.stderr
        return ran.stdout

    def result(self, model: str) -> tuple[dict[str, float], Mapping[str, Any]]:
        """What came of a Model's one job, once it is there: its values, its provenance."""
        code = model.rpartition("__")[2]
        listed = f"ls -d {RESULTS}/*-and-{code}-*/results.edn {RESULTS}/*-and-{code}-*/kimspec.edn"
        told = until(lambda: self.gateway.succeed(f"{listed} 2>/dev/null || true").split())
        folder = told[0].rpartition("/")[0]
        spec = self.gateway.succeed(f"cat {folder}/kimspec.edn")
        assert '"item-type" "tr"' in re.sub(r"\s+", " ", spec), spec
        values = kim_edn.loads(self.gateway.succeed(f"cat {folder}/results.edn"))
        made = kim_edn.loads(self.gateway.succeed(f"cat {folder}/pipelinespec.edn"))
        found = {}
        for instance in values:
            for key in ("a", "cohesive-potential-energy"):
                value = instance.get(key, {}).get("source-value")
                if value is not None:
                    found[key] = value[0] if isinstance(value, list) else value
        return found, made["provenance"]


@pytest.fixture(scope="module")
def pipeline(
    shared: Path, accel: accelerator.Accelerator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """Both guests in their first fresh snapshots; the gateway has an owner and the sample items."""
    disks = {"gateway": gateway_image(shared), "worker": worker_image(shared)}
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Box:
            folder = tmp_path_factory.mktemp(name)
            identity, given = credentials.make(folder, "vagrant", folder / "id_ed25519")
            disk = bare.overlay(disks[name], folder / "root.qcow2")
            machine = Machine(disks=(disk,), cpus=CPUS, credentials=given)
            return stack.enter_context(running(folder, identity, machine, accel))

        with ThreadPoolExecutor(2) as pool:  # side by side, as this machine has two processors
            gateway, worker = pool.map(start, ("gateway", "worker"))
        for host in (gateway.host, worker.host):
            host.close()
        # its first boot makes the database
        up = "until systemctl is-active --quiet pipeline-box.target; do sleep 1; done"
        gateway.host.run(f"timeout 300 sh -c '{up}'")
        gateway.host.run(f"{OWNERS} add ada", stdin=f"{PASSWORD}\n".encode())
        gateway.host.run("tar -C /srv/pipeline/items -xf -", stdin=items())
        home = home_that_knows(gateway, tmp_path_factory.mktemp("operator"))
        yield Pipeline(gateway, worker, home)


def items() -> bytes:
    """The sample items as a tar file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in sorted((ROOT / "static/pipeline/items").iterdir()):
            tar.add(folder, folder.name)
    return buffer.getvalue()


def answered(box: Box, answers: Mapping[str, str]) -> str:
    """What ``./secure`` said on a terminal, each of its questions answered as it came."""
    box.host.connect()
    with box.host._connection.transport.open_session() as channel:
        channel.get_pty()
        channel.settimeout(DEADLINE)
        channel.exec_command("./secure")
        said, since = "", 0
        for question, answer in answers.items():
            while question not in said[since:]:
                more = channel.recv(4096).decode(errors="replace")
                assert more, said
                said += more
            since = len(said)
            channel.sendall(f"{answer}\n".encode())
        with contextlib.suppress(OSError, EOFError):  # it ends what we came by
            while more := channel.recv(4096).decode(errors="replace"):
                said += more
    box.host.close()
    return said


def test_four_answers_make_a_worker(pipeline: Pipeline) -> None:
    gateway_key = pipeline.gateway.succeed(f"{OWNERS} hostkey").strip()
    said = answered(
        pipeline.worker,
        {
            "worker or director? ": "worker",
            "sitename? ": pipeline.site,
            "username? ": "ada",
            f"{gateway_key}\r\nIs that what its operator told you? [y/N] ": "y",
            "password? ": PASSWORD,
        },
    )
    assert f"this box is a worker of {pipeline.site}" in said, said
    assert PASSWORD not in said


def page(pipeline: Pipeline) -> dict[str, Any]:
    """What the worker's status page says, once a worker of this boot reports."""

    def ask() -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(
                f"{pipeline.worker.guest.page}status.json", timeout=60
            ) as answer:
                content: dict[str, Any] = json.load(answer)
        except OSError:
            return None
        return content if content["role"] == "worker" and content["jobs"] else None

    found: dict[str, Any] = until(ask)
    return found


def test_a_pair_that_is_asked_for_runs_and_its_result_arrives(pipeline: Pipeline) -> None:
    until(lambda: not is_open(pipeline.worker.guest))
    pipeline.fab("pipeline.submit", SILICON)
    values, come = pipeline.result(SILICON)
    assert values["a"] == pytest.approx(5.43095, abs=1e-5)
    assert values["cohesive-potential-energy"] == pytest.approx(4.3364, abs=1e-4)
    assert (come["reset"], come["sandbox"]) == ("fresh", "systemd")
    shown = page(pipeline)
    assert come["manifest"] == shown["manifest"]
    assert (shown["jobs"], shown["queue"]["link"]) == ({"done": 1, "failed": 0}, "up")
    listed = pipeline.fab("pipeline.results")
    assert f"{SILICON} {come['manifest'][:16]} good" in listed


def test_after_a_reset_it_comes_back_by_itself_and_is_closed(pipeline: Pipeline) -> None:
    first = pipeline.result(SILICON)[1]["boot-id"]
    began = time.monotonic()
    pipeline.worker.guest.reset()
    pipeline.fab("pipeline.submit", ALUMINIUM)
    values, come = pipeline.result(ALUMINIUM)
    print(f"{time.monotonic() - began:.0f} s from the reset to the next result")
    assert values["a"] == pytest.approx(4.032082, abs=1e-5)
    assert come["reset"] == "fresh"
    assert come["boot-id"] != first
    assert come["manifest"] == pipeline.result(SILICON)[1]["manifest"]
    assert not is_open(pipeline.worker.guest)
