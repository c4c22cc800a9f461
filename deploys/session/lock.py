"""One operator at a time changes a host.

The root shell of a pass keeps a file on the host locked, with flock(1), for as long as it lives. So
the lock ends with the connection, and a command that still runs without one keeps it. A reboot ends
it too: a note in /persistent then keeps the place, until the same pass comes back or some minutes
after the boot.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shlex
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone

from paramiko import SSHClient, SSHException
from pydantic import BaseModel, ConfigDict, ValidationError

from deploys.errors import PreflightError
from deploys.session.root_shell import Answer, RootShell
from deploys.settings.paths import UPLOADS

LOCK = "/run/pipeline-operator"
NOTE = "/persistent/log/operator"

# Seconds after a boot in which the pass that asked for it comes back.
_COMES_BACK = 300
# The connection ends if this machine says nothing for so many seconds. sshd by itself notices after
# hours that a machine has vanished.
_SILENCE = 120
_EVERY = 15

# Seconds to wait for a lock: of a pass that may just be ending, and of one that has ended.
_PATIENCE, _LAST_COMMAND = 2.0, 900.0

_HELD, _BOOTS = 3, 4
_CACHE, _, _SENT = UPLOADS.rpartition("/")  # a host that was killed may have left some

# $1 is the lock's file, open as descriptor 9, $2 the note; $3 is this pass, $4 what the lock says
# of it, $5 a pass that is known to be over; $6 is how many seconds to wait. A connection that this
# pass lost may end a little later than it noticed.
_TAKE = f"""
set -u
if ! flock -w "$6" 9 && ! {{ grep -qsF "$3" "$1" && flock -w 10 9; }}; then
    cat "$1"
    exit {_HELD}
fi
if [ -f "$2" ] && [ ! -L "$2" ] && read -r boot began said <"$2"; then
    read -r now _ </proc/uptime
    [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || began=0
    case $began in '' | *[!0-9]*) began=0 ;; esac
    case $said in
    *"$3"*) ;;
    *"$5"*) rm "$2" ;;
    *)
        if [ $((${{now%.*}} - began)) -lt {_COMES_BACK} ]; then
            printf '%s\n' "$said"
            exit {_BOOTS}
        fi
        rm "$2"
        ;;
    esac
fi
printf '%s\n' "$4" >"$1"
find {_CACHE} -maxdepth 1 -name '{_SENT}*' -mmin +60 -delete || :
"""

# $1 is the note, $2 what it says. A host that is no box yet has no place for it.
_KEEP_PLACE = """
set -eu
mountpoint -q /persistent || exit 0
read -r now _ </proc/uptime
umask 077
mkdir -p "${1%/*}"
rm -rf "$1"
printf '%s %s %s\n' "$(cat /proc/sys/kernel/random/boot_id)" "${now%.*}" "$2" >"$1"
sync -f "$1"
"""

# Its parent is this connection's sshd. It ends without an answer when the connection ends.
_WATCH = f"""
while :; do
    word=$(timeout {_SILENCE} head -c 1) || {{ kill "$PPID"; exit; }}
    [ "$word" ] || exit 0
