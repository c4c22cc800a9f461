"""Identifiers and times that are the same each time an image is made from the same input."""

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
    """Identifiers that are computed from ``seed`` and a name within the image."""

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
    """What replaces random identifiers and the present time (seconds since 1970) in an image."""

    identifiers: Identifiers
    time: int


def source_date_epoch() -> int | None:
    """The time in the variable ``SOURCE_DATE_EPOCH``; None if it is not set.

    Raises:
        PreflightError: it is not a number of seconds.
    """
    asked = os.environ.get("SOURCE_DATE_EPOCH", "")
    if asked and not (asked.isascii() and asked.isdigit()):
        raise PreflightError(f"SOURCE_DATE_EPOCH {asked!r} is not a number of seconds")
    return int(asked) if asked else None
