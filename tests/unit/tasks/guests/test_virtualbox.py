"""Guests in VirtualBox, with a VBoxManage on PATH that keeps what it is told."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
import pytest
from rich.progress import Progress

from deploys.errors import BoxError, UnreachableError
from deploys.settings import Settings
from tasks.boxes import start
from tasks.desk.progress import HostProgress
from tasks.desk.ssh_keys import make_key
from tasks.guests import providers, virtualbox
from tasks.guests.credentials import oem_string
from tasks.guests.virtualbox import manage

pytestmark = pytest.mark.commands

FAKE = Path(__file__).with_name("fake_vboxmanage.py")
STRANGER = {"--name": "the user's own", "VMState": "running"}
PROGRESS = HostProgress("guest", Progress(disable=True))


@dataclass(frozen=True)
class VBox:
    """The folder of the fake: what it was asked, what it has, how it is to fail."""

    folder: Path

    @property
    def calls(self) -> list[list[str]]:
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def commands(self) -> list[str]:
        return [call[0] for call in self.calls]

    @property
    def machines(self) -> dict[str, dict[str, str]]:
        """All but the user's own, which must be as it was."""
        machines: dict[str, dict[str, str]] = json.loads((self.folder / "state.json").read_text())
        assert machines.pop("stranger") == STRANGER
        return machines

    def call(self, command: str) -> list[str]:
        [call] = (call for call in self.calls if call[0] == command)
        return call

    def knob(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)

    def repaired(self) -> None:
        for name in ("fails", "interrupts", "no-module", "hangs", "calls"):
            (self.folder / name).unlink(missing_ok=True)


