"""The files of one commit of a git repository, wherever that is."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deploys.errors import BoxError
from tasks.desk import shell

# git asks nothing on a terminal, and no URL starts a program.
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_TERMINAL_PROMPT": "0",
}
_ALL = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_DEADLINE = 900


def fetch(url: str, commit: str, tar: Path) -> Path:
    """Write the files of a commit to ``tar``, a ``.tar.gz`` in which all lie in one folder.

    git checks the files against the commit's hash. Submodules are not fetched.

    Args:
        url: as git takes it, or an absolute path.
        commit: its whole hash, 40 or 64 hexadecimal digits.
        tar: the same commit gives the same bytes.

    Raises:
        BoxError: the repository cannot be reached, or lacks the commit.
    """
    with tempfile.TemporaryDirectory(dir=tar.parent, prefix=".git-") as name:
        kind = "sha256" if len(commit) == 64 else "sha1"
        _git(name, "init", "--quiet", "--bare", "--template=", f"--object-format={kind}")
        # Not every server serves a commit by its hash; all serve branches and tags.
        for wanted in (("--depth=1", "--", url, commit), ("--", url, *_ALL)):
            fetched = _git(name, "fetch", "--quiet", "--no-tags", *wanted, check=False)
            if _has(name, commit):
                break
        else:
            raise BoxError(_fault(url, commit, fetched))
        _git(name, "archive", "--format=tar.gz", "--prefix=sources/", f"--output={tar}", commit)
    return tar


def _has(folder: str, commit: str) -> bool:
    found = _git(folder, "rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}", check=False)
    # A tag has a hash of its own.
    return found.stdout.strip() == commit


def _fault(url: str, commit: str, fetched: shell.Completed) -> str:
    if not fetched.returncode:
        return f"{url} has no commit {commit}"
    lines = [line for line in fetched.stderr.splitlines() if line.startswith("fatal: ")]
    why = lines[0].removeprefix("fatal: ") if lines else f"git exited with {fetched.returncode}"
    return f"{url} cannot be fetched: {why}"


def _git(folder: str, *words: str, check: bool = True) -> shell.Completed:
    argv = ["git", f"--git-dir={folder}", *words]
    return shell.run(argv, env=_ENVIRONMENT, timeout=_DEADLINE, check=check)
