"""Read the settings from a TOML file and from ``--set``.

This is not in deploys/settings, because a box reads those with a Python that has no TOML parser.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from deploys.errors import SettingsError
from deploys.settings import Settings, signers
from deploys.settings.stack import OPTIONAL
from tasks.desk.progress import exit_on_error

SETTINGS_HELP = {
    "set": "A setting, as volumes.lvsize=4G, any number of times; inv settings shows all.",
    "settings": "A TOML file with settings.",
}


def load(file: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read settings from a TOML file, then from overrides such as ``volumes.lvsize=4G``.

    The override ``stack=none`` leaves out all optional parts of the stack.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or out of range. For an
            unknown setting the line names the most similar one.
    """
    tree: dict[str, Any] = {}
    if file is not None:
        try:
            tree = tomllib.loads(file.read_text("utf-8"))
        except OSError as error:
            raise SettingsError(f"settings file {file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"settings file {file}: {error}") from error
    for override in overrides:
        _set(tree, override)
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
        raise SettingsError(f"--set {override!r}: write SECTION.NAME=VALUE, as volumes.lvsize=4G")
    is_list = get_origin(_fields().get(path)) is tuple
    parsed = tuple(value.replace(",", " ").split()) if is_list else value
    table: Any = tree
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):  # the file is wrong; the validation reports it
            return
    table[name] = parsed


def _read_signers(tree: dict[str, Any]) -> None:
    """Replace the name of an allowed_signers file by its lines, which the box then has too."""
    setup = tree.get("setup")
    given = setup.get("signers") if isinstance(setup, dict) else None
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, list | tuple) or len(words) != 1 or " " in str(words[0]):
        return
    file = Path(str(words[0])).expanduser()
    try:
        lines = signers.parsed(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SettingsError(f"setting setup.signers: {file}: {why}") from error
    if not lines:
        raise SettingsError(f"setting setup.signers: {file} lists nobody: see inv signer.add")
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
        nearest = difflib.get_close_matches(path, _fields(), n=1, cutoff=0)[0]
        return f"unknown setting {path!r}; did you mean {nearest!r}?"
    said = first["msg"].removeprefix("Value error, ")
    return f"setting {path}: {said}" if path else f"setting {said}"
