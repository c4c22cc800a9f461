"""Read the settings from a TOML file and from ``--set``.

This is not in deploys/settings, because a box reads those with a Python that has no TOML parser.
"""

from __future__ import annotations

import difflib
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from deploys.errors import SettingsError
from deploys.settings import Settings, signers
from deploys.settings.quantities import parse_size, shown
from deploys.settings.stack import OPTIONAL
from tasks.desk.progress import exit_on_error
from tasks.desk.setting_tables import sections

SETTINGS_HELP = {
    "set": "A setting, as volumes.lvsize=4G, any number of times; inv settings shows all.",
    "settings": "A TOML file with settings.",
}
_LARGEST = 2**20  # bytes of a file; one with all settings has a few thousand


def load(file: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read settings from a TOML file, then from overrides such as ``volumes.lvsize=4G``.

    The override ``stack=none`` leaves out all optional parts of the stack.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or out of range. For an
            unknown setting the line names the most similar one.
    """
    tree = _read(file) if file is not None else {}
    for override in overrides:
        _set(tree, override)
    return validated(tree)


def validated(tree: dict[str, Any]) -> Settings:
    """Settings from the tables of a file.

    Raises:
        SettingsError: one is unknown or out of range; the line names it and says what it may be.
    """
    _read_signers(tree)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from error
    if settings.setup_fault:
        raise SettingsError(f"setting {settings.setup_fault}")
    return settings


def load_settings(file: str, overrides: Sequence[str] | None) -> Settings:
    """The settings of a task's flags; Exit with one line where they are wrong."""
    with exit_on_error():
        return load(Path(file) if file else None, overrides or ())


def file_size(flag: str | bool) -> int | None:
    """What ``--in-file`` says: bytes, 0 without a size, None without the flag.

    Exit with one line where the size is none.
    """
    if isinstance(flag, bool) or not flag:
        return 0 if flag else None
    with exit_on_error():
        try:
            return parse_size(flag) or 1  # no size is too small, and not the one that it needs
        except ValueError as error:
            raise SettingsError(f"--in-file: {error}") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):
            raise SettingsError(f"settings file {file}: this is no file")
        if about.st_size > _LARGEST:
            raise SettingsError(f"settings file {file}: it is larger than 1 MiB")
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"settings file {file}: {error.strerror}") from error
    except RecursionError as error:
        raise SettingsError(f"settings file {file}: too many levels of brackets") from error
    except ValueError as error:  # of TOML, of UTF-8, or of a number with too many digits
        said = " ".join(str(error).split())
        raise SettingsError(f"settings file {file}: {said[:200]}") from error


def _set(tree: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    if equals and path == "role":  # it is in no section
        tree[path] = value
        return
    if override == "stack=none":
        tree["stack"] = {part: {"source": "none"} for part in OPTIONAL}
        return
    *sections, name = path.split(".")
    if not (equals and sections and name and all(sections)):
        raise SettingsError(
            f"--set {shown(override)}: write SECTION.NAME=VALUE, as volumes.lvsize=4G"
        )
    is_list = get_origin(_fields().get(path)) is tuple
    parsed = tuple(value.replace(",", " ").split()) if is_list else value
    table: Any = tree
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise SettingsError(f"--set {shown(override)}: {shown(section)} is no section")
    table[name] = parsed


def _read_signers(tree: dict[str, Any]) -> None:
    """Replace the name of an allowed_signers file by its lines, which the box then has too."""
    setup = tree.get("setup")
    given = setup.get("signers") if isinstance(setup, dict) else None
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, list | tuple) or len(words) != 1 or " " in str(words[0]):
        return
    name = shown(words[0])
    try:
        file = Path(str(words[0])).expanduser()
        if file.exists() and not file.is_file():
            raise SettingsError(f"setting setup.signers: {name}: this is no file")
        lines = signers.parsed(file.read_text("utf-8"))
    except (OSError, RuntimeError, ValueError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise SettingsError(f"setting setup.signers: {name}: {why}") from error
    if not lines:
        raise SettingsError(f"setting setup.signers: {name} lists nobody: see inv signer.add")
    tree["setup"] = {**tree["setup"], "signers": lines}


def _fields() -> Mapping[str, Any]:
    return dict(_walk(Settings, ""))


def _walk(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for attribute, field in section.model_fields.items():
        name = field.alias or attribute
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield prefix + name, annotation
            yield from _walk(annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, annotation


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(path[:100], _fields(), n=1, cutoff=0)[0]
        return f"unknown setting {shown(path)}; did you mean {nearest!r}?"
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("greater_than_equal", "less_than_equal"):
        limits = {each.name: each.limits for table in sections() for each in table.settings}
        said = f"it must be {limits[path]}"
    return f"setting {path}: {said}" if path else f"setting {said}"
