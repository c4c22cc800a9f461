"""Show all settings with their defaults, limits and meaning, as the model has them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, get_args

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.markup import escape
from rich.table import Table

from deploys.settings import Settings, Size, format_size
from deploys.settings.part import Part

_SIZE = get_args(Size)[1:]


@dataclass(frozen=True)
class Setting:
    """One setting: its name for --set, its default, its limits and its meaning."""

    name: str
    default: str
    limits: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """The settings of one table of the TOML file; ``name`` is empty at the top of the file."""

    name: str
    meaning: str
    settings: tuple[Setting, ...]


def sections() -> list[Section]:
    """All settings, section by section, in the order of the model."""
    found = list(_sections(Settings(), ""))
    row = tuple(
        _setting(f"stack.PART.{name}", field, "") for name, field in Part.model_fields.items()
    )
    return [*found, Section("stack.PART", "What each part says of itself.", row)]


def as_markdown(found: list[Section]) -> str:
    """The settings as tables of a page; docs/settings.md ends with them."""
    lines = []
    for section in found:
        title = f"`[{section.name}]`" if section.name else "The box itself"
        lines += [f"## {title}", "", section.meaning, ""]
        lines += ["| setting | default | may be | meaning |", "| --- | --- | --- | --- |"]
        for each in section.settings:
            default = f"`{each.default}`" if each.default else ""
            cells = (f"`{each.name}`", default, each.limits, each.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def as_json(found: list[Section]) -> str:
    """The settings for programs."""
    return json.dumps([asdict(section) for section in found], indent=1)


def as_tables(found: list[Section]) -> Iterator[Table]:
    """The settings for a terminal, a table for each section."""
    for section in found:
        title = f"{section.name}: {section.meaning}" if section.name else section.meaning
        table = Table("setting", "default", "may be", "meaning", title=escape(title))
        table.title_justify = "left"
        for each in section.settings:
            table.add_row(*map(escape, (each.name, each.default, each.limits, each.meaning)))
        yield table


def _sections(model: BaseModel, name: str) -> Iterator[Section]:
    """The section of a model, then those within it."""
    defaults = model.model_dump(mode="json", by_alias=True)
    settings, within = [], []
    for attribute, field in type(model).model_fields.items():
        value, key = getattr(model, attribute), field.alias or attribute
        full = f"{name}.{key}" if name else key
        if isinstance(value, Part):
            shown = f"{value.source}: {value.location}" if value.location else value.source
            settings.append(_setting(full, field, shown))
        elif isinstance(value, BaseModel):
            within.append((value, full))
        else:
            settings.append(_setting(full, field, _text(defaults[key])))
    if settings:
        yield Section(name, _sentence(inspect.getdoc(type(model)) or ""), tuple(settings))
    for inner, full in within:
        yield from _sections(inner, full)


def _setting(name: str, field: FieldInfo, default: str) -> Setting:
    return Setting(name, default, _limits(field), _sentence(field.description or ""))


def _text(default: Any) -> str:
    if default is None:
        return ""
    if isinstance(default, list):
        return " ".join(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def _limits(field: FieldInfo) -> str:
    """What a value may be: the words of a choice, or the least and the most."""
    if field.annotation is bool:
        return "true, false"
    if words := [word for word in get_args(field.annotation) if isinstance(word, str)]:
        return ", ".join(words)
    optional = (getattr(each, "__metadata__", ()) for each in get_args(field.annotation))
    is_size = any(part in _SIZE for parts in (field.metadata, *optional) for part in parts)
    ends = {}
    for part in field.metadata:
        for end in ("ge", "le"):
            value = getattr(part, end, None)
            if isinstance(part, annotated_types.Ge | annotated_types.Le) and value is not None:
                ends[end] = format_size(value) if is_size else str(value)
    if len(ends) == 2:
        return f"{ends['ge']} to {ends['le']}"
    return f"{ends['ge']} or more" if "ge" in ends else ""


def _sentence(text: str) -> str:
    """The first line of a docstring, or a description, as a sentence."""
    first = text.partition("\n")[0].replace("``", "`").rstrip(".")
    return f"{first[:1].upper()}{first[1:]}." if first else ""
