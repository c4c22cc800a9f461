"""What the golden root is given, by what a provision brings for the rows of the stack."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from deploys.boot import boot, removable_path
from deploys.bundle import Archive, Project
from deploys.golden import golden
from deploys.repository import Items, repository
from deploys.repository import dropped as repository_dropped
from deploys.settings import Settings
from deploys.stack import Parts
from deploys.volume_plan import Kind, VolumePlan


def deploys(parts: Parts) -> list[partial[Any]]:
    plan = VolumePlan(Kind.BOX, "vagrant-pipeline", "root", "root_snap", "4G")
    archive, project = Archive(Path("a"), "b"), Project("c", "d")
    found = golden(plan, Settings(), archive, archive, project, parts)
    return [each for each in found if isinstance(each, partial)]


def test_items_that_are_no_longer_asked_for_leave_the_golden_root() -> None:
    items = Items(Path("items"), "feed", ())
    functions = [each.func for each in deploys(Parts(items=items))]
    assert (repository in functions, repository_dropped in functions) == (True, False)
    functions = [each.func for each in deploys(Parts())]
    assert (repository in functions, repository_dropped in functions) == (False, True)


def test_a_host_has_the_removable_path_before_it_is_a_box() -> None:
    """The new menu makes it one: what a power cut leaves undone then, no later provision does."""
    functions = [each.func for each in deploys(Parts())]
    assert functions.index(removable_path) < functions.index(boot)
