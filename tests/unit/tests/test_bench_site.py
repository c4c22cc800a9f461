"""The gateway that ``bench worker`` shows to its guest, as a tunnel sees it."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from pathlib import Path

import greenstalk
import pytest

from tests.bench.shared.site import site

pytestmark = pytest.mark.commands


def test_a_tunnel_leads_to_the_queue_and_who_waits_there_is_counted(tmp_path: Path) -> None:
    with site("127.0.0.1") as gateway:
        for name, text in gateway.files.items():
            (tmp_path / name).touch(0o600)
            (tmp_path / name).write_text(text)
        where = dict(line.split() for line in gateway.files["site"].splitlines())
        with socket.create_server(("127.0.0.1", 0)) as free:
            end = int(free.getsockname()[1])
        options: list[str | Path] = [
            *("-F", "none", "-i", tmp_path / "id_ed25519", "-p", where["Port"]),
            *("-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}", "-o", "HostKeyAlias=gateway"),
            *("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"),
        ]
        argv: list[str | Path] = [
            "ssh",
            *options,
            "-N",
            "-L",
            f"{end}:127.0.0.1:14177",
            "pipeline@127.0.0.1",
        ]
        with subprocess.Popen(argv) as tunnel:
            try:
                client = _reach(end)
                assert gateway.waiting() == 0
                client.watch("jobs")
                waits = threading.Thread(target=_reserve, args=(client,))
                waits.start()
                deadline = time.monotonic() + 10
                while not gateway.waiting():
                    assert time.monotonic() < deadline
                waits.join()
                # a guest that is reset says no word of it
                client.watch("jobs")
                lost = threading.Thread(target=_lose, args=(client,))
                lost.start()
                while not gateway.waiting():
                    assert time.monotonic() < deadline
                gateway.hang_up()
                lost.join()
                while gateway.waiting():
                    assert time.monotonic() < deadline
            finally:
                tunnel.terminate()


def _reach(port: int) -> greenstalk.Client[str]:
    deadline = time.monotonic() + 20
    pause = threading.Event()
    while True:
        try:
            return greenstalk.Client(("127.0.0.1", port))
        except OSError:
            assert time.monotonic() < deadline, "the tunnel did not come up"
        pause.wait(0.1)


def _lose(client: greenstalk.Client[str]) -> None:
    with pytest.raises(ConnectionError):
        client.reserve(timeout=60)


def _reserve(client: greenstalk.Client[str]) -> None:
    with pytest.raises(greenstalk.TimedOutError):
        client.reserve(timeout=2)
