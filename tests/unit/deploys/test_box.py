"""The table of what a box is: what it is given, and where; what is to be up."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deploys import box
from deploys.box import Box, BoxRow, Golden, Where, wanted_by_target
from deploys.operations.boot import marked_snapshot
from deploys.operations.onbox import ONBOX
from deploys.operations.packages import LocalPackage
from deploys.plan.result import Kind, VolumePlan
from deploys.reset.boot import boot, removable_path
from deploys.reset.new_machine import machine
from deploys.reset.volumes import volumes
from deploys.services import gateway, runner, secure
from deploys.services.provisiond import provisiond, source
from deploys.services.status_page import status_page
from deploys.services.tunnel import tunnel
from deploys.settings import Settings
from deploys.stack import Parts, stack
from deploys.stack.bundle import Archive, Project
from deploys.stack.items import Items, no_items, repository
from deploys.stack.manifest import manifest
from tasks.desk.flags import load

GATEWAY = ("role=gateway", "jobs.director=true")


def golden(parts: Parts, settings: Settings, where: Where = Where.GOLDEN) -> Golden:
    return Golden(
        where=where,
        settings=settings,
        project=Project("c", "d"),
        plan=VolumePlan(Kind.BOX, "vagrant-pipeline", "root", "root_snap", "4G"),
        python=Archive(Path("a"), "b"),
        copy=Archive(Path("a"), "b"),
        parts=parts,
    )


def of(made: Box) -> list[partial[Any]]:
    return [each for each in box.deploys(made) if isinstance(each, partial)]


def deploys(parts: Parts) -> list[partial[Any]]:
    return of(golden(parts, Settings()))


def functions(where: Where, *overrides: str) -> list[object]:
    """What is applied there, by a box to itself or to the copy of one."""
    made = Box(where=where, settings=load(None, overrides), project=Project("c", "d"))
    return [each.func for each in of(made)]


def test_items_that_are_no_longer_asked_for_leave_the_golden_root() -> None:
    items = Items(Path("items"), "feed", ())
    functions = [each.func for each in deploys(Parts(items=items))]
    assert (repository in functions, no_items in functions) == (True, False)
    functions = [each.func for each in deploys(Parts())]
    assert (repository in functions, no_items in functions) == (False, True)


def test_a_box_that_applies_deploys_to_itself_keeps_the_packages_that_were_built() -> None:
    parts = Parts((LocalPackage("pipeline-lammps", "feed", Path("here.deb")),))
    [row] = [each for each in deploys(parts) if each.func is stack]
    assert row.keywords["parts"] == parts
    itself = Box(where=Where.SNAPSHOT, settings=Settings(), project=Project("c", "d"))
    [row] = [each for each in of(itself) if each.func is stack]
    assert row.keywords["parts"] is None


def test_a_host_has_the_removable_path_before_it_is_a_box() -> None:
    """The new menu makes it one: what a power cut leaves undone then, no later provision does."""
    functions = [each.func for each in deploys(Parts())]
    assert functions.index(removable_path) < functions.index(boot)


def test_a_box_applies_to_itself_what_may_change_while_it_runs() -> None:
    """Of what a box may be made, all; of what another is, nothing."""
    for overrides, has in (
        ((), {tunnel, runner.runner, secure.secure}),
        (GATEWAY, {gateway.gateway, runner.runner}),
    ):
        found = functions(Where.SNAPSHOT, *overrides)
        assert found[:4] == [marked_snapshot, stack, provisiond, status_page]
        assert found[-2:] == [wanted_by_target, manifest]
        others = {tunnel, runner.runner, secure.secure, gateway.gateway} - has
        assert has <= {*found[4:-2]}
        assert not {volumes, boot, machine, source, *others} & {*found}


def test_a_copy_whose_persistent_was_emptied_gets_back_what_lies_there() -> None:
    assert functions(Where.EMPTIED) == [machine, provisiond, source, wanted_by_target]


def test_an_image_has_all_that_a_host_has_and_a_machine_below_it() -> None:
    host, image = (
        [each.func for each in of(golden(Parts(), Settings(), where))]
        for where in (Where.GOLDEN, Where.IMAGE)
    )
    assert image == [machine, *host]
    assert host[-1] == manifest


def test_what_a_box_applies_to_itself_needs_nothing_that_is_brought() -> None:
    """A row that does is of golden roots and images alone."""
    brought = [row for row in box.ROWS if not isinstance(row, BoxRow)]
    assert {row.where for row in brought} == {Where.IMAGE | Where.GOLDEN}


def test_a_unit_that_the_settings_no_longer_ask_for_leaves_the_target() -> None:
    settings = load(None, ["role=gateway"])
    found = of(golden(Parts(), settings))
    [row] = [each for each in found if each.func is wanted_by_target]
    assert runner.DIRECTOR in row.keywords["others"]
    assert not {*row.keywords["others"]} & {*row.keywords["units"]}
    assert runner.DIRECTOR not in box.others(load(None, GATEWAY), Where.GOLDEN)


def unit_files(*overrides: str) -> list[Path]:
    """Of all units that pipeline-box.target wants, whatever it is made later."""
    units = box.units(load(None, overrides), Where.IMAGE)
    roles = () if overrides else (unit for role in box.ROLES.values() for unit in role)
    return [ONBOX / "etc/systemd/system" / unit for unit in (*units, *roles)]


@pytest.mark.parametrize("overrides", [(), GATEWAY])
def test_every_unit_says_that_the_target_wants_it(overrides: tuple[str, ...]) -> None:
    """That is what ``systemctl enable`` reads, when a box is made and when it is secured."""
    for file in unit_files(*overrides):
        if file.name == "pipeline-tunnel.service":
            continue  # a gateway may be away: no trial is to wait for it
        text = "".join(
            each.read_text()
            for each in (file, *file.parent.glob(f"{file.name}.d/*.conf"))
            if each.is_file()
        )
        [wanted] = re.findall(r"^WantedBy=(.*)$", text, re.MULTILINE)
        assert box.TARGET in wanted.split(), file.name
