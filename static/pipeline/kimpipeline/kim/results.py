"""``results.edn``: check that its content is instances of KIM's properties."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import kim_property
from kim_property import KIMPropertyError

from kimpipeline.errors import ItemError, RunError
from kimpipeline.kim import edn

OWN = ("local-props", "local_props")
"""The folders of an item where KIM looks for definitions of properties."""
_MOST_OWN = 100
_NONE: Mapping[str, Any] = MappingProxyType({})
# kim_property raises the others for a value of a wrong type.
_INVALID = (KIMPropertyError, TypeError, ValueError, LookupError, AttributeError, RecursionError)


@cache
def properties() -> dict[str, Any]:
    """The definitions of KIM's properties in KIM's own library, by property id."""
    found: dict[str, Any] = kim_property.get_properties()
    return found


def definitions(folder: Path) -> dict[str, Any]:
    """The definitions of properties that an item brings, by property id.

    Raises:
        ItemError: one of them cannot be read, or is not valid.
    """
    found: dict[str, Any] = {}
    for name in OWN:
        if (folder / name).is_symlink():
            continue
        for path in sorted((folder / name).rglob("*.edn"))[:_MOST_OWN]:
            content = edn.read(path)
            if not isinstance(content, dict) or "property-id" not in content:
                continue
            try:
                kim_property.check_property_definition(content)
                found[str(content["property-id"])] = content
            except _INVALID as error:
                raise ItemError(f"{name}/{path.name} is no property definition") from error
    return found


def check(path: Path, expected: tuple[str, ...], own: Mapping[str, Any] = _NONE) -> Any:
    """The content of a ``results.edn``: a property instance, or a list of them, which are valid.

    Args:
        path: the file.
        expected: the ids of the properties that the Test says it computes; empty: any.
        own: the definitions that its items bring, beside KIM's.

    Raises:
        RunError: the file is missing or not EDN, or an instance is not valid or not expected.
    """
    try:
        content = edn.read(path)
    except ItemError as error:
        raise RunError(str(error)) from error
    instances = [content] if isinstance(content, dict) else content
    known = {**own, **properties()} if own else properties()
    if not isinstance(instances, list) or not instances:
        raise RunError(f"{path.name} is no property instance, and no list of them")
    for instance in instances:
        # kim_property would take a string for the name of a file
        if not isinstance(instance, dict):
            raise RunError(f"{path.name}: a property instance is no map")
        try:
            kim_property.check_property_instances(instance, fp_path=known)
        except KIMPropertyError as error:
            reason = re.sub(r"\s+", " ", re.sub(r"ERROR\(@\w+\): ", "", str(error))).strip()
            raise RunError(f"{path.name}: {reason}") from error
        except _INVALID as error:
            raise RunError(f"{path.name}: not a property instance: {error}") from error
        if expected and instance["property-id"] not in expected:
            raise RunError(f"{path.name}: {instance['property-id']} is not in kimspec.edn")
    identifiers = [instance["instance-id"] for instance in instances]
    if len(set(identifiers)) != len(identifiers):
        raise RunError(f"{path.name}: an instance-id is there twice")
    return content
