"""The log of a job, short enough for a message."""

from __future__ import annotations

from pathlib import Path

from kimpipeline.queue.messages import LOG


def tail(folder: Path) -> str:
    """The end of each log in a results directory; what cannot be printed becomes ``?``."""
    parts = []
    for name in ("pipeline.stdout", "pipeline.stderr", "kim.log"):
        path = folder / name
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - LOG // 4))
                text = file.read().decode(errors="replace")
            printable = "".join(
                each if each.isprintable() or each == "\n" else "?" for each in text
            )
            parts.append(f"== {name}\n{printable}")
    return "\n".join(parts)
