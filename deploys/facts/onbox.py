"""Facts about files on a box. One round trip reads content, mode and owner of many files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pyinfra.api.facts import FactBase


@dataclass(frozen=True)
class FileState:
    """Content, mode and owner of a regular file."""

    sha256: str
    mode: int
    owner: str
    """``user:group``"""


class FileStates(FactBase[dict[str, FileState]]):
    """The regular files among ``paths``. Other paths are left out; a symbolic link is one of them.

    No path may have a newline or a backslash, which ``sha256sum`` would escape.
    """

    default = dict

    def command(self, paths: Sequence[str]) -> str:
        quoted = " ".join(shlex.quote(path) for path in paths)
        # Both tools fail if a path is missing. Here this is an answer, not an error.
        return (
            f"{{ LC_ALL=C stat -c 'stat %a %U:%G %F:%n' -- {quoted}; "
            f"sha256sum -- {quoted}; }} 2>/dev/null || true"
        )

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
    """The target of the symbolic link ``path``. None if there is no link, or no file at its end."""

    def command(self, path: str) -> str:
        quoted = shlex.quote(path)
        return f"if [ -e {quoted} ]; then readlink -- {quoted} || true; fi"

    def process(self, output: list[str]) -> str | None:
        return output[0] if output and output[0] else None


class Entries(FactBase[set[str]]):
    """The names in ``folder``; empty if there is no such folder. No name may have a newline."""

    default = set

    def command(self, folder: str) -> str:
        return f"ls -1 -- {shlex.quote(folder)} 2>/dev/null || true"

    def process(self, output: list[str]) -> set[str]:
        return set(output)


class Present(FactBase[set[str]]):
    """Those of ``paths`` that exist, dangling links too. No path may have a newline."""

    default = set

    def command(self, paths: Sequence[str]) -> str:
        quoted = " ".join(shlex.quote(path) for path in paths)
        return f'for p in {quoted}; do if [ -e "$p" ] || [ -L "$p" ]; then echo "$p"; fi; done'

    def process(self, output: list[str]) -> set[str]:
        return set(output)


class SshdKnows(FactBase[bool]):
    """Whether the sshd on a box takes an option in its configuration, with the value ``yes``.

    OpenSSH has ``-G`` since 9.3: an older sshd is taken not to know the option.
    """

    def command(self, option: str) -> str:
        return f"/usr/sbin/sshd -G -o {shlex.quote(option)}=yes >/dev/null 2>&1 && echo yes || true"

    def process(self, output: list[str]) -> bool:
        return output == ["yes"]
