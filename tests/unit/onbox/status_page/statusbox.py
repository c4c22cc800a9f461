"""A tree that stands for a box's root, and what status-page-gather makes of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import FakeRoot

HOME = ONBOX / "usr/lib/status-page"
ROOT = ONBOX.parents[1]
DIGEST = "ab" * 32
_FILES = {
    "etc/os-release": 'ID=debian\nVERSION_ID="13"\n',
    "etc/default/resnap": "VOLGROUP=vagrant-pipeline\nLVSNAP=root_snap\nWARN_PERCENT=80\n",
    "etc/pipeline-release": 'NAME="OpenKIM pipeline box"\nROLE=devel\n'
    f"MANIFEST={'cd' * 32}\nCOMMIT=0123abc\n",
    "lib/modules/6.12.9-amd64/modules.dep": "",
    "proc/sys/kernel/random/boot_id": "6f1c2f0e-0000\n",
    "proc/self/mountinfo": "22 1 254:3 / / ro - ext4 x rw\n"
    "23 22 254:2 / /persistent rw - ext4 y rw\n",
    "proc/uptime": "5400.00 100.00\n",
    "run/provisiond/done": "reason=applied it, of https://git.example.org/x\nfinished=1795550000\n"
    "runsetup=0\nrunsecure=0\n",
}
_TOOLS = {
    "uname": "echo 6.12.9-amd64",
    "dpkg-query": "echo installed lammps=20250204; echo installed libkim-api2=2.3.0; "
    "echo config-files pipeline-lammps=1",
    "df": "printf 'x\\n/ 1 2400000000\\n/persistent 1 2000000000\\n'",
}


class StatusBox(FakeRoot):
    """The tree, with its own commands before the system's."""

    @classmethod
    def make(cls, root: Path) -> StatusBox:
        """A box in a fresh snapshot, with nothing wrong."""
        box = cls(root)
        for name, content in _FILES.items():
            box.write(name, content)
        for name, body in _TOOLS.items():
            box.tool(name, body)
        box.program("usr/sbin/makeinitrd", f"echo {DIGEST}")
        box.verdict("fresh")
        box.fill(12)
        (root / "run/pipeline/status.d").mkdir(parents=True)
        return box

    @property
    def reports(self) -> Path:
        return self.root / "run/pipeline/status.d"

    @property
    def status(self) -> Path:
        return self.root / "run/pipeline/status.json"

    def verdict(self, name: str, *lines: str) -> None:
        """Have the boot have left this verdict, and no other."""
        own = ("started=2.0", "disk=4.0", "finished=6.3", f"initrd={DIGEST}", *lines)
        self.came_out(name, *own)

    def role(self, made: str, given: str = "") -> None:
        """What provision made of it, and ``secure`` after that."""
        release = self.root / "etc/pipeline-release"
        release.write_text(re.sub(r"ROLE=\w+", f"ROLE={made}", release.read_text()))
        if given:
            self.write("persistent/settings/runsecure", f"{given}\ngw.example.org\nada\n")

    def fill(self, percent: int) -> None:
        line = f"vagrant--pipeline-root_snap: 0 8388608 snapshot {percent}/100 2"
        self.tool("dmsetup", f"echo {line!r}")

    def report(self, name: str, **fields: object) -> None:
        self.reports.joinpath(f"{name}.json").write_text(json.dumps(fields))

    def gather(
        self, argv: Sequence[str] = (), extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it where it lies in this project, or as ``argv`` says."""
        here = {"PYTHONPATH": str(ROOT)}  # on a box, deploys lies beside the script
        return subprocess.run(
            argv or [sys.executable, "-B", str(HOME / "gather.py")],
            env={**self.environment, **(here if extra is None else extra)},
            capture_output=True,
            text=True,
            check=False,
        )

    def gathered(self) -> dict[str, Any]:
        """What it wrote."""
        done = self.gather()
        others = [line for line in done.stderr.splitlines() if not line.startswith("<4>")]
        assert (done.returncode, others) == (0, [])
        content: dict[str, Any] = json.loads(self.status.read_text())
        return content


# Hosts, users, addresses, keys, and what a Test says, in whatever file a box reads for its page.
NAMES = (
    *("gw.example.org", "worker-7.lab", "fe80::1", "10.0.2.15", "www.evil.example/pay", "bob"),
    *(
        "ada@example.org",
        "/home/bob",
        "hunter2",
        "AAAAC3NzaC1lZDI1NTE5",
        "Buy my potential",
        "6f1c2f0e",
    ),
)


def names_somebody(box: StatusBox) -> None:
    """Have every text that the page is made of name hosts and users, and a long text of each."""
    said = " ".join(NAMES)
    box.verdict("failed", f"reason={said} {'a@' * 50_000}")
    box.write("persistent/log/rolled-back", f"9 {said}\n")
    box.write("run/provisiond/failed", f"reason={said}\nfinished=soon, {said}\n")
    box.write("persistent/settings/runsecure", f"{said}\ngw.example.org\nada\n")
    box.tool("uname", f"echo '6.12.9-bob {said}'")
    box.tool("dpkg-query", f"echo installed lammps=20250204; echo 'installed pipeline-ase={said}'")
    release = (box.root / "etc/pipeline-release").read_text()
    box.write("etc/pipeline-release", release.replace("COMMIT=0123abc", f"COMMIT='{said}'"))
    line = {"time": 1, "level": "info"}
    for number, text in enumerate((*NAMES, said, "x://" * 25_000, "x" * 4000)):
        box.report(f"a{number}", log=[{**line, "text": text}])
        box.report(f"b{number}", log=[{"time": 1, "event": text}])
        box.report(f"c{number}", queue={"link": text})
        box.report(f"d{number}", **{text: 1})
