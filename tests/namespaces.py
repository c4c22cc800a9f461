"""A world of its own for daemons: a network, a process table and mounts that end with it.

The kernel ends every process in there and drops the rest when the first of them ends, which
happens when our end of its standard input is closed, by us or by our death.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.desk import shell

# dash takes the exit code of every child, as the first process must: libvirtd waits for QEMU to go.
_FIRST = "echo ready; cat >/dev/null; exit"
_NAMESPACES = ("--net", "--mount", "--pid")


@dataclass(frozen=True)
class World:
    """Where daemons run; ``pid`` is its first process, as the host counts."""

    pid: int

    def enter(self, *argv: str | Path, cwd: Path = Path("/")) -> list[str | Path]:
        """The command line that runs a command in there."""
        enter = ["nsenter", "--target", str(self.pid), *_NAMESPACES, "env", f"--chdir={cwd}"]
        return [*enter, *argv]

    def run(
        self,
        *argv: str | Path,
        cwd: Path = Path("/"),
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> str:
        """What a command printed that ran in there and had exit code 0."""
        return shell.run(self.enter(*argv, cwd=cwd), env=env, timeout=timeout).stdout


@contextlib.contextmanager
def world() -> Iterator[World]:
    """A new one, in which nothing runs yet; its mounts begin as the host's."""
    argv = ["unshare", *_NAMESPACES, "--fork", "--mount-proc", "--propagation=private"]
    with subprocess.Popen(
        [*argv, "sh", "-c", _FIRST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as unshare:  # leaving closes its standard input and waits until the last process is gone
        assert unshare.stdout
        assert unshare.stdout.readline() == "ready\n"
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text()
        yield World(int(children))
