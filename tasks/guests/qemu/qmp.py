"""The QEMU Machine Protocol (QMP), one command at a time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from qemu.qmp import QMPClient, QMPError

from deploys.errors import BoxError

_DEADLINE = 30.0  # seconds; an emulated machine under load answers late


class QmpError(BoxError):
    """QEMU did not answer, or refused a command."""


def command(socket: Path, name: str, **arguments: object) -> object:
    """Run a command; returns what QEMU answers.

    Raises:
        QmpError: nothing listens on the socket, or QEMU refused.
    """
    try:
        return asyncio.run(_command(socket, name, arguments))
    except (QMPError, OSError, TimeoutError) as error:
        # Only the first line: qemu.qmp appends the whole exchange.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise QmpError(f"QEMU's monitor {socket}: {name}: {reason}") from error


async def _command(socket: Path, name: str, arguments: dict[str, object]) -> object:
    client = QMPClient("box")
    # A socket's path may have at most 107 bytes; by the folder's descriptor it is always short.
    folder = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        await asyncio.wait_for(client.connect(f"/proc/self/fd/{folder}/{socket.name}"), _DEADLINE)
        try:
            return await asyncio.wait_for(client.execute(name, arguments), _DEADLINE)
        finally:
            await client.disconnect()
    finally:
        os.close(folder)
