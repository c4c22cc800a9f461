"""Keys that sign the setup project, and the list of those that a box believes."""

from __future__ import annotations

from pathlib import Path

from deploys.errors import BoxError
from deploys.settings import signers
from tasks.desk import shell, whole_files

SIGNERS = "~/.ssh/openkim-box.signers"
"""The list, where no other is named. ``setup.signers`` names it for a provision."""
KEYS = "~/.ssh/openkim-box.NAME"
"""A signer's private key, where no other is named."""


def add(name: str, key: str, file: str, *, force: bool) -> tuple[Path, Path]:
    """Put a signer on the list, with a key that exists or is made; the files of key and list.

    A pair of which only the public half is here, as one that an agent or a token has, will do.

    Args:
        name: of the signer; one on the list already is refused, unless ``force`` is given.
        key: the private key's file; empty: ``KEYS``. It is made if neither half exists, and anew
            with ``force``.
        file: the list; empty: ``SIGNERS``.

    Raises:
        BoxError: the name or the key is malformed, is there already, or cannot be written.
    """
    if not signers.NAME.fullmatch(name):
        raise BoxError(f"{name!r}: a signer's name is letters, digits and . _ @ + -")
    lists = Path(file or SIGNERS).expanduser().absolute()
    private = Path(key or KEYS.replace("NAME", name)).expanduser().absolute()
    public = private.with_name(f"{private.name}.pub")
    try:
        there = read(lists)
        if name in map(signers.name_of, there) and not force:
            raise BoxError(
                f"{name} is in {lists}: add a signer of another name, and remove {name} when no "
                "box needs it; --force gives it another key at once"
            )
        if force or not (private.exists() or public.exists()):
            _make(private, public, name)
        made = signers.line(name, public.read_text("utf-8"))
        _write(lists, [*(each for each in there if signers.name_of(each) != name), made])
    except ValueError as error:
        raise BoxError(f"{public}: {error}") from error
    except OSError as error:
        raise BoxError(f"{error.filename}: {error.strerror}") from error
    return private, lists


def remove(name: str, file: str) -> Path:
    """Take a signer off the list; its key stays. Returns the file of the list.

    Raises:
        BoxError: there is no such signer, or no other: a box without signers believes everybody.
    """
    lists = Path(file or SIGNERS).expanduser().absolute()
    there = read(lists)
    left = [each for each in there if signers.name_of(each) != name]
    if left == there:
        raise BoxError(f"{lists} has no signer {name}")
    if not left:
        raise BoxError(f"{name} is the only signer in {lists}: add another one first")
    _write(lists, left)
    return lists


def read(file: Path) -> list[str]:
    """The lines of a list that may not be there yet.

    Raises:
        BoxError: it cannot be read.
    """
    try:
        return list(signers.parsed(file.read_text("utf-8")))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise BoxError(f"{file}: {getattr(error, 'strerror', None) or error}") from error


def _make(private: Path, public: Path, name: str) -> None:
    """A new pair in the place of the old one; ssh-keygen makes a private key for its user alone."""
    private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = private.with_name(f".{private.name}.new")
    for each in (new, new.with_name(f"{new.name}.pub")):
        each.unlink(missing_ok=True)
    shell.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", new])
    new.with_name(f"{new.name}.pub").replace(public)
    new.replace(private)


def _write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with whole_files.replaced(file) as new:
        new.write_text("".join(f"{line}\n" for line in lines), "utf-8")
