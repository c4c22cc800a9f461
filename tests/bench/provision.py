"""A provision with nothing to change, beside Ansible doing the same on the same host."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from deploys import preflight
from deploys.errors import BoxError
from deploys.facts.packages import SourceDigests
from deploys.golden import golden
from deploys.settings import Settings
from tasks import bundle
from tasks.fleet import guest_host
from tasks.machines import shell
from tasks.places import BUNDLES, STATE
from tasks.progress import HostProgress, bars
from tasks.provisioning import Provision, Request
from tasks.stack import prepared
from tests.bench import playbook
from tests.bench.guest import running_guest, running_host, script
from tests.bench.rows import Row, Step, Target

# The last that runs on Python 3.11 and works on hosts with 3.13.
_ANSIBLE = "ansible-core==2.19.14"
_PASSES = 2
_DEADLINE = 3600  # seconds; an emulated pass of Ansible's takes ten minutes and more
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
        BoxError: no guest runs, it is not up to date, or one of the two changed something.
    """
    step("checking that there is nothing to change")
    _require_nothing_to_change()
    ansible = _installed(step)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        step("writing the playbook")
        _write(folder)
        step("provision")
        ours = min(_our_pass() for _ in range(_PASSES))
        step("Ansible")
        peer = _ansible_pass(ansible, folder)
    what = "provision with nothing to change, beside Ansible"
    return [Row(what, "s", ours, peer, _TARGET)]


def _require_nothing_to_change() -> None:
    with running_host() as host, _progress(host.name) as progress:
        rows = Provision(host, Settings(), Request(), progress).plan()
    if rows:
        words = ", ".join(name for _, name, _ in rows)
        raise BoxError(f"{host.name} is not up to date ({words}): run inv provision first")


@contextlib.contextmanager
def _progress(name: str) -> Iterator[HostProgress]:
    with bars() as frame:
        yield HostProgress(name, frame)


def _our_pass() -> float:
    """The seconds of a pass, login included, as ``fab`` would make it."""
    host = guest_host()
    try:
        with _progress(host.name) as progress:
            began = time.perf_counter()
            result = Provision(host, Settings(), Request(), progress).run()
            took = time.perf_counter() - began
    finally:
        host.close()
    if result.changed:
        raise BoxError(f"{host.name}: the pass changed something: not what was to be measured")
    return took


def _write(folder: Path) -> None:
    """Playbook and inventory for the guest as it is now."""
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
            deploys = golden(found.plan, settings, archive, copy, version, parts)
            planned = session.prepare(deploys)
        links = {path: host.run(f"readlink {path}").strip() for path in playbook.LINKS}
        contents = {path: host.run(f"cat {path}") for path in playbook.COMPUTED}
        script(host, _APT_LIBRARY)
    facts = playbook.fact_commands()
    known = playbook.Known(found, settings, facts, links, contents)
    names = [operation.name for operation in planned]
    # JSON is YAML.
    (folder / "playbook.yml").write_text(json.dumps(playbook.playbook(names, known, folder)))
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
