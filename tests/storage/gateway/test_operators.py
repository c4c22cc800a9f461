"""The lock that keeps a second operator away, over a real sshd: it ends with its connection."""

from __future__ import annotations

import json
import sys

import pytest

from tasks.desk.places import ROOT
from tests.storage.gateway.gateway import Gateway

# Two operators in one process. The first says something so often, and may be silent for 4 s; the
# second tries again until he is let in, or 8 s have gone by.
_OPERATORS = """
import json, sys, time
import fabric
from tasks.hosts.connection import Host
from deploys.errors import BoxError
from deploys.session import lock

lock._WATCH = lock._WATCH.replace(f"timeout {lock._SILENCE}", "timeout 4")
lock._EVERY = float(sys.argv[1])
login = {"key_filename": sys.argv[2]}
first, second = (Host(fabric.Connection("root@127.0.0.1", connect_kwargs=login)) for _ in "12")
began, lines, let_in = time.monotonic(), [], False
with first.locked("provision"):
    while not let_in and time.monotonic() < began + 8:
        try:
            with second.locked("rollback"):
                let_in = True
        except BoxError as error:
            lines.append(str(error))
    lost = not first._shell.alive
print(json.dumps([lines, let_in, lost]))
"""


@pytest.mark.parametrize("vanishes", [True, False])
def test_a_machine_that_vanished_loses_its_lock(gateway: Gateway, vanishes: bool) -> None:
    every, key = "3600" if vanishes else "0.5", str(gateway.home / ".ssh/id_ed25519")
    told = gateway.outside(
        sys.executable, "-c", _OPERATORS, every, key, env={"PYTHONPATH": str(ROOT)}
    )
    assert told.returncode == 0, told.stderr
    lines, let_in, lost = json.loads(told.stdout)
    assert (let_in, lost) == (vanishes, vanishes)
    assert lines
    assert all(line.startswith("127.0.0.1: ") for line in lines)
    assert all("changes it: provision, since 20" in line for line in lines)
