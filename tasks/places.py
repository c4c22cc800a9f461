"""Where this checkout keeps what it makes; all of it can be made again."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".box"
GUEST = STATE / "guest"
BUNDLES = STATE / "bundles"