done
"""


class Holder(BaseModel):
    """Whoever has the lock: USER@MACHINE, the task, when it began (seconds since 1970).

    ``process`` is its process on ``machine``; ``token`` is of this one pass.
    """

    model_config = ConfigDict(frozen=True)

    who: str
    task: str
    since: int
    machine: str
    process: int
    token: str

    @property
    def is_over(self) -> bool:
        """Whether it is a pass of this machine that has ended."""
        if self.machine != socket.gethostname():
            return False
        if self.process == os.getpid():
            return self.token not in _going_on
        try:
            os.kill(self.process, 0)
        except PermissionError:
            return False  # it is another user's
        except (ProcessLookupError, OverflowError):
            return True
        return False


# The tokens of this process's passes.
_going_on: set[str] = set()


@dataclass
class Lock:
    """The lock that one pass of ``task`` has on one host, over all its connections and boots."""

    task: str
    _token: str = field(default_factory=lambda: secrets.token_hex(8))
    _since: int = field(default_factory=lambda: int(time.time()))

    def __enter__(self) -> Lock:
        _going_on.add(self._token)
        return self

    def __exit__(self, *_: object) -> None:
        _going_on.discard(self._token)

    def take(self, client: SSHClient, shell: RootShell) -> None:
        """Take the lock for a new connection; it is held until the shell ends.

        Raises:
            PreflightError: another pass has the lock; the line says who, with what, since when.
            SSHException: the connection broke, or an earlier one of this pass has not ended yet.
        """
        answer = self._ask(shell)
        if answer.code in (_HELD, _BOOTS) and (other := _holder(answer.stdout)) and other.is_over:
            # It was interrupted; the last command that it started may go on.
            answer = self._ask(shell, other.token, _LAST_COMMAND)
        if answer.code in (_HELD, _BOOTS):
            raise self._refusal(answer.stdout, boots=answer.code == _BOOTS)
        if answer.code != 0:
            raise PreflightError(f"it cannot be locked: {answer.stderr.strip()}")
        _keep_alive(client)

    def release(self, shell: RootShell) -> None:
        """Give the lock back before the shell ends.

        Raises:
            SSHException: the connection broke.
            TimeoutError: the host does not answer any more, as one that was shut off.
        """
        shell.run(f"rm -f {shlex.quote(NOTE)}", timeout=_EVERY)
        shell.let_go(timeout=_EVERY)

    def keep_place(self, shell: RootShell) -> None:
        """Before a reboot: have others refused until this pass is back.

        Raises:
            SSHException: the connection broke.
        """
        shell.run(shlex.join(("sh", "-c", _KEEP_PLACE, "keep", NOTE, self._own_note)))

    def _ask(self, shell: RootShell, over: str = "", patience: float = 0) -> Answer:
        known = (self._token, self._own_note, over or self._token, f"{patience or _PATIENCE:g}")
        command = shlex.join(("sh", "-c", _TAKE, "take", LOCK, NOTE, *known))
        return shell.hold(LOCK, command)

    @property
    def _own_note(self) -> str:
        machine = socket.gethostname()
        return Holder(
            who=f"{_user()}@{machine}",
            task=self.task,
            since=self._since,
            machine=machine,
            process=os.getpid(),
            token=self._token,
        ).model_dump_json()

    def _refusal(self, note: str, *, boots: bool) -> Exception:
        other = _holder(note)
        if other is None:
            return PreflightError("somebody else changes it at this moment: try again later")
        if other.token == self._token:
            return SSHException("the connection before has not ended yet")
        since = datetime.fromtimestamp(other.since, timezone.utc)
        return PreflightError(
            f"{other.who} changes it: {other.task}, since {since:%Y-%m-%d %H:%M:%S} UTC"
            f"{', and has it boot' if boots else ''}; try again when that has ended"
        )


def _holder(said: str) -> Holder | None:
    with contextlib.suppress(ValidationError, OverflowError, OSError, ValueError):
        holder = Holder.model_validate_json(said.strip())
        datetime.fromtimestamp(holder.since, timezone.utc)
        return holder
    return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have a user without a name
        return str(os.getuid())


def _keep_alive(client: SSHClient) -> None:
    """Have the host end the connection when nothing is heard from this machine any more.

    A host whose sshd allows no second session goes without.
    """
    transport = client.get_transport()
    assert transport is not None
    try:
        channel = transport.open_session(timeout=_EVERY)
        channel.exec_command(f"exec sh -c {shlex.quote(_WATCH)}")
    except SSHException:
        return

    channel.settimeout(_EVERY)

    def speak() -> None:
        with contextlib.suppress(OSError, EOFError, SSHException):
            while True:
                channel.sendall(b".")
                with contextlib.suppress(TimeoutError):
                    if not channel.recv(1):
                        return

    threading.Thread(target=speak, daemon=True).start()
