"""What Vagrant reads of a box, and the one file that a user takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploys.settings import GIB, Guest
from tasks.boxes.ship import vagrantfile
from tasks.desk.flags import load
from tasks.desk.places import ROOT

TEMPLATE = ROOT / "static/foruser/Vagrantfile"


def code(text: str) -> list[str]:
    """A Vagrantfile's lines without its comments."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_the_users_file_has_the_missions_lines() -> None:
    text = vagrantfile.for_user(TEMPLATE, "a/b", "https://x.example/c.json", "git://h", "next")
    assert code(text) == [
        'Vagrant.configure("2") do |config|',
        'config.vm.box = "a/b"',
        'config.vm.box_url = "https://x.example/c.json"',
        'config.vm.provision :shell, :inline => "/persistent/runsetup git://h next"',
        "config.ssh.insert_key = false",
        "config.vm.network :forwarded_port, "
        'guest: 14178, host: 14178, host_ip: "127.0.0.1", auto_correct: true',
        "end",
    ]


def test_without_a_hostname_the_box_uses_what_it_has() -> None:
    text = vagrantfile.for_user(TEMPLATE, "a/b", "", "", "stable")
    assert '  config.vm.provision :shell, :inline => "/persistent/runsetup"\n' in text


def test_only_those_lines_differ_from_what_is_shipped() -> None:
    shipped = TEMPLATE.read_text().splitlines()
    filled = vagrantfile.for_user(TEMPLATE, "a/b", "u", "h", "b").splitlines()
    assert sum(one != other for one, other in zip(shipped, filled, strict=True)) == 3


def test_nothing_of_a_setting_is_run_as_ruby(tmp_path: Path) -> None:
    template = tmp_path / "Vagrantfile"
    template.write_text('  config.vm.box = ""\n')
    text = vagrantfile.for_user(template, '#{`id`}"\\', "", "", "")
    assert text == '  config.vm.box = "\\#{`id`}\\"\\\\"\n'


def test_a_box_keeps_its_key_and_shares_no_folder() -> None:
    """Vagrant's own key is gone after a reset, as is what a folder would be mounted on."""
    guest = Guest()
    for files in (vagrantfile.virtualbox(), vagrantfile.libvirt(GIB, guest)):
        lines = code(files["Vagrantfile"].decode())
        assert "config.ssh.insert_key = false" in lines
        assert 'config.vm.synced_folder ".", "/vagrant", disabled: true' in lines


def test_a_virtualbox_box_has_the_address_of_its_machine() -> None:
    files = vagrantfile.virtualbox()
    assert f'config.vm.base_mac = "{vagrantfile.MAC}"' in code(files["Vagrantfile"].decode())
    assert json.loads(files["metadata.json"])["provider"] == "virtualbox"


@pytest.mark.parametrize(("size", "virtual"), [(24 * GIB, 24), (24 * GIB + 1, 25), (1, 1)])
def test_a_libvirt_box_says_how_large_its_disk_is(size: int, virtual: int) -> None:
    guest = load(None, ["guest.memory=3G", "guest.cpus=4"]).guest
    files = vagrantfile.libvirt(size, guest)
    assert json.loads(files["metadata.json"]) == {
        "provider": "libvirt",
        "format": "qcow2",
        "virtual_size": virtual,
        "architecture": "amd64",
    }
    lines = code(files["Vagrantfile"].decode())
    assert {"libvirt.memory = 3072", "libvirt.cpus = 4"} <= set(lines)
    assert 'libvirt.disk_driver :discard => "unmap"' in lines


def test_nothing_of_a_setting_is_run_by_the_guests_shell(tmp_path: Path) -> None:
    template = tmp_path / "Vagrantfile"
    template.write_text("  config.vm.provision :shell, :inline => \n")
    text = vagrantfile.for_user(template, "a/b", "", "git://h;id", "$(id)")
    line = "\"/persistent/runsetup 'git://h;id' '$(id)'\""
    assert text == f"  config.vm.provision :shell, :inline => {line}\n"
