"""The gateway that ``bench worker`` shows to its guest, as a tunnel sees it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kimpipeline.errors import QueueError
from kimpipeline.queue.jobs import Jobs
from kimpipeline.settings import QueueSettings
from tests.bench.shared.site import site
from tests.pipeline.station import until

pytestmark = pytest.mark.commands


def test_a_tunnel_leads_to_the_queue_and_who_waits_there_is_counted(tmp_path: Path) -> None:
    with site("127.0.0.1") as gateway:
        for name, text in gateway.files.items():
            (tmp_path / name).touch(0o600)
            (tmp_path / name).write_text(text)
        where = dict(line.split() for line in gateway.files["site"].splitlines())
        options: list[str | Path] = [
            *("-F", "none", "-i", tmp_path / "id_ed25519", "-p", where["Port"]),
            *("-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}", "-o", "HostKeyAlias=gateway"),
            *("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"),
        ]
        argv = [*map(str, ("ssh", *options, "-T", "pipeline@127.0.0.1", "queue"))]
        with joined(tmp_path, argv) as settings:
            assert gateway.waiting() == 0
            with Jobs(settings, "w") as jobs:
                assert gateway.waiting() == 1
                assert jobs.take(0) is None
            until(lambda: gateway.waiting() == 0)
            # a guest that is reset says no word of it
            with Jobs(settings, "w") as jobs:
                gateway.hang_up()
                with pytest.raises(QueueError):
                    jobs.take(60)
            until(lambda: gateway.waiting() == 0)


@contextlib.contextmanager
def joined(folder: Path, argv: list[str]) -> Iterator[QueueSettings]:
    """A socket whose connections are this program's input and output, as on a box."""
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(f"{folder}/.s.PGSQL.5432")
        here.listen()
        running: list[subprocess.Popen[bytes]] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with here.accept()[0] as end:
                        both = end.fileno()
                        running.append(subprocess.Popen(argv, stdin=both, stdout=both))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield QueueSettings(host=str(folder), user="root", reach=0)
        finally:
            here.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in running:
                each.kill()
                each.wait()
