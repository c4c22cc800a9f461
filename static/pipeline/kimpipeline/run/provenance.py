"""Where a result comes from: the software of the box, and its boot."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def provenance(root: Path = Path("/")) -> dict[str, str]:
    """The provenance on the machine whose filesystem is ``root``; unknown values are left out.

    ``manifest`` is the hash in /etc/pipeline-release. ``reset`` is the reset's verdict on the
    snapshot that the machine runs on, or golden in maintenance.
    """
    release = _text(root / "etc/pipeline-release")
    manifest = re.search(r"^MANIFEST=([0-9a-f]{64})$", release, re.MULTILINE)
    resnap = root / "run/resnap"
    maintenance = "golden" if (resnap / "golden").exists() else ""
    found = {
        "manifest": manifest[1] if manifest else "",
        "reset": _text(resnap / "in-snapshot").strip() or maintenance,
        "boot-id": _text(root / "proc/sys/kernel/random/boot_id").strip(),
        "kernel": platform.release(),
        "hostname": platform.node(),
    }
    return {name: value for name, value in found.items() if value}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
