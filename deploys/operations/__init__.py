"""Operations that pyinfra does not have: each yields the commands that change a host.

What one sends goes under a name of its own, and is checked on the host before it is used.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from pyinfra.api.command import FileUploadCommand, StringCommand

from deploys.settings import paths

Commands = Generator[StringCommand | FileUploadCommand, None, None]


@dataclass(frozen=True)
class Upload:
    """A file that is sent for one script, which runs as root after it.

    ``source`` is the file on this machine, or its content. ``suffix`` ends its name on the host.
    """

    source: Path | bytes = field(repr=False)
    suffix: str = ""
    _token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def path(self) -> str:
        """Where it is on the host: no other session has this name."""
        return f"{paths.UPLOADS}{self._token}{self.suffix}"

    @property
    def command(self) -> FileUploadCommand:
        if isinstance(self.source, bytes):
            return FileUploadCommand(io.BytesIO(self.source), self.path)
        return FileUploadCommand(str(self.source), self.path)

    @property
    def sha256(self) -> str:
        """The digest of what is sent.

        Raises:
            OSError: the file cannot be read.
        """
        if isinstance(self.source, bytes):
            return hashlib.sha256(self.source).hexdigest()
        return hashlib.sha256(self.source.read_bytes()).hexdigest()


def arrived(*uploads: Upload) -> tuple[str, str]:
    """The first lines of a script that uses uploads: it ends if one of them is not what was sent.

    However the script ends, the uploads are removed.
    """
    files = " ".join(each.path for each in uploads)
    sums = "\\n".join(f"{each.sha256}  {each.path}" for each in uploads)
    return (
        f"trap 'rm -f {files}' EXIT",
        f"printf '{sums}\\n' | sha256sum --check --status "
        "|| { echo 'what was sent did not arrive whole: try again' >&2; exit 1; }",
    )
