"""What GRUB finds on a disk that a power cut left, read by GRUB's own code in place of a boot.

It reads no journal, so it may find other files than the kernel does a moment later.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from tasks.desk import shell


@dataclass(frozen=True, slots=True)
class View:
    """GRUB's menu, and the kernel and initrd of its first entry: what is the same for the same.

    Of a file that cannot be read it is what GRUB says of it.
    """

    menu: str
    kernel: str
    initrd: str


def of(disk: Path, boot: str) -> View | None:
    """What is on a disk whose /boot is ``boot``, as ``loop0,1``; None: GRUB would ask a person."""
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
