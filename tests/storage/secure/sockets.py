"""Where the programs of a box listen, and where the docs say that those of a secured one do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks.desk.places import ROOT

LISTEN = "ss --no-header -ltuxn --vsock"
"""Prints each socket that listens: of TCP, UDP, unix and vsock."""


def listening(lines: Iterable[str]) -> set[str]:
    """What ``LISTEN`` printed as the docs write it: ``tcp PORT``, or the path of a unix socket."""
    return {_socket(*line.split()) for line in lines}


def _socket(kind: str, _state: str, _received: str, _sent: str, local: str, *_peer: str) -> str:
    if kind.startswith("u_"):
        return local
    address, _colon, port = local.rpartition(":")
    return f"{kind} {local if address.startswith('127.') else port}"


def documented() -> list[str]:
    """The sockets of a secured box that the docs name, as patterns."""
    page = (ROOT / "docs/gateway-and-workers.md").read_text()
    _, _, section = page.partition("### Every socket of a secured box\n")
    rows = re.findall(r"^\| (`.*?`) \|", section.partition("\n#")[0], re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(.*?)`", row)]
