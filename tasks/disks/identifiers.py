"""What would differ from one making of an image to the next, and here does not."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass

from deploys.errors import PreflightError

# LVM's own form of a UUID: 32 characters of this alphabet in groups of these lengths.
_LVM_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LVM_GROUPS = (6, 4, 4, 4, 4, 4, 6)


@dataclass(frozen=True, slots=True)
class Identifiers:
    """Identifiers that follow from ``seed`` and a name within the image."""

    seed: str

    def uuid(self, name: str) -> str:
        """An RFC 4122 UUID, for filesystems and partitions."""
        return str(uuid.UUID(bytes=self._bytes(name)[:16], version=4))

    def lvm(self, name: str) -> str:
        """A UUID as LVM writes it, ``aBc123-...``."""
        letters = "".join(_LVM_ALPHABET[byte % len(_LVM_ALPHABET)] for byte in self._bytes(name))
        ends = [sum(_LVM_GROUPS[: index + 1]) for index in range(len(_LVM_GROUPS))]
        return "-".join(
            letters[end - length : end] for end, length in zip(ends, _LVM_GROUPS, strict=True)
        )

    def serial(self, name: str) -> str:
        """A FAT volume's serial number: eight hexadecimal digits."""
        return self._bytes(name).hex()[:8]

    def _bytes(self, name: str) -> bytes:
        return hashlib.sha256(f"{self.seed}\0{name}".encode()).digest()


@dataclass(frozen=True, slots=True)
class Fixed:
    """What random identifiers and the present time (seconds since 1970) are replaced by."""

    identifiers: Identifiers
    time: int


def source_date_epoch() -> int | None:
    """``SOURCE_DATE_EPOCH``, if it is set.

    Raises:
        PreflightError: it is no number of seconds.
    """
    asked = os.environ.get("SOURCE_DATE_EPOCH", "")
    if asked and not (asked.isascii() and asked.isdigit()):
        raise PreflightError(f"SOURCE_DATE_EPOCH {asked!r} is not a number of seconds")
    return int(asked) if asked else None
