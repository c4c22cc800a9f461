"""SSH keys: ours to log in with, and the host keys of machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from tasks.desk import shell


class Identity(BaseModel):
    """A machine's user and public host key; ``user_key`` is the file of our private key."""

    model_config = ConfigDict(frozen=True)

    user: str
    user_key: Path
    host_key: str


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach a machine over SSH.

    ``host`` and ``port`` are as seen from here. ``key`` is the file of our private key,
    ``known_hosts`` the file with the host key and nothing else.
    """

    host: str
    port: int
    user: str
    key: Path
    known_hosts: Path

    def ssh_argv(self, *command: str) -> list[str]:
        """The ssh command line that logs in, or runs ``command`` on the machine."""
        return [
            "ssh",
            *("-i", str(self.key), "-p", str(self.port)),
            *("-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"),
            *("-o", f"UserKnownHostsFile={self.known_hosts}"),
            f"{self.user}@{self.host}",
            *command,
        ]


def make_key(private: Path) -> str:
    """Make an ed25519 key pair unless it exists; returns the public key, one line.

    Raises:
        CommandError: ssh-keygen is missing or failed.
    """
    private.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{private}.lock"):
        if not private.exists():
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "openkim-box"]
            shell.run([*argv, "-f", private])
        return private.with_name(f"{private.name}.pub").read_text().strip()


def offered_key(host: str, port: int) -> str:
    """Ask an SSH server for its ed25519 host key, one line; empty: there is no answer.

    Raises:
        CommandError: ssh-keyscan is missing.
    """
    argv = ["ssh-keyscan", "-T", "5", "-t", "ed25519", "-p", str(port), host]
    said = shell.run(argv, timeout=30, check=False).stdout
    # OpenSSH 10 prints the server's banner as a comment, whether or not a key follows.
    keys = [line for line in said.splitlines() if not line.startswith("#")]
    return keys[0].strip().partition(" ")[2] if keys else ""  # without the host's name


def write_known_hosts(file: Path, host: str, port: int, public: str) -> None:
    """Write a known_hosts file with the key of one machine (``TYPE BASE64 [COMMENT]``)."""
    kind, key = public.split()[:2]
    file.write_text(f"[{host}]:{port} {kind} {key}\n")
