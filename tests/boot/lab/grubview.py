"""What GRUB would find on a disk after a power cut, read with GRUB's own code without a boot.

GRUB does not replay the journal, so it may find other files than the kernel does later.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from tasks.desk import shell


@dataclass(frozen=True, slots=True)
class View:
    """Checksums of GRUB's menu and of the kernel and initrd of its first entry.

    For a file that cannot be read, the field is GRUB's error instead.
    """

    menu: str
    kernel: str
    initrd: str


def of(disk: Path, boot: str) -> View | None:
    """Read a disk whose /boot is ``boot``, as ``loop0,1``; None if GRUB has no entry to start."""
    menu = _grub(disk, "cat", f"({boot})/grub/grub.cfg")
    kernel = re.search(r"^\s*linux\s+(/\S+)", menu, re.M)
    initrd = re.search(r"^\s*initrd\s+(/\S+)", menu, re.M)
    if not (kernel and initrd):
        return None
    sums = [_grub(disk, "crc", f"({boot}){found[1]}") for found in (kernel, initrd)]
    return View(hashlib.sha256(menu.encode()).hexdigest()[:16], *sums)


def _grub(disk: Path, *words: str) -> str:
    done = shell.run(["grub-fstest", disk, *words], check=False)
    return done.stdout + done.stderr.replace(str(disk), "disk")
