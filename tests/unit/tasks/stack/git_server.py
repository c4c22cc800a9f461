"""Git repositories of a test, and git's own server for them on the loopback."""

from __future__ import annotations

import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WHO = ("-c", "user.name=t", "-c", "user.email=t@t")


def run(folder: Path, *words: str) -> str:
    """What git printed, run in a folder."""
    argv = ["git", *_WHO, *words]
    done = subprocess.run(argv, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, content: str, branch: str = "main") -> str:
    """The commit of a repository, made if there is none, whose one file holds ``content``."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        run(folder, "init", "--quiet", f"--initial-branch={branch}")
    (folder / "file").write_text(content)
    run(folder, "add", "--all")
    run(folder, "commit", "--quiet", "--message", content)
    return run(folder, "rev-parse", "HEAD")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL below which the repositories in ``folder`` are had over git's protocol."""
    daemon = ["git", "daemon", "--inetd", "--export-all", f"--base-path={folder}", str(folder)]

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            subprocess.run(daemon, stdin=self.request, stdout=self.request, check=False)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"git://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
