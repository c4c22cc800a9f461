"""The sources of a part that is built here, as its row or a lock file names them."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from deploys.errors import BoxError
from deploys.settings import Settings
from deploys.settings.part import Part
from deploys.settings.quantities import shown
from deploys.stack.bundle import ROOT
from tasks.stack import git, sdist


@dataclass(frozen=True, slots=True)
class Sources:
    """A row of the stack, the hostname that its location is relative to, and the part's name.

    ``is_asked`` says that the operator named them. What only a host names is not fetched: it could
    name what the operator may read and the host may not, and what is built is run here.
    """

    part: Part
    hostname: str
    name: str
    is_asked: bool = True

    @staticmethod
    def of(settings: Settings, name: str, *, is_asked: bool = True) -> Sources:
        """The sources that the settings name for a part."""
        return Sources(settings.stack.parts[name], settings.setup.hostname, name, is_asked)

    @property
    def identity(self) -> str:
        """Tells these sources from all others by their hash, wherever they lie."""
        if self.part.source == "pip":
            return self._requirement
        return f"{self.part.source} {self.part.version or self.part.sha256}"

    @property
    def origin(self) -> str:
        """The source and the exact version: ``git:COMMIT``, ``pip:SHA256`` or ``file:SHA256``.

        Of several projects at once it is the SHA-256 of the file that locks them.
        """
        if self.part.source == "pip":
            found = re.findall(r"==\S+(?:[ \\\n]+--hash=sha256:([0-9a-f]{64}))", self._requirement)
            whole = hashlib.sha256(self._requirement.encode()).hexdigest()
            return f"pip:{found[0] if len(found) == 1 else whole}"
        return f"{self.part.source}:{self.part.version or self.part.sha256}"

    def fetch(self, folder: Path) -> Path:
        """The sources as the one ``.tar.gz`` in ``folder``, checked against their hash.

        Raises:
            BoxError: they cannot be fetched, or have another hash; or nobody here named them.
        """
        address = self.part.address(self.hostname)
        if not self.is_asked and (self.part.source != "pip" or self.part.version):
            raise BoxError(
                f"only the box names {shown(address)}, and this machine has not fetched it: "
                "provision the box with your settings first"
            )
        if self.part.source == "git":
            return git.fetch(address, self.part.version, folder / "sources.tar.gz")
        if self.part.source == "file":
            return self._copy(Path(address), folder)
        if not self.part.version:
            return sdist.fetch(self._lock, folder)
        lock = folder / f"{self.name}.txt"
        lock.write_text(self._requirement)
        return sdist.fetch(lock, folder)

    @property
    def _lock(self) -> Path:
        """The lock file of this project that pins a row without a version."""
        return ROOT / f"requirements-{self.part.location}.txt"

    @property
    def _requirement(self) -> str:
        """The row as the text of a lock file."""
        part = self.part
        if not part.version:
            return self._lock.read_text()
        return f"{part.location}=={part.version} --hash=sha256:{part.sha256}\n"

    def _copy(self, file: Path, folder: Path) -> Path:
        try:
            copy = Path(shutil.copy(file, folder))
            found = hashlib.sha256(copy.read_bytes()).hexdigest()
        except OSError as error:
            raise BoxError(f"{self.name} from {file}: {error.strerror}") from error
        if found != self.part.sha256:
            fault = f"its sha256 is {found}, not {self.part.sha256}"
            raise BoxError(f"{self.name} from {file}: {fault}")
        return copy
