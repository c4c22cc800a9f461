"""Run one of this package's own programs in a sandbox, as what it reads is not trusted."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from kimpipeline.kim import edn
from kimpipeline.run.sandbox.confined import Confined, Sandbox
from kimpipeline.run.supervise import supervise
from kimpipeline.settings import Limits

_HERE = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path[:0] = {}; from kimpipeline.kim import {} as it; sys.exit(it.main())"


def run_program(
    program: str,
    words: Sequence[str],
    folder: Path,
    files: tuple[IO[bytes], IO[bytes]],
    complaints: Path,
    sandbox: Sandbox,
    limits: Limits,
) -> str:
    """Run a program to its end, and say in one line why it failed, or nothing.

    Args:
        program: a module of ``kimpipeline.kim``, whose ``main`` is run.
        words: its arguments.
        folder: where it starts, and may write.
        files: its stdin and stdout.
        complaints: the file that its stderr goes to.
        sandbox: runs it.
        limits: its limits.

    Raises:
        SandboxError: this machine could not run it.
    """
    found = find_spec("jinja2")
    libraries = Path(str(found and found.origin)).resolve().parents[1]
    start = _START.format([str(_HERE), str(libraries)], program)
    argv = ("/usr/bin/env", "python3", "-I", "-B", "-c", start, *words)
    with complaints.open("wb") as said:
        job = Confined(argv, folder, libraries, limits, (_HERE,))
        ended = supervise(sandbox, job, (*files, said), complaints.parent, lambda: None)
    if not ended.fault:
        return ""
    line = edn.read_text(complaints).strip().rpartition("\n")[2]
    return ascii(line)[1:-1] or ended.fault
