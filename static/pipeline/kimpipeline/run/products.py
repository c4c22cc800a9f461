"""Build what an item has as sources only, once, in a sandbox: its author is not trusted.

Tests, Test Drivers and Verification Checks are built in their own folder, by make or CMake. Models
and their drivers are built by CMake and the KIM API, unless they are installed. What comes of it is
kept by the item's content until the next reset: as it can be run, it belongs to no later boot.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kimpipeline.errors import ItemError, RunError
from kimpipeline.files import open_regular, remove
from kimpipeline.kim.items import Item, ItemFolder
from kimpipeline.kim.kimid import MODELS, TESTS
from kimpipeline.run import harvest
from kimpipeline.run.sandbox.confined import Confined, Sandbox
from kimpipeline.run.supervise import supervise
from kimpipeline.settings import Folders, Limits

_MAKEFILES, _CMAKE = ("GNUmakefile", "makefile", "Makefile"), "CMakeLists.txt"
# Most Tests and drivers are of Python, and have a Makefile that only says so and cleans up.
_IDLE = re.compile(r"[@+-]*\s*(:|true|rm\b[^;&|<>`$()]*|(echo|printf)\b[^;&|<>`$()]*)?")
_LIVELY = re.compile(
    r"^[-s]*include\b|^load\b|!=|\$[({](shell|eval|file)\b|RECIPEPREFIX|^[^\t#\n]*;", re.MULTILINE
)
_SOURCES = (".c", ".cc", ".cpp", ".cxx", ".f", ".f90", ".s")
_COLLECTIONS = {
    "MO": "KIM_API_PORTABLE_MODELS_DIR",
    "SM": "KIM_API_SIMULATOR_MODELS_DIR",
    "MD": "KIM_API_MODEL_DRIVERS_DIR",
}
"""Where the KIM API installs an item of this kind, and where it looks for it, by variables."""
_RUN_MAKE = 'cd "output/$1" && exec make'
_RUN_CMAKE = 'cd "output/$1" && cmake -DCMAKE_BUILD_TYPE=Release . && exec make'
# The KIM API's own build type, which is the one that its CMake files know; optimised by variables.
_RUN_INSTALL = (
    'mkdir build && cd build && cmake -DCMAKE_BUILD_TYPE=None "../$1"'
    " -DKIM_API_INSTALL_COLLECTION=ENVIRONMENT && make && exec make install"
)
_OPTIMISED = dict.fromkeys(("CFLAGS", "CXXFLAGS", "FFLAGS"), "-O3 -DNDEBUG")
_ERROR = re.compile(r"\berror\b|\*\*\*|not found", re.IGNORECASE)
_LARGEST = 2**28  # bytes of a product; they lie on the box's snapshot
_TAIL = 12_000  # bytes of what a build printed that are kept


@dataclass(frozen=True)
class Ready:
    """The items of a pair as they run: those that were built in the folders of their products.

    ``shown`` are the folders that a job sees for it, ``variables`` tell the KIM API where to look,
    and ``digests`` has the content that each product was built from.
    """

    test: Item
    others: tuple[Item, ...]
    shown: tuple[Path, ...]
    variables: dict[str, str]
    digests: dict[str, str]


def installed(patterns: Sequence[str]) -> frozenset[str]:
    """The names of the installed models; the patterns match the KIM API's folders of them."""
    root = Path("/")
    folders = (folder for pattern in patterns for folder in root.glob(pattern.lstrip("/")))
    return frozenset(entry.name for folder in folders for entry in folder.iterdir())


def how(item: Item, folders: Folders) -> str:
    """How an item is built here: a script for sh; empty if it is used as it is."""
    if item.kind in _COLLECTIONS:
        patterns = folders.models if item.kind in MODELS else folders.drivers
        if not (item.path / _CMAKE).is_file() or item.kimid in installed(patterns):
            return ""
        return _RUN_INSTALL
    made = [name for name in _MAKEFILES if (item.path / name).is_file()]
    if made:
        return "" if _is_idle(item, made[0]) else _RUN_MAKE
    return _RUN_CMAKE if (item.path / _CMAKE).is_file() else ""


