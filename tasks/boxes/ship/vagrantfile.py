"""The files for Vagrant: those within a box, and the Vagrantfile that a user downloads."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from deploys.settings import GIB, MIB, Guest
from tasks.boxes.ship.catalog import ARCHITECTURE

# In the range from which VirtualBox takes addresses of network cards.
MAC = "0800270B0C5E"
# The lines of the user's Vagrantfile that the settings change, by their beginnings.
_BOX = "config.vm.box = "
_URL = "config.vm.box_url = "
_SETUP = "config.vm.provision :shell, :inline => "

# Vagrant reads the file within the box first, so the user's can override it.
_COMMON = """\
  # A key that Vagrant made would be lost at the first reset, and with it the login.
  config.ssh.insert_key = false
  # It would be lost at each reset, and needs programs that the host may not have.
  config.vm.synced_folder ".", "/vagrant", disabled: true
"""


def virtualbox() -> dict[str, bytes]:
    """The files beside the description and the disk of a VirtualBox box, by name."""
    body = f'{_COMMON}  config.vm.base_mac = "{MAC}"\n'
    about = {"provider": "virtualbox", "architecture": ARCHITECTURE}
    return {"metadata.json": _json(about), "Vagrantfile": _configure(body)}


def libvirt(size: int, guest: Guest) -> dict[str, bytes]:
    """The files beside the disk of a libvirt box, which has ``size`` bytes, by name."""
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
    """The Vagrantfile that the users of one box download.

    Args:
        template: ``static/foruser/Vagrantfile``.
        box: the box's name.
        url: of its catalog.
        hostname: where the box fetches its setup project; empty: where it did before, or the
            copy that it has.
        branch: of that project.
    """
    runsetup = shlex.join(("/persistent/runsetup", *((hostname, branch) if hostname else ())))
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
