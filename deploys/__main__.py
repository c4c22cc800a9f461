"""What a box applies to itself: ``python3 -m deploys``, called by runsetup.

Only what may change in a running snapshot: nothing below /boot, no volumes. Exit code 0 when the
box is as it should be, 1 when not, with one line on standard error.
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
    """The settings that a provision left on the box.

    Raises:
        SettingsError: they cannot be read, or are of another version of this project.
    """
    try:
        return parse_settings(file.read_bytes(), str(file))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; provision this host first") from error


def apply(settings: Settings) -> tuple[str, ...]:
    """Make this machine what ``settings`` and this copy of the project say; what changed.

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
