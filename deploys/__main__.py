"""Apply the deploys of a box to itself: runsetup calls ``python3 -m deploys``.

They change only what may change in a running snapshot: no volumes, and nothing below /boot. The
exit code is 0 if the box is as it should be. Else it is 1, with one line on standard error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deploys.box import Box, Where, deploys
from deploys.errors import BoxError, SettingsError
from deploys.session import Session, Target
from deploys.settings import Settings
from deploys.stack import bundle
from deploys.stack.manifest import SETTINGS, parse_settings


def read_settings(file: Path) -> Settings:
    """Read the settings that ``provision`` left on the box.

    Raises:
        SettingsError: the file cannot be read, or is of another version of this project.
    """
    try:
        return parse_settings(file.read_bytes(), str(file))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; provision this host first") from error


def apply(settings: Settings) -> tuple[str, ...]:
    """Apply ``settings`` to this machine, and return the names of the operations that changed it.

    Raises:
        DeployError: an operation failed.
    """
    box = Box(where=Where.SNAPSHOT, settings=settings, project=bundle.project())
    with Session(Target("this box")) as session:
        session.prepare(deploys(box))
        return session.run()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m deploys", description=__doc__)
    parser.add_argument("--settings", type=Path, default=Path(SETTINGS), metavar="FILE")
    arguments = parser.parse_args(argv)
    try:
        changed = apply(read_settings(arguments.settings))
    except BoxError as error:
        print(f"deploys: {error}", file=sys.stderr)
        return 1
    for name in changed:
        print(f"deploys: changed: {name}")
    print(f"deploys: {len(changed)} operations changed this box")
    return 0


if __name__ == "__main__":
    sys.exit(main())
