"""What ssh-keyscan says of a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.desk.ssh_keys import offered_key
from tests.unit.onbox.fakeroot import Tree

pytestmark = pytest.mark.commands

BANNER = "# 127.0.0.1:22 SSH-2.0-OpenSSH_10.0p2 Debian-7"


@pytest.mark.parametrize(
    ("printed", "key"),
    [
        ("[127.0.0.1]:22 ssh-ed25519 AAAA", "ssh-ed25519 AAAA"),
        (f"{BANNER}\n[127.0.0.1]:22 ssh-ed25519 AAAA", "ssh-ed25519 AAAA"),
        (BANNER, ""),
        ("", ""),
    ],
)
def test_a_banner_is_no_key(
    printed: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSH 10 prints it on standard output, as a comment."""
    Tree(tmp_path).program("ssh-keyscan", f"cat <<'END'\n{printed}\nEND")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert offered_key("127.0.0.1", 22) == key
