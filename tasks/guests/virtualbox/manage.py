"""VirtualBox through its command line, one command at a time."""

from __future__ import annotations

import re
from collections.abc import Callable

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from deploys.errors import BoxError
from tasks.desk import shell

PROGRAM = "VBoxManage"
PACKAGE = "virtualbox, in contrib of unstable alone"
_DEADLINE = 120.0  # seconds; it starts a service of its own at first
_SAYS = f"{PROGRAM}: error: "
_NOT_FOUND = "VBOX_E_OBJECT_NOT_FOUND"
_LOCKED = ("VBOX_E_INVALID_OBJECT_STATE", "VBOX_E_INVALID_VM_STATE", "is already locked")
_WARNING = re.compile(r"^WARNING: (.*(?:\n(?:[ \t].*)?)*)", re.MULTILINE)  # and what is indented
# As showvminfo --machinereadable prints them: a name, quoted or not, and a value, quoted or not.
_ROW = re.compile(r'^"?([^"=]+)"?="?(.*?)"?$', re.MULTILINE)


class VBoxError(BoxError):
    """VBoxManage refused; the message is its own first line, ``said`` all that it said."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said

    @property
    def locked(self) -> bool:
        """Whether something else, a machine that goes off for one, still holds the object."""
        return any(word in self.said for word in _LOCKED)


def run(*words: str, deadline: float = _DEADLINE) -> str:
    """What VBoxManage printed.

    Raises:
        CommandError: it is not installed, or not done after ``deadline`` seconds.
        VBoxError: it refused.
    """
    shell.find(PROGRAM, PACKAGE)
    done = shell.run([PROGRAM, *words], timeout=deadline, check=False)
    if done.returncode != 0:
        raise VBoxError(f"{PROGRAM} {words[0]}: {_reason(done)}", done.stderr)
    return done.stdout


def machine(uuid: str) -> dict[str, str] | None:
    """What VirtualBox says of a machine, by its own names, as ``VMState``; None: there is none.

    Raises:
        BoxError: as ``run``.
    """
    try:
        said = run("showvminfo", uuid, "--machinereadable")
    except VBoxError as error:
        if _NOT_FOUND in error.said:
            return None
        raise
    return dict(_ROW.findall(said))


def when_unlocked(action: Callable[[], object]) -> None:
    """Do it again while it is refused for a lock: a machine that is off holds its own a while.

    Raises:
        VBoxError: it is refused still, after half a minute, or for another reason.
    """
    tries = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, VBoxError) and error.locked),
        stop=stop_after_delay(30),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    tries(action)


def _reason(done: shell.Completed) -> str:
    """Its first line of error, and what it warns of before: that its kernel module is missing."""
    errors = (line for line in done.stderr.splitlines() if line.startswith(_SAYS))
    reason = next(errors, done.stderr.strip() or "it said nothing").removeprefix(_SAYS)
    if warning := _WARNING.search(f"{done.stdout}\n{done.stderr}"):
        reason += f" ({warning[1].strip()})"
    return " ".join(reason.split())
