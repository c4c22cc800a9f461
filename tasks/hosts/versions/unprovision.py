"""Give a host back what it was before it became a box."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from deploys.errors import DeployError, one_line
from deploys.facts.state import State
from deploys.plan.survey import read_survey
from deploys.reset.back.before import Record
from deploys.reset.back.give_back import give_back, leave
from deploys.reset.back.old_system import OldRoot, OldSystem
from deploys.reset.back.ways import Found, Row, Way, no_way, plan_way
from deploys.session import Deploy
from tasks.desk.progress import HostProgress
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect, reboot_deadline


def way_back(host: Host, *, wipe: bool) -> Way:
    """Plan how to give a host back; nothing is changed.

    Raises:
        BoxError: it cannot be given back, or does not answer.
    """
    with host.session() as session:
        state, before = session.fact(State), session.fact(Record)
        if before is None:
            raise no_way(state)
        survey = read_survey(session.fact)
        old = OldSystem()
        if before.old_root:
            of_boot = state.defaults.get("OLD_BOOT_UUID", "")
            old = session.fact(OldRoot, root=before.old_root, boot=of_boot)
    return plan_way(Found(survey, state, before, old, wipe))


def losses(hosts: Sequence[Host], *, wipe: bool) -> str:
    """What is lost on these hosts, for a person to confirm.

    Raises:
        BoxError: see ``way_back``.
    """
    said = []
    for host in hosts:
        try:
            said.append(one_line(f"{host.name}: {way_back(host, wipe=wipe).loss}"))
        finally:
            host.close()
    return "\n".join(said)


def plan(host: Host, progress: HostProgress, *, wipe: bool) -> list[Row]:
    """List what ``unprovision`` would do; nothing is changed.

    Raises:
        BoxError: see ``way_back``.
    """
    progress.step("looking at the host")
    return list(way_back(host, wipe=wipe).rows)


def unprovision(host: Host, progress: HostProgress, *, wipe: bool) -> str:
    """Give a host back, from wherever an earlier run broke off; return what it is now.

    Raises:
        BoxError: it cannot be given back, did not boot its old root, or a step failed.
    """
    progress.step("looking at the host")
    way = way_back(host, wipe=wipe)
    if way.leaves:
        host.require_reboot()
        deadline = reboot_deadline(host)
        if way.maintenance:
            progress.step("booting into maintenance")
            expect(host, host.reboot("maintenance", deadline), "golden")
            way = way_back(host, wipe=wipe)
        _apply(host, progress, "making the old root the default", partial(leave, way=way))
        progress.step("booting the old root")
        host.reboot(None, deadline)
        way = way_back(host, wipe=wipe)
        if way.leaves:
            raise DeployError(f"{host.name}: did not boot its old root; look at its console")
    _apply(host, progress, "giving the host back", partial(give_back, way=way))
    return "it is no box any more, and runs on its old root"


def _apply(host: Host, progress: HostProgress, step: str, deploy: Deploy) -> None:
    progress.step(step)
    with host.session(progress) as session:
        session.prepare([deploy])
        session.run()
