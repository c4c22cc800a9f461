"""Run VBoxManage, VirtualBox's command line."""

from __future__ import annotations

import re
from collections.abc import Callable

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from deploys.errors import BoxError
from tasks.desk import shell

PROGRAM = "VBoxManage"
PACKAGE = "virtualbox, which only unstable has, in contrib"
_DEADLINE = 120.0  # seconds; its first run starts a service
_SAYS = f"{PROGRAM}: error: "
_NOT_FOUND = "VBOX_E_OBJECT_NOT_FOUND"
_LOCKED = ("VBOX_E_INVALID_OBJECT_STATE", "VBOX_E_INVALID_VM_STATE", "is already locked")
_WARNING = re.compile(r"^WARNING: (.*(?:\n(?:[ \t].*)?)*)", re.MULTILINE)  # and what is indented
# As showvminfo --machinereadable prints them: a name, quoted or not, and a value, quoted or not.
_ROW = re.compile(r'^"?([^"=]+)"?="?(.*?)"?$', re.MULTILINE)


class VBoxError(BoxError):
    """VBoxManage refused; the message is its first error line, ``stderr`` its standard error."""

    def __init__(self, message: str, stderr: str) -> None:
        super().__init__(message)
        self.stderr = stderr

    @property
    def locked(self) -> bool:
        """Whether the object is locked, as by a machine that is powering off."""
        return any(word in self.stderr for word in _LOCKED)


def run(*words: str, deadline: float = _DEADLINE) -> str:
    """Run VBoxManage; returns what it printed.

    Raises:
        CommandError: it is not installed, or did not end within ``deadline`` seconds.
        VBoxError: it refused.
    """
    shell.find(PROGRAM, PACKAGE)
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


def when_unlocked(action: Callable[[], object]) -> None:
    """Repeat an action while a lock prevents it; a machine keeps its lock briefly after power-off.

    Raises:
        VBoxError: it is still refused after 30 seconds, or for another reason.
    """
    tries = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, VBoxError) and error.locked),
        stop=stop_after_delay(30),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    tries(action)


def _reason(done: shell.Completed) -> str:
    """Its first error line, and its warning before that, as of a missing kernel module."""
    errors = (line for line in done.stderr.splitlines() if line.startswith(_SAYS))
    reason = next(errors, done.stderr.strip() or "it said nothing").removeprefix(_SAYS)
    if warning := _WARNING.search(f"{done.stdout}\n{done.stderr}"):
        reason += f" ({warning[1].strip()})"
    return " ".join(reason.split())