def _is_idle(item: Item, makefile: str) -> bool:
    """Whether a Makefile makes nothing: its recipes only print, or remove files."""
    try:
        with open_regular(item.path / makefile) as file:
            text = file.read(2**20).decode(errors="replace").replace("\\\n", " ")
        compiled = any(path.suffix.lower() in _SOURCES for path in item.path.iterdir())
    except OSError:
        return False
    recipes = [line.strip() for line in text.splitlines() if line.startswith("\t")]
    lively = _LIVELY.search(text) or not all(_IDLE.fullmatch(line) for line in recipes)
    return not lively and not compiled and os.path.lexists(item.runner)


def lacking(item: Item, folders: Folders) -> str:
    """Why an item that has to be built cannot be built on this machine; empty if it can."""
    script = how(item, folders)
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/bin"
    for tool in ("make", "cmake"):
        if f"{tool} " in f"{script} " and not shutil.which(tool, path=path):
            return f"{item.kimid} has to be built, and there is no {tool} here: see stack.packages"
    return ""


def runnable(items: ItemFolder, folders: Folders) -> frozenset[str]:
    """The Models that can run here: those that are installed, and those that can be built."""
    here = installed(folders.models)
    others = (item for item in items.items(*MODELS) if item.kimid not in here)
    buildable = (each for each in others if how(each, folders) and not lacking(each, folders))
    return here | {each.kimid for each in buildable}


def driver_to_build(model: Item, folders: Folders) -> str:
    """The KIM id of the driver that has to be built for a Model; empty if there is none."""
    driver = model.spec.model_driver or ""
    here = not how(model, folders) or driver in installed(folders.drivers)
    return "" if here else driver


def parts(test: Item, model: Item, others: tuple[Item, ...], folders: Folders) -> list[Item]:
    """The items of a pair that have to be built here, the Model's driver among them.

    Raises:
        ItemError: the driver is neither installed nor here.
    """
    found = [test, *(each for each in others if each.kind not in TESTS), model]
    if driver := driver_to_build(model, folders):
        found.append(ItemFolder(model.path.parent).get(driver))
    return [item for item in found if how(item, folders)]


