"""``results.edn``: check that its content is instances of KIM's properties."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import kim_property
from kim_property import KIMPropertyError

from kimpipeline.errors import ItemError, RunError
from kimpipeline.kim import edn


@cache
def properties() -> dict[str, Any]:
    """The definitions of KIM's properties in KIM's own library, by property id."""
    found: dict[str, Any] = kim_property.get_properties()
    return found


def check(path: Path, expected: tuple[str, ...]) -> list[dict[str, Any]]:
    """Read the property instances of a ``results.edn`` and check them.

    Args:
        path: the file.
        expected: the ids of the properties that the Test says it computes; empty: any.

    Raises:
        RunError: the file is missing or not EDN, or an instance is not valid or not expected.
    """
    try:
        instances = edn.read(path)
    except ItemError as error:
        raise RunError(str(error)) from error
    if isinstance(instances, dict):
        instances = [instances]
    if not isinstance(instances, list) or not instances:
        raise RunError(f"{path.name} is no property instance, and no list of them")
    for instance in instances:
        # kim_property would take a string for the name of a file
        if not isinstance(instance, dict):
            raise RunError(f"{path.name}: a property instance is no map")
        try:
            kim_property.check_property_instances(instance, fp_path=properties())
        except KIMPropertyError as error:
            reason = re.sub(r"\s+", " ", re.sub(r"ERROR\(@\w+\): ", "", str(error))).strip()
            raise RunError(f"{path.name}: {reason}") from error
        except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
            # kim_property raises these for a value of a wrong type
            raise RunError(f"{path.name}: not a property instance: {error}") from error
        if expected and instance["property-id"] not in expected:
            raise RunError(f"{path.name}: {instance['property-id']} is not in kimspec.edn")
    identifiers = [instance["instance-id"] for instance in instances]
    if len(set(identifiers)) != len(identifiers):
        raise RunError(f"{path.name}: an instance-id is there twice")
    return instances
