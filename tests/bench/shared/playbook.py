"""An Ansible playbook with operations of a provision pass, for the host as it is now.

Those of deploys with many files are left out on both sides: in an emulated guest a file takes
Ansible up to twenty seconds, and all of them more than ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploys import box
from deploys.errors import BoxError
from deploys.facts.manifest import SystemState
from deploys.operations.leftovers import FILES, NAMES
from deploys.operations.onbox import OnboxFile, tree
from deploys.plan.preflight import Preflight
from deploys.plan.survey import read_survey
from deploys.reset.volumes import PACKAGES as VOLUME_PACKAGES
from deploys.services import provisiond
from deploys.session import Deploy, Session
from deploys.settings import Settings, own_volumes
from deploys.settings.stack import package_name
from deploys.stack import stack_packages
from deploys.stack.bundle import PROJECT_PATH, PYTHON_PATH
from deploys.stack.items import REPOSITORY_PATH
from deploys.stack.manifest import MANIFEST, RELEASE, SETTINGS

Task = dict[str, Any]

LEFT_OUT = ("Boot", "Status page", "Tunnel", "Runner", "Secure", "Units")
"""The deploys that are measured on neither side."""

# Not below /run, where no library can be loaded from: noexec.
# Ansible's apt module needs this library, and would install it: unpacked beside the system
# instead, no package is on the box that the manifest does not know.
APT_LIBRARY = "/var/tmp/bench-apt/usr/lib/python3/dist-packages"


@dataclass(frozen=True)
class Known:
    """What the playbook is made from, beside this checkout.

    ``facts`` are the commands that our pass reads the host with, ``links`` the targets of
    links by their paths, ``contents`` the files that our pass computes.
    """

    found: Preflight
    settings: Settings
    facts: Sequence[str]
    links: Mapping[str, str]
    contents: Mapping[str, str]


def fact_commands() -> list[str]:
    """The commands of the survey and of the manifest, as our pass sends them."""
    commands: list[str] = []

    def note(fact: type[Any], **arguments: Any) -> Any:
        commands.append(str(fact().command(**arguments)))
        return fact.default()

    read_survey(note)
    note(SystemState, python=PYTHON_PATH)
    return commands


@dataclass(frozen=True)
class Part:
    """What is measured of a pass: deploys by their place in it, the names of their operations.

    ``whole`` is how many operations the pass has.
    """

    places: frozenset[int]
    operations: tuple[str, ...]
    whole: int


def measured(session: Session, deploys: Sequence[Deploy]) -> Part:
    """The deploys that are not left out, as the host of this session would have them."""
    places: set[int] = set()
    operations: list[str] = []
    known = 0
    for number, deploy in enumerate(deploys):
        names = [operation.name for operation in session.prepare([deploy])]
        new, known = names[known:], len(names)
        if not any(name.split(" | ")[0] in LEFT_OUT for name in new):
            places.add(number)
            operations += new
    return Part(frozenset(places), tuple(operations), known)


def playbook(operations: Sequence[str], known: Known, folder: Path) -> list[dict[str, Any]]:
    """The playbook: one task for each of our operations, with the facts read first.

    Args:
        operations: the names of our pass's operations.
        known: see there.
        folder: where the files to be copied are put.

    Raises:
        BoxError: our pass has an operation that this does not know: the two would differ.
    """
    tasks: list[Task] = [_command("Facts", command) for command in known.facts]
    for name in operations:
        build = _TASKS.get(name)
        if build is None:
            raise BoxError(
                f"tests/bench/shared/playbook.py has nothing like the operation {name!r}: "
                "add it to _TASKS, or its deploy to LEFT_OUT"
            )
        tasks.append({"name": name, **build(known, folder)})
    play = {
        "hosts": "all",
        "become": True,
        # Ours reads the distribution as well; the rest of Ansible's facts nobody asked for.
        "gather_facts": True,
        "gather_subset": ["!all", "min"],
        "environment": {"PYTHONPATH": APT_LIBRARY},
        "tasks": tasks,
    }
    return [play]


def _command(name: str, command: str) -> Task:
    return {"name": name, "ansible.builtin.shell": command, "changed_when": False}


def _packages(*names: str) -> Task:
    return {
        "ansible.builtin.apt": {
            "name": sorted(set(names)),
            "state": "present",
            "install_recommends": False,
            "auto_install_module_deps": False,
        }
    }


def _copies(sources: Mapping[str, OnboxFile], folder: Path) -> Task:
    items = []
    for path, file in sources.items():
        local = folder / path.strip("/").replace("/", "%")
        local.write_bytes(file.content)
        items.append({"src": str(local), "dest": path, "mode": f"{file.mode:04o}"})
    copy = {"src": "{{ item.src }}", "dest": "{{ item.dest }}", "mode": "{{ item.mode }}"}
    return {
        "ansible.builtin.copy": {**copy, "owner": "root", "group": "root"},
        "loop": items,
        "loop_control": {"label": "{{ item.dest }}"},
    }


def _link(path: str) -> Callable[[Known, Path], Task]:
    def build(known: Known, _folder: Path) -> Task:
        return {"ansible.builtin.file": {"path": path, "src": known.links[path], "state": "link"}}

    return build


def _lvmlocal(_known: Known, _folder: Path) -> Task:
    block = "devices {\n\tissue_discards = 1\n}"
    # The markers that pyinfra's files.block wrote.
    marker = {
        "marker": "# {mark} PYINFRA BLOCK",
        "marker_begin": "BEGIN",
        "marker_end": "END",
    }
    return {
        "ansible.builtin.blockinfile": {"path": "/etc/lvm/lvmlocal.conf", "block": block, **marker}
    }


def _fstab(row: own_volumes.OwnVolume) -> Callable[[Known, Path], Task]:
    return lambda known, _folder: {
        "ansible.builtin.lineinfile": {
            "path": "/etc/fstab",
            "regexp": rf"^\S+\s+{row.mount}\s",
            "line": row.fstab(known.settings.volumes.volgroup),
        }
    }


def _runsetup(known: Known, folder: Path) -> Task:
    return _copies(provisiond.setup_policy(known.settings), folder)


def _name(path: str, target: str) -> Callable[[Known, Path], Task]:
    link = {"path": path, "src": target, "state": "link"}
    return lambda _known, _folder: {"ansible.builtin.file": link}


def _masked(_known: Known, _folder: Path) -> Task:
    return {
        "ansible.builtin.systemd_service": {"name": "{{ item }}", "masked": True},
        "loop": list(box.UPGRADES),
    }


def _absent(path: str) -> Callable[[Known, Path], Task]:
    absent = {"path": path, "state": "absent"}
    return lambda _known, _folder: {"ansible.builtin.file": absent}


def _no_prefixes(_known: Known, _folder: Path) -> Task:
    absent = {"path": "/opt/pipeline/{{ item }}", "state": "absent"}
    return {"ansible.builtin.file": absent, "loop": list(NAMES)}


def _no_old_files(_known: Known, _folder: Path) -> Task:
    absent = {"path": "{{ item }}", "state": "absent"}
    return {"ansible.builtin.file": absent, "loop": list(FILES)}


def _manifest(known: Known, folder: Path) -> Task:
    files = {path: OnboxFile(text.encode()) for path, text in known.contents.items()}
    return _copies(files, folder)


COMPUTED = (MANIFEST, SETTINGS, RELEASE)
LINKS = (PYTHON_PATH, PROJECT_PATH)

_TASKS: Mapping[str, Callable[[Known, Path], Task]] = {
    "Volumes | LVM and initramfs tools": lambda _known, _folder: _packages(*VOLUME_PACKAGES),
    "Volumes | LVM gives freed space back": _lvmlocal,
    **{f"Volumes | fstab entry of {row.mount}": _fstab(row) for row in own_volumes.mounted()},
    "Stack | Install packages": lambda known, _folder: _packages(
        *stack_packages(known.settings), *map(package_name, known.settings.stack.built)
    ),
    "Stack | Nothing of the stack beside packages": _no_prefixes,
    "Stack | Nothing of older versions": _no_old_files,
    "Stack | Helpers": lambda _known, folder: _copies(tree("usr/lib/pipeline"), folder),
    "Mask apt's timers": _masked,
    "Bundle | Python libraries": _link(PYTHON_PATH),
    "Bundle | Copy of the project": _link(PROJECT_PATH),
    "provisiond | Install provisiond": lambda _known, folder: _copies(
        provisiond.sources(box.ROLES), folder
    ),
    "Setup source | What runsetup takes": _runsetup,
    **{
        f"Setup source | Name {path}": _name(path, target)
        for path, target in provisiond.LINKS.items()
    },
    "Repository of before | No items of a repository": _absent(REPOSITORY_PATH),
    "Manifest | Write manifest.json": _manifest,
}