class Products:
    """What was built on this machine since its reset; without root just for this run."""

    def __init__(self, folders: Folders, scratch: Path, sandbox: Sandbox, limits: Limits) -> None:
        """``scratch`` is this run's own folder; a build has the limits of a job."""
        self._folders = folders
        self._root = (folders.work if os.geteuid() == 0 else scratch) / "built"
        self._scratch = scratch
        self._sandbox = sandbox
        self._limits = limits

    def ready(
        self,
        test: Item,
        model: Item,
        others: tuple[Item, ...],
        complaints: Path,
        beat: Callable[[], None],
    ) -> Ready:
        """Build what a pair needs and what is not built yet.

        Args:
            test: the Test.
            model: the Model.
            others: what the two need.
            complaints: the file for the end of what a build that fails has printed.
            beat: called about once a second, as for a job.

        Raises:
            ItemError: an item cannot be built here.
            RunError: a build failed, or exceeded a limit.
            SandboxError: this machine could not run it.
        """
        built: dict[str, Path] = {}
        variables, digests = {}, {}
        for item in parts(test, model, others, self._folders):
            if why := lacking(item, self._folders):
                raise ItemError(why)
            built[item.kimid] = self.product(item, complaints, beat)
            digests[item.kimid] = built[item.kimid].name
            if item.kind in _COLLECTIONS:
                variables[_COLLECTIONS[item.kind]] = str(built[item.kimid])

        def as_built(item: Item) -> Item:
            folder = built.get(item.kimid)
            return replace(item, path=folder / item.kimid) if folder else item

        shown = tuple(sorted(built.values()))
        return Ready(
            as_built(test), tuple(as_built(each) for each in others), shown, variables, digests
        )

    def product(self, item: Item, complaints: Path, beat: Callable[[], None]) -> Path:
        """The folder of an item's product, which is built if it is not there.

        It is named for the item's content; arguments and faults are those of ``ready``.
        """
        folder = self._root / item.kimid
        product = folder / digest(item)
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, beat):  # other workers wait here for the same product
            if not product.is_dir():
                for left in folder.iterdir():  # of a worker that died, or of other content
                    remove(left)
                part = Path(tempfile.mkdtemp(dir=folder))
                part.chmod(0o755)
                try:
                    self._build(item, part, complaints, beat)
                    part.rename(product)
                finally:
                    if part.exists():
                        remove(part)
        return product

    def _build(self, item: Item, target: Path, complaints: Path, beat: Callable[[], None]) -> None:
        own = self._scratch / "build"
        own.mkdir()
        try:
            room, printed = self._sandbox.room(own), own / "printed"
            printed.mkdir()
            output = room / "output"
            output.mkdir(parents=True)
            collection = _COLLECTIONS.get(item.kind)
            copy(item, (room if collection else output) / item.kimid)
            variables = {collection: str(output), **_OPTIMISED} if collection else {}
            argv = ("/bin/sh", "-c", how(item, self._folders), "sh", item.kimid)
            job = Confined(argv, room, item.path.parent, self._limits, (), variables)
            log = printed / "log"
            with log.open("wb") as said, Path(os.devnull).open("rb") as nothing:
                ended = supervise(self._sandbox, job, (nothing, said, said), printed, beat)
            if ended.fault:
                complaints.write_bytes(_tail(log))
                raise RunError(f"{item.kimid} cannot be built: {ended.fault}{_reason(log)}")
            try:
                harvest.take(room, target, self._sandbox.user, min(self._limits.disk, _LARGEST))
            except RunError as error:
                raise RunError(f"{item.kimid} cannot be built: {error}") from error
        finally:
            remove(own)


def copy(item: Item, folder: Path) -> None:
    """Copy an item's folder; raises ItemError if that cannot be done."""
    try:
        # links stay links: in the sandbox they lead only to what a job may read
        shutil.copytree(item.path, folder, symlinks=True)
    except (OSError, RecursionError) as error:
        raise ItemError(f"{item.kimid} cannot be copied: {type(error).__name__}") from error


def digest(item: Item) -> str:
    """The SHA-256 of an item's content: names, programs, links and what is in the files.

    Raises:
        ItemError: a part of it cannot be read, or is no file.
    """
    found = hashlib.sha256()
    try:
        for path in sorted(item.path.rglob("*")):
            name = os.fsencode(path.relative_to(item.path))
            if path.is_symlink():
                found.update(b"l%s\0%s\0" % (name, os.fsencode(path.readlink())))
            elif not path.is_dir():
                with open_regular(path) as file:
                    program = bool(os.fstat(file.fileno()).st_mode & 0o100)
                    content = hashlib.sha256()
                    while block := file.read(2**20):
                        content.update(block)
                found.update(b"f%s\0%d%s" % (name, program, content.digest()))
    except (OSError, RecursionError) as error:
        raise ItemError(f"{item.kimid} cannot be read: {type(error).__name__}") from error
    return found.hexdigest()


@contextlib.contextmanager
def _alone(folder: Path, beat: Callable[[], None]) -> Iterator[None]:
    """Wait until no other process is here."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    pause = threading.Event()
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            beat()
            pause.wait(0.2)
        yield
    finally:
        os.close(lock)


def _tail(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        return file.read()


def _reason(log: Path) -> str:
    """The first error that a build printed at its end, after a colon; empty if there is none."""
    lines = _tail(log).decode(errors="replace").splitlines()
    told = [line.strip() for line in lines if _ERROR.search(line)]
    return f": {ascii(told[0])[1:-1][:300]}" if told else ""
