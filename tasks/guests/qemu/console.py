"""A guest's serial console, which shows the boot from its very start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# Colours, cursor movements and all else that is not plain text.
_NOISE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|[^\x20-\x7e\n]")


@dataclass(frozen=True, slots=True)
class Console:
    """The file to which QEMU writes the serial port; it grows over all boots of a guest."""

    file: Path

    @property
    def size(self) -> int:
        """Its length in bytes, as a start for ``says``."""
        return self.file.stat().st_size if self.file.exists() else 0

    def text(self, since: int = 0) -> str:
        """Its text after the first ``since`` bytes, without colours."""
        if not self.file.exists():
            return ""
        with self.file.open("rb") as stream:
            stream.seek(since)
            return _NOISE.sub(b"", stream.read()).decode("ascii")

    def says(self, text: str, since: int = 0) -> bool:
        """Whether ``text`` appears after the first ``since`` bytes."""
        return text in self.text(since)

    def tail(self, length: int = 400) -> str:
        """Its end, as one line of about ``length`` characters."""
        lines = (line.strip() for line in self.text(max(0, self.size - 4 * length)).splitlines())
        return " | ".join(line for line in lines if line)[-length:] or "(nothing)"
