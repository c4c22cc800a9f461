"""A provision with nothing to change, beside Ansible doing the same on the same host."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deploys import box
from deploys.box import Golden
from deploys.errors import BoxError
from deploys.facts.packages import SourceDigests
from deploys.plan import preflight
from deploys.plan.preflight import Preflight
from deploys.session import Deploy
from deploys.settings import Settings
from tasks.desk import shell
from tasks.desk.places import BUNDLES, STATE
from tasks.desk.progress import HostProgress, bars
from tasks.hosts.connection import Host
from tasks.hosts.fleet import guest_host
from tasks.hosts.provision import Provision, Request
from tasks.stack import bundle, prepared
from tests.bench.shared import playbook
from tests.bench.shared.guest import running_guest, running_host, script
from tests.bench.shared.rows import Row, Step, Target

# The last that runs on Python 3.11 and works on hosts with 3.13.
_ANSIBLE = "ansible-core==2.19.14"
_PASSES = 2
_DEADLINE = 3600  # seconds, on a host that is busy with more
_TARGET = Target(high=0.2)
_APT_LIBRARY = """
mkdir -p /var/tmp/bench-apt && cd /var/tmp/bench-apt
[ ! -d usr/lib/python3/dist-packages/apt ] || exit 0
apt-get -q update && apt-get -q download python3-apt python-apt-common
for package in ./*.deb; do dpkg-deb -x "$package" .; done
"""


def provision(step: Step) -> list[Row]:
    """Our faster pass in seconds, as a first one has caches to fill; after it one of Ansible's.

    Raises:
        BoxError: no guest runs, it is not up to date, or one of the two would change something.
    """
    ansible = _installed(step)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        step("writing the playbook")
        part = _write(folder)
        step("provision")
        ours = min(_our_pass(part) for _ in range(_PASSES))
        step("Ansible")
        peer = _ansible_pass(ansible, folder)
    some = f"{len(part.operations)} of {part.whole} operations"
    what = f"provision with nothing to change, {some}, beside Ansible"
    return [Row(what, "s", ours, peer, _TARGET)]


class _Measured(Provision):
    """A provision of some of its deploys, which is only planned."""

    def __init__(self, host: Host, part: playbook.Part, progress: HostProgress) -> None:
        super().__init__(host, Settings(), Request(), progress)
        self._places = part.places

    def _golden(self, found: Preflight) -> Sequence[Deploy]:
        deploys = enumerate(super()._golden(found))
        return [deploy for place, deploy in deploys if place in self._places]


def _our_pass(part: playbook.Part) -> float:
    """The seconds of a pass, login included: with nothing to change a run is a plan."""
    host = guest_host()
    try:
        with bars() as frame:
            provision = _Measured(host, part, HostProgress(host.name, frame))
            began = time.perf_counter()
            rows = provision.plan()
            took = time.perf_counter() - began
    finally:
        host.close()
    if rows:
        words = ", ".join(name for _, name, _ in rows)
        raise BoxError(f"{host.name} is not up to date ({words}): run inv provision first")
    return took


def _write(folder: Path) -> playbook.Part:
    """Playbook and inventory for the guest as it is now, and which part of a pass they are."""
    settings = Settings()
    with running_host() as host:
        with host.session() as session:
            found = preflight.check(session, settings)
            archive = bundle.python_bundle(found.python, BUNDLES)
            copy = bundle.project_copy(BUNDLES)
            version = bundle.project_version()
            had = session.fact(SourceDigests)
            parts = prepared(
                settings, found.python, had, BUNDLES, lambda _: None, build=False
            ).parts
            golden = Golden(
                settings=settings,
                project=version,
                plan=found.plan,
                python=archive,
                copy=copy,
                parts=parts,
            )
            part = playbook.measured(session, box.deploys(golden))
        links = {path: host.run(f"readlink {path}").strip() for path in playbook.LINKS}
        contents = {path: host.run(f"cat {path}") for path in playbook.COMPUTED}
        script(host, _APT_LIBRARY)
    facts = playbook.fact_commands()
    known = playbook.Known(found, settings, facts, links, contents)
    # JSON is YAML.
    plays = playbook.playbook(part.operations, known, folder)
    (folder / "playbook.yml").write_text(json.dumps(plays))
    login = running_guest().login
    checked = f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={login.known_hosts}"
    variables = {
        "ansible_host": login.host,
        "ansible_port": login.port,
        "ansible_user": login.user,
        "ansible_ssh_private_key_file": str(login.key),
        "ansible_ssh_common_args": checked,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    inventory = {"all": {"hosts": {"guest": variables}}}
    (folder / "inventory.yml").write_text(json.dumps(inventory))
    return part


def _ansible_pass(ansible: Path, folder: Path) -> float:
    """The seconds of a pass of the playbook."""
    env = {"ANSIBLE_PIPELINING": "1", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(folder)}
    argv: list[str | Path] = [ansible, "-i", folder / "inventory.yml", folder / "playbook.yml"]
    began = time.perf_counter()
    done = shell.run(argv, env=env, cwd=folder, timeout=_DEADLINE, check=False)
    took = time.perf_counter() - began
    recap = re.search(r"ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", done.stdout)
    if recap is None or done.returncode != 0 or recap.group(2, 3, 4) != ("0", "0", "0"):
        words = re.findall(r"^(?:fatal|changed|failed): .*", done.stdout, re.MULTILINE)
        why = words[0][:300] if words else (done.stderr.strip() or done.stdout.strip())[-300:]
        raise BoxError(f"Ansible's pass was not one without a change: {why}")
    return took


def _installed(step: Step) -> Path:
    """ansible-playbook in an environment of its own, made at first use."""
    folder = STATE / "ansible" / _ANSIBLE
    program = folder / "bin" / "ansible-playbook"
    complete = folder / "complete"
    if not complete.exists():
        step(f"installing {_ANSIBLE}")
        uv = (sys.executable, "-m", "uv")
        python = folder / "bin" / "python"
        shell.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder])
        shell.run([*uv, "pip", "install", "--quiet", "--python", python, _ANSIBLE], timeout=600)
        complete.touch()
    return program
