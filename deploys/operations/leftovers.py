"""Remove what older versions of this project put on a box, and this version does not use."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.onbox import Entries, Present
from deploys.operations import Commands

_FOLDER = "/opt/pipeline"
NAMES = ("ase", "kimpy", "lammps", "openkim-api", "openkim-kimcalculator-ase")
# The prefixes are removed last: by them a later run sees that this one broke off.
_SCRIPT = """
set -eu
for name; do rm -f /usr/local/lib/python3.*/dist-packages/"$name".pth; done
for link in /usr/local/bin/lmp /usr/local/bin/kim-api-collections-management; do
    case $(readlink "$link" || :) in /opt/pipeline/*) rm "$link" ;; esac
done
if [ -e /etc/ld.so.conf.d/00-openkim-api.conf ]; then
    rm /etc/ld.so.conf.d/00-openkim-api.conf
    ldconfig
    rm -f /var/cache/ldconfig/aux-cache
fi
for name; do rm -rf /opt/pipeline/"$name"-* /opt/pipeline/"$name"; done
"""


@operation()
def no_prefixes(keep_kimpy: bool = False) -> Commands:
    """Remove every prefix, and the links and settings that point to one.

    Args:
        keep_kimpy: leave its prefix, as there is no package to take its place.
    """
    there = host.get_fact(Entries, folder=_FOLDER)
    names = [name for name in NAMES if not (keep_kimpy and name == "kimpy")]
    if any(f"{entry}-".startswith(f"{name}-") for entry in there for name in names):
        yield StringCommand(shlex.join(("sh", "-c", _SCRIPT, "prefixes", *names)))


_RUNNER = "/usr/lib/pipeline-runner/kimpipeline"
_MODULES = (
    "edn",
    "harvest",
    "items",
    "kimid",
    "ledger",
    "matching",
    "messages",
    "pair",
    "provenance",
    "queue",
    "report",
    "results",
    "said",
    "sandbox",
    "slot",
    "supervise",
    "systemd",
    "template",
    "transfer",
    "verify",
)
# Units that pipeline-box.target wants now. host-keys.service is not among them: a provision does
# not enable it again on a box that was built as an image.
_UNITS = ("gateway-owners", "pipeline-director", "provisiond", "resnap-pressure")

FILES = (
    "/usr/lib/resnap/golden",
    "/usr/lib/secure/asked.py",
    "/usr/lib/secure/remembered.py",
    "/usr/lib/status-page/redaction.py",
    "/usr/lib/status-page/words.py",
    "/usr/lib/status-page/deploys/facts/hoststate.py",
    *(f"{_RUNNER}/{name}.py" for name in _MODULES),
    *(f"/etc/systemd/system/multi-user.target.wants/{name}.service" for name in _UNITS),
)
"""The files and links to remove. When a file of a box gets another name, its old one goes here."""


@operation()
def no_old_files() -> Commands:
    """Remove each of ``FILES`` that the box has, and its compiled form."""
    found: set[str] = host.get_fact(Present, paths=FILES)
    if found:
        compiled = [_compiled(path) for path in sorted(found) if path.endswith(".py")]
        yield StringCommand("rm -f --", *sorted(found), *compiled)


def _compiled(path: str) -> str:
    module = PurePosixPath(path)
    return f"{module.parent}/__pycache__/{module.stem}.*.pyc"
