"""The gateway's end of rsync without its sshd: its ``transfer``, in processes that a cut ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

_TRANSFER = Path(__file__).parents[2] / "static/onbox/usr/lib/gateway/transfer"
OWNER = "ada"
_MARK = "FAR_END"
# Stands for ssh and sshd; $1 is the host.
_SSH = f"""\
#!/bin/sh
shift
export {_MARK}={{srv}} SSH_ORIGINAL_COMMAND="$*"
[ ! -e {{srv}}/away ] || exit 255
exec sh {{srv}}/transfer {OWNER}
"""


class FarEnd:
    """What is a gateway's in ``srv``: ``items`` to read, ``results/OWNER`` to write."""

    def __init__(self, srv: Path) -> None:
        self._away = srv / "away"
        self._mark = f"{_MARK}={srv}".encode()
        self.results = srv / "results" / OWNER
        self.results.mkdir()
        (srv / "run/slots").mkdir(parents=True)
        script = _TRANSFER.read_text().replace("/srv/pipeline", str(srv))
        (srv / "transfer").write_text(script.replace("/run/gateway", f"{srv}/run"))
        self.ssh = srv / "ssh"
        self.ssh.write_text(_SSH.format(srv=srv))
        self.ssh.chmod(0o755)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """End all its processes at once; meanwhile nobody comes in. Then it is as after a boot."""
        self._away.touch()
        while self._end():
            pass
        yield
        for left in self.results.glob(".new-*"):  # as ``owners`` does at boot
            shutil.rmtree(left)
        self._away.unlink()

    def _end(self) -> int:
        """Kill what runs for a connection; how many processes that were."""
        killed = 0
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone by now
                process = os.pidfd_open(int(entry.name))
                try:
                    if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                        killed += 1
                finally:
                    os.close(process)
        return killed