@pytest.fixture
def vbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VBox:
    folder = tmp_path / "vbox"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"stranger": STRANGER}))
    program = folder / "VBoxManage"
    program.write_text(
        f'#!/bin/sh\nexec {shlex.join([sys.executable, "-IS", str(FAKE), str(folder)])} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return VBox(folder)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A box's disk, as far as VirtualBox looks at it."""
    file = tmp_path / "box.raw"
    with file.open("wb") as disk:
        disk.truncate(64 * 2**20)
        disk.seek(2**20)
        disk.write(b"of the box" * 100_000)
    return file


def make(tmp_path: Path, image: Path) -> virtualbox.Guest:
    return virtualbox.Guest.make(tmp_path / "guest", image, "vagrant", tmp_path / "id_ed25519")


def test_the_machine_is_the_one_asked_for(vbox: VBox, image: Path, tmp_path: Path) -> None:
    guest = make(tmp_path, image)
    [(identity, machine)] = vbox.machines.items()
    assert machine["--name"] == f"openkim-box-{identity[:8]}"
    assert machine["--basefolder"] == str(tmp_path / "guest/machine")
    assert machine["--natpf1 ssh"] == f"ssh,tcp,127.0.0.1,{guest.login.port},,22"
    page = guest.page.removeprefix("http://127.0.0.1:").removesuffix("/")
    assert machine["--natpf1 status"] == f"status,tcp,127.0.0.1,{page},,14178"
    assert (machine["--nonrotational"], machine["--discard"]) == ("on", "on")
    assert (machine["--graphicscontroller"], machine["--audio-enabled"]) == ("vmsvga", "off")
    assert not any("uart" in word for call in vbox.calls for word in call)
    disk = Path(machine["--medium"])
    said = subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", "vdi", image, disk], check=False
    )
    assert said.returncode == 0
    assert not guest.alive


def test_the_users_key_goes_in_and_nothing_secret(vbox: VBox, image: Path, tmp_path: Path) -> None:
    make(tmp_path, image)
    _, _, name, value = vbox.call("setextradata")
    assert name.endswith("/pcbios/0/Config/DmiOEMVBoxVer")
    public = " ".join((tmp_path / "id_ed25519.pub").read_text().split()[:2])
    assert value == (
        "io.systemd.credential:tmpfiles.extra=f+ /home/vagrant/.ssh/authorized_keys 0600 "
        f"vagrant vagrant - {public}\\n"
    )
    secret = (tmp_path / "id_ed25519").read_text().splitlines()[1]
    assert secret not in (vbox.folder / "calls").read_text()


def test_the_longest_user_name_fits_what_virtualbox_takes(tmp_path: Path) -> None:
    assert len(oem_string("u" * 32, tmp_path / "key")) <= 255


def test_a_guest_is_started_found_and_powered_off(vbox: VBox, image: Path, tmp_path: Path) -> None:
    make(tmp_path, image).start(memory=3 * 2**30, cpus=3)
    guest = providers.load(tmp_path / "guest")
    assert guest.alive
    [machine] = vbox.machines.values()
    assert (machine["--memory"], machine["--cpus"]) == ("3072", "3")
    assert vbox.call("startvm")[2:] == ["--type", "headless"]
    guest.halt()
    assert vbox.call("controlvm")[2:] == ["acpipowerbutton"]
    assert not guest.alive
    guest.halt()
    assert vbox.commands.count("controlvm") == 1


def test_one_that_heeds_no_button_is_one_line(vbox: VBox, image: Path, tmp_path: Path) -> None:
    guest = make(tmp_path, image)
    guest.start()
    vbox.knob("hangs")
    with pytest.raises(UnreachableError, match=r"the guest in VirtualBox is not off after 1 s"):
        guest.halt(deadline=1)
    guest.destroy()
    assert vbox.machines == {}


def test_destroy_removes_this_machine_and_its_folder(
    vbox: VBox, image: Path, tmp_path: Path
) -> None:
    guest = make(tmp_path, image)
    guest.start()
    guest.destroy()
    assert vbox.machines == {}
    assert not (tmp_path / "guest").exists()
    assert "--delete" not in vbox.call("unregistervm")  # of disks that the user attached
    assert providers.find(tmp_path / "guest") is None


def test_a_port_taken_meanwhile_is_replaced(vbox: VBox, image: Path, tmp_path: Path) -> None:
    guest = make(tmp_path, image)
    before = guest.login.port
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", before))
        squatter.listen()
        guest.start()
    after = guest.login.port
    assert after != before
    [machine] = vbox.machines.values()
    assert machine["--natpf1 ssh"] == f"ssh,tcp,127.0.0.1,{after},,22"
    assert virtualbox.Guest.find(tmp_path / "guest").login.port == after  # type: ignore[union-attr]


MAKING = ("createvm", "modifyvm", "setextradata", "storagectl", "storageattach")


@pytest.mark.parametrize("command", MAKING)
def test_a_failure_half_way_leaves_no_machine(
    command: str, vbox: VBox, image: Path, tmp_path: Path
) -> None:
    vbox.knob("fails", f"{command} the disk is full")
    with pytest.raises(BoxError) as caught:
        make(tmp_path, image)
    assert str(caught.value) == f"VBoxManage {command}: the disk is full"
    assert vbox.machines == {}
    assert not (tmp_path / "guest").exists()
    vbox.repaired()
    make(tmp_path, image).start()


@pytest.mark.parametrize("command", [MAKING[0], MAKING[-1]])
def test_an_interrupt_half_way_leaves_no_machine(
    command: str, vbox: VBox, image: Path, tmp_path: Path
) -> None:
    vbox.knob("interrupts", command)
    code = (
        "import sys; from pathlib import Path; from tasks.guests.virtualbox import Guest;"
        "Guest.make(Path(sys.argv[1]), Path(sys.argv[2]), 'vagrant', Path(sys.argv[3]))"
    )
    places = (tmp_path / "guest", image, tmp_path / "id_ed25519")
    argv = [sys.executable, "-c", code, *map(str, places)]
    root = Path(__file__).parents[4]
    # The fake's parent is the shell that starts it: exec makes that this process.
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == -2 or "KeyboardInterrupt" in done.stderr
    assert vbox.machines == {}
    assert not (tmp_path / "guest").exists()


def test_what_a_kill_left_is_destroyed_and_made_again(
    vbox: VBox, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = make(tmp_path, image)
    guest._write(guest._record.model_copy(update={"made": False}))
    monkeypatch.setattr(start, "GUEST", tmp_path / "guest")
    monkeypatch.setattr(start, "USER_KEY", tmp_path / "id_ed25519")
    monkeypatch.setattr(start, "box_image", lambda *_: image)
    monkeypatch.setattr(virtualbox.Guest, "learn_host_key", lambda *_: None)
    started = start.start(Settings(), PROGRESS, provider="virtualbox")
    assert started.alive
    [identity] = vbox.machines
    assert identity != guest._record.uuid
    # and a second start finds it running
    vbox.repaired()
    assert start.start(Settings(), PROGRESS).alive
    assert set(vbox.commands) == {"--version", "showvminfo"}


def test_without_its_kernel_module_virtualbox_has_the_word(
    vbox: VBox, image: Path, tmp_path: Path
) -> None:
    guest = make(tmp_path, image)
    vbox.knob("no-module")
    with pytest.raises(BoxError) as caught:
        guest.start()
    assert re.fullmatch(
        r"VBoxManage startvm: The virtual machine 'openkim-box-\w+' has terminated unexpectedly "
        r"\(The character device /dev/vboxdrv does not exist\. Please install it\.\)",
        str(caught.value),
    )
    vbox.repaired()
    guest.start()
    assert guest.alive


def test_a_machine_that_the_user_removed_is_one_line(
    vbox: VBox, image: Path, tmp_path: Path
) -> None:
    guest = make(tmp_path, image)
    vbox.knob("state.json", json.dumps({"stranger": STRANGER}))
    assert not guest.alive
    with pytest.raises(BoxError, match="does not know this guest any more: remove it"):
        guest.start()
    guest.destroy()
    assert not (tmp_path / "guest").exists()


def test_without_virtualbox_the_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BoxError, match="VBoxManage is not installed; Debian's package is virtualb"):
        manage.run("--version")


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ({"provider": "vmware"}, "no provider is called 'vmware': say qemu or virtualbox"),
        (
            {"provider": "virtualbox", "bare": True},
            "VirtualBox runs no bare host: leave out --bare or",
        ),
    ],
)
def test_a_wrong_provider_is_refused_before_anything_is_built(
    flags: dict[str, Any], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "GUEST", tmp_path / "guest")
    monkeypatch.setattr(start, "box_image", lambda *_: pytest.fail("built"))
    with pytest.raises(BoxError, match=fault):
        start.start(Settings(), PROGRESS, **flags)


def test_a_guest_is_not_passed_off_as_another_providers(
    vbox: VBox, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, image)
    monkeypatch.setattr(start, "GUEST", tmp_path / "guest")
    with pytest.raises(BoxError, match="a guest of virtualbox already: remove it first, with inv"):
        start.start(Settings(), PROGRESS, provider="qemu")
    assert len(vbox.machines) == 1


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[tuple[int, paramiko.PKey]]:
    """A port where an SSH server shows its key, and that key."""
    make_key(tmp_path / "of_the_guest")
    key = paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "of_the_guest"))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                transport = paramiko.Transport(client)
                transport.add_server_key(key)
                transport.start_server(threading.Event(), paramiko.ServerInterface())

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], key


def test_the_key_of_the_first_contact_is_the_guests_from_then_on(
    vbox: VBox, image: Path, tmp_path: Path, sshd: tuple[int, paramiko.PKey]
) -> None:
    port, key = sshd
    guest = make(tmp_path, image)
    guest._write(guest._record.model_copy(update={"port": port}))
    guest.learn_host_key(deadline=20)
    known = guest.login.known_hosts
    assert known.read_text() == f"[127.0.0.1]:{port} ssh-ed25519 {key.get_base64()}\n"
    # another port, the same key; and nobody is asked a second time
    guest._write(guest._record.model_copy(update={"port": 1}))
    guest.learn_host_key(deadline=0)
    assert known.read_text() == f"[127.0.0.1]:1 ssh-ed25519 {key.get_base64()}\n"
    assert len(vbox.machines) == 1


def test_a_guest_that_shows_no_key_is_one_line(vbox: VBox, image: Path, tmp_path: Path) -> None:
    guest = make(tmp_path, image)
    with pytest.raises(UnreachableError, match="showed no SSH host key after 0 s"):
        guest.learn_host_key(deadline=0)
    assert not guest.login.known_hosts.exists()
    assert vbox.machines


def test_compaction_is_done_while_it_is_off_and_it_is_on_again(
    vbox: VBox, image: Path, tmp_path: Path
) -> None:
    guest = make(tmp_path, image)
    guest.start()
    assert guest.compact() == guest.disk_usage > 0
    order = [c for c in vbox.commands if c in ("controlvm", "modifymedium", "startvm")]
    assert order == ["startvm", "controlvm", "modifymedium", "startvm"]
    assert vbox.call("modifymedium")[1:] == ["disk", str(tmp_path / "guest/box.vdi"), "--compact"]
    assert guest.alive


@pytest.mark.usefixtures("vbox")
def test_one_that_goes_off_slowly_is_waited_for(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = make(tmp_path, image)
    guest.start()
    deadlines: list[float] = []

    def awaited(value: Callable[[], bool], deadline: float, *_: object) -> bool:
        deadlines.append(deadline)
        return value()

    monkeypatch.setattr("tasks.guests.virtualbox.awaited", awaited)
    guest.halt()
    assert not guest.alive
    assert deadlines == [600]


@pytest.mark.parametrize(
    "said",
    [
        "The object is not ready (E_ACCESSDENIED 0x80070005)",
        "The machine is not registered: VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)",
    ],
)
def test_what_virtualbox_says_while_a_machine_goes_off_passes(
    said: str, vbox: VBox, image: Path, tmp_path: Path
) -> None:
    guest = make(tmp_path, image)
    guest.start()
    vbox.knob("passing", f"showvminfo {said}\ncontrolvm {said}\nshowvminfo {said}\n")
    guest.halt()
    assert not guest.alive
    assert not (vbox.folder / "passing").read_text()


def test_a_failed_compaction_leaves_the_guest_on(vbox: VBox, image: Path, tmp_path: Path) -> None:
    guest = make(tmp_path, image)
    guest.start()
    vbox.knob("fails", "modifymedium no room")
    with pytest.raises(BoxError, match="VBoxManage modifymedium: no room"):
        guest.compact()
    assert guest.alive
