"""The state of files on a box: content, mode and owner of many in one round trip."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pyinfra.api.facts import FactBase


@dataclass(frozen=True)
class FileState:
    """A regular file as it lies on the box."""

    sha256: str
    mode: int
    owner: str
    """``user:group``"""


class FileStates(FactBase[dict[str, FileState]]):
    """The regular files among ``paths``; what is missing or of another kind is left out.

    A symbolic link is of another kind: what is wanted is a file at that very name. Paths hold
    neither newlines nor backslashes (``sha256sum`` would escape them).
    """

    def command(self, paths: Sequence[str]) -> str:
        quoted = " ".join(shlex.quote(path) for path in paths)
        # Both tools fail when one path is missing: that is an answer here, not a fault.
        return (
            f"{{ LC_ALL=C stat -c 'stat %a %U:%G %F:%n' -- {quoted}; "
            f"sha256sum -- {quoted}; }} 2>/dev/null || true"
        )

    @staticmethod
    def default() -> dict[str, FileState]:
        return {}

    def process(self, output: list[str]) -> dict[str, FileState]:
        sums: dict[str, str] = {}
        modes: dict[str, tuple[int, str]] = {}
        for line in output:
            if line.startswith("stat "):
                _, mode, owner, rest = line.split(" ", 3)
                kind, _, path = rest.partition(":")
                if kind in ("regular file", "regular empty file"):
                    modes[path] = int(mode, 8), owner
            else:
                digest, _, path = line.partition("  ")
                sums[path] = digest
        return {path: FileState(sums[path], *modes[path]) for path in modes if path in sums}


class LinkTarget(FactBase[str | None]):
    """Where the symbolic link ``path`` points, if that exists; else None."""

    def command(self, path: str) -> str:
        quoted = shlex.quote(path)
        return f"if [ -e {quoted} ]; then readlink -- {quoted} || true; fi"

    def process(self, output: list[str]) -> str | None:
        return output[0] if output and output[0] else None


class Entries(FactBase[set[str]]):
    """The names in ``folder``; none if there is no such folder. No name holds a newline."""

    def command(self, folder: str) -> str:
        return f"ls -1 -- {shlex.quote(folder)} 2>/dev/null || true"

    @staticmethod
    def default() -> set[str]:
        return set()

    def process(self, output: list[str]) -> set[str]:
        return set(output)
