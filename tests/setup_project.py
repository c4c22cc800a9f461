"""A setup project as the tests serve it: a git repository whose commits are signed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from deploys.settings import signers

NAME = "openkim-pipeline-setup"


@dataclass(frozen=True)
class Signer:
    """A key pair in ``folder`` that signs commits, made when it is first needed."""

    folder: Path
    name: str = "ada"

    @property
    def key(self) -> Path:
        key = self.folder / self.name
        if not key.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(key))
        return key

    @property
    def line(self) -> str:
        """The signer's line in a file of allowed signers."""
        return signers.line(self.name, self.key.with_name(f"{self.name}.pub").read_text())


@dataclass
class Repository:
    """One at ``path``, with hashes of this ``format``; ``signer``, if any, signs its commits."""

    path: Path
    signer: Signer | None = None
    format: str = "sha1"
    _options: tuple[str, ...] = field(default=("-c", "user.name=t", "-c", "user.email=t@t"))

    def git(self, *words: str) -> str:
        return run("git", "-C", str(self.path), *self._options, *words)

    def commit(self, message: str, branch: str = "stable") -> str:
        """Commit the files as they are, on ``branch``; returns the commit's name."""
        if not (self.path / ".git").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self.git("init", "-q", "-b", "stable", f"--object-format={self.format}")
        self.git("checkout", "-q", "-B", branch)
        self.git("add", "-A")
        if self.signer:
            key = f"user.signingKey={self.signer.key}"
            self.git("-c", "gpg.format=ssh", "-c", key, "commit", "-S", "-q", "-m", message)
        else:
            self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")


@contextlib.contextmanager
def served(folder: Path, address: str = "127.0.0.1") -> Iterator[str]:
    """``git daemon`` over the repositories in ``folder``; the URL prefix that leads to it.

    ``address`` is that of this machine as who asks sees it.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    here = (f"--base-path={folder}", "--export-all", "--reuseaddr", "--listen=127.0.0.1")
    # A session of its own, as git daemon is git's child, which would outlive git.
    daemon = subprocess.Popen(
        ["git", "daemon", *here, f"--port={port}", str(folder)], start_new_session=True
    )
    try:
        Retrying(
            retry=retry_if_result(lambda answers: not answers),
            stop=stop_after_delay(30),
            wait=wait_fixed(0.05),
        )(_listens, port)
        yield f"git://{address}:{port}"
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def run(*argv: str) -> str:
    """What a command printed, without the last newline; one that fails shows why."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout.strip()
