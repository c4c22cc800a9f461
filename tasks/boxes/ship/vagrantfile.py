"""What Vagrant reads: the files within a box, and the one file that a user takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from deploys.settings import GIB, MIB, Guest
from tasks.boxes.ship.catalog import ARCHITECTURE

# Of the range that VirtualBox takes its cards' addresses from.
MAC = "0800270B0C5E"
# The one file that differs by the settings, of which the lines are known by how they begin.
_BOX = "config.vm.box = "
_URL = "config.vm.box_url = "
_SETUP = "config.vm.provision :shell, :inline => "

# A box's own file comes before the user's, who has the last word.
_COMMON = """\
  # A key of Vagrant's making would be gone after the first reset, and no login left.
  config.ssh.insert_key = false
  # It would lie in a root that is thrown away, and needs what the host may not have.
  config.vm.synced_folder ".", "/vagrant", disabled: true
"""


def virtualbox() -> dict[str, bytes]:
    """The files beside a VirtualBox machine's description and disk, by their names."""
    body = f'{_COMMON}  config.vm.base_mac = "{MAC}"\n'
    about = {"provider": "virtualbox", "architecture": ARCHITECTURE}
    return {"metadata.json": _json(about), "Vagrantfile": _configure(body)}


def libvirt(size: int, guest: Guest) -> dict[str, bytes]:
    """The files beside a libvirt box's disk, which is ``size`` bytes large, by their names."""
    body = f"""\
{_COMMON}  config.vm.provider :libvirt do |libvirt|
    libvirt.memory = {guest.memory // MIB}
    libvirt.cpus = {guest.cpus}
    # What the box deletes, the host gets back.
    libvirt.disk_driver :discard => "unmap"
  end
"""
    about = {
        "provider": "libvirt",
        "format": "qcow2",
        "virtual_size": -(-size // GIB),
        "architecture": ARCHITECTURE,
    }
    return {"metadata.json": _json(about), "Vagrantfile": _configure(body)}


def for_user(template: Path, box: str, url: str, hostname: str, branch: str) -> str:
    """The file a user takes, for one box.

    Args:
        template: ``static/foruser/Vagrantfile``.
        box: the box's name.
        url: of its catalog.
        hostname: where the box takes its set-up project from; empty: from what was remembered,
            or the copy it has.
        branch: of that project.
    """
    runsetup = " ".join(("/persistent/runsetup", *((hostname, branch) if hostname else ())))
    values = {_BOX: box, _URL: url, _SETUP: runsetup}
    return "".join(
        _filled(line, values) for line in template.read_text("utf-8").splitlines(keepends=True)
    )


def _filled(line: str, values: Mapping[str, str]) -> str:
    for beginning, value in values.items():
        if line.lstrip("# ").startswith(beginning):
            return f"  {beginning}{_ruby(value)}\n"
    return line


def _configure(body: str) -> bytes:
    return f'Vagrant.configure("2") do |config|\n{body}end\n'.encode()


def _json(value: object) -> bytes:
    return f"{json.dumps(value)}\n".encode()


def _ruby(value: str) -> str:
    """A string as Ruby source."""
    escaped = re.sub(r'["\\#]', r"\\\g<0>", value)
    return f'"{escaped}"'
