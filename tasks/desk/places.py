"""The folders in which this checkout keeps what it makes; all of it can be made again.

They are in ``.box`` of the checkout, or in the folder that ``OPENKIM_BOX_STATE`` names.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("OPENKIM_BOX_STATE") or ROOT / ".box").absolute()
GUEST = STATE / "guest"
LOGS = STATE / "logs"
BUNDLES = STATE / "bundles"
IMAGES = STATE / "images"
BOX = STATE / "box.raw"
USER_KEY = STATE / "id_ed25519"
PACKAGES = STATE / "packages"
