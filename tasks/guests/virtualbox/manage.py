"""Run VBoxManage, VirtualBox's command line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from deploys.errors import BoxError
from tasks.desk import shell

PROGRAM = "VBoxManage"
PACKAGE = "virtualbox, which only unstable has, in contrib"
_DEADLINE = 120.0  # seconds; its first run starts a service
_SAYS = f"{PROGRAM}: error: "
_NOT_FOUND = "VBOX_E_OBJECT_NOT_FOUND"
# What VirtualBox says of a machine or a disk for a moment, as while a machine powers off.
_PASSING = (
    *("VBOX_E_INVALID_OBJECT_STATE", "VBOX_E_INVALID_VM_STATE", "is already locked"),
    "The object is not ready",
)
_PATIENCE = 30.0  # seconds
_WARNING = re.compile(r"^WARNING: (.*(?:\n(?:[ \t].*)?)*)", re.MULTILINE)  # and what is indented
# As showvminfo --machinereadable prints them: a name, quoted or not, and a value, quoted or not.
_ROW = re.compile(r'^"?([^"=]+)"?="?(.*?)"?$', re.MULTILINE)


class VBoxError(BoxError):
    """VBoxManage refused; the message is its first error line, ``stderr`` its standard error."""

    def __init__(self, message: str, stderr: str) -> None:
        super().__init__(message)
        self.stderr = stderr

    @property
    def is_passing(self) -> bool:
        """Whether only the object's present state prevents it, as a machine's that powers off."""
        return any(word in self.stderr for word in _PASSING)


def run(*words: str, deadline: float = _DEADLINE) -> str:
    """Run VBoxManage, again while a passing state prevents it; returns what it printed.

    Raises:
        CommandError: it is not installed, or did not end within ``deadline`` seconds.
        VBoxError: it refused, or a state prevented it for 30 seconds.
    """
    shell.find(PROGRAM, PACKAGE)
    tries = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, VBoxError) and error.is_passing),
        stop=stop_after_delay(_PATIENCE),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    return tries(_run, words, deadline)


def _run(words: Sequence[str], deadline: float) -> str:
    done = shell.run([PROGRAM, *words], timeout=deadline, check=False)
    if done.returncode != 0:
        raise VBoxError(f"{PROGRAM} {words[0]}: {_reason(done)}", done.stderr)
    return done.stdout


def machine(uuid: str) -> dict[str, str] | None:
    """The properties of a machine by VirtualBox's names, as ``VMState``; None if there is none.

    Raises:
        BoxError: as ``run``.
    """
    try:
        said = run("showvminfo", uuid, "--machinereadable")
    except VBoxError as error:
        if _NOT_FOUND in error.stderr:
            return None
        raise
    return dict(_ROW.findall(said))


def _reason(done: shell.Completed) -> str:
    """Its first error line, and its warning before that, as of a missing kernel module."""
    errors = (line for line in done.stderr.splitlines() if line.startswith(_SAYS))
    reason = next(errors, done.stderr.strip() or "it said nothing").removeprefix(_SAYS)
    if warning := _WARNING.search(f"{done.stdout}\n{done.stderr}"):
        reason += f" ({warning[1].strip()})"
    return " ".join(reason.split())
