"""Add items to a folder of items, and remove them; each is there whole, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kimpipeline.errors import ItemError
from kimpipeline.files import remove
from kimpipeline.kim.items import ItemFolder, load
from kimpipeline.kim.kimid import is_kimid, quoted

_ARCHIVES = (".txz", ".tar.xz", ".tgz", ".tar.gz", ".tar")


def add(items: ItemFolder, source: Path) -> str:
    """Add the item of a folder, or of an archive as KIM's website ships it; return its KIM id.

    Raises:
        ItemError: it is no item, or that version is here already; nothing was added.
    """
    with _near(items.root) as folder:
        try:
            _unpack(source, folder)
            found = list(folder.iterdir())
            if len(found) != 1 or not is_kimid(found[0].name) or found[0].is_symlink():
                names = ", ".join(sorted(quoted(each.name) for each in found)[:3]) or "nothing"
                raise ItemError(f"{source}: has {names} where one folder with a KIM id should be")
            item = load(found[0])
            subprocess.run(  # noqa: S603 - an argv list
                ["chmod", "-R", "u=rwX,go=rX", "--", str(found[0])],  # noqa: S607
                check=True,
                capture_output=True,
            )
            target = items.root / item.kimid
            if target.exists():
                raise ItemError(f"{item.kimid} is here already: a version of an item never changes")
            found[0].rename(target)
        except (OSError, shutil.Error, subprocess.CalledProcessError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ItemError(f"{source}: cannot be added: {reason}") from error
    return item.kimid


def remove_items(items: ItemFolder, kimids: list[str]) -> None:
    """Remove items.

    Raises:
        ItemError: one is not here, or an item that stays needs it; nothing was removed.
    """
    for kimid in kimids:
        if not items.has(kimid):
            raise ItemError(f"{quoted(kimid)}: there is no such item in {items.root}")
    left = ItemFolder(items.root, set(items.names()) - set(kimids))
    for item in left.items():
        for kimid in kimids:
            if kimid in item.needs:
                raise ItemError(f"{kimid} is needed by {item.kimid}: remove that first")
    for kimid in kimids:
        with _near(items.root) as folder:
            (items.root / kimid).rename(folder / kimid)


@contextlib.contextmanager
def _near(root: Path) -> Iterator[Path]:
    """An empty folder in the folder of items, whose name is no item's; it is removed at the end."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=root, prefix=".part-"))
    except OSError as error:
        raise ItemError(f"{root}: {error.strerror}") from error
    try:
        yield folder
    finally:
        remove(folder)


def _unpack(source: Path, folder: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, folder / source.resolve().name, symlinks=True)
        return
    if not source.name.endswith(_ARCHIVES) or not source.is_file():
        raise ItemError(f"{source}: is no folder, and no archive ({', '.join(_ARCHIVES)})")
    argv = ["tar", "--extract", f"--file={source.resolve()}", f"--directory={folder}"]
    argv += ["--force-local", "--no-same-owner", "--no-same-permissions"]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    if done.returncode:
        line = done.stderr.strip().partition("\n")[0].removeprefix("tar: ")
        raise ItemError(f"{source}: cannot be unpacked: {ascii(line)[1:-1]}")
