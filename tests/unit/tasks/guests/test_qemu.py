"""Guests in QEMU: the command line, what is remembered, and which QEMU is refused."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.desk import ssh_keys
from tasks.guests import qemu
from tasks.guests.qemu import accelerator, hardware, qmp
from tasks.guests.qemu.console import Console
from tests.hosts.machine import WAITS_FOR_STATE, boots_kernel, starts_by_uefi

TCG = accelerator.Accelerator("tcg", "asked for")
FakeQemu = Callable[[str], Path]


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeQemu:
    """A qemu-system-x86_64 on PATH with this body; what it was called with is in the file."""

    def make(body: str, version: str = "10.0.2") -> Path:
        folder, calls = tmp_path / "bin", tmp_path / "calls"
        folder.mkdir(exist_ok=True)
        program = folder / accelerator.QEMU
        program.write_text(
            f"""#!/bin/sh
            if [ "$1" = --version ]; then echo "QEMU emulator version {version} (Debian)"; exit; fi
            echo "$@" >>{calls}
            {body}
            """
        )
        program.chmod(0o755)
        calls.touch()
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return calls

    return make


def machine(**changes: object) -> hardware.Machine:
    return hardware.Machine.model_validate({"disks": ["/d/root.qcow2", "/d/a,b.qcow2"], **changes})


def record(folder: Path, pid: int, port: int = 2222) -> qemu._Record:
    who = ssh_keys.Identity(user="vagrant", user_key=folder / "key", host_key="ssh-ed25519 AAAA")
    made = qemu._Record(machine=machine(), identity=who, pid=pid, port=port)
    (folder / "guest.json").write_text(made.model_dump_json())
    return made


def option(argv: list[str], name: str) -> list[str]:
    return [after for word, after in itertools.pairwise(argv) if word == name]


def test_the_command_line_is_the_machine_asked_for() -> None:
    argv = hardware.argv(Path("/g"), machine(cpus=1, memory=2**30), TCG, 0)
    assert option(argv, "-smp") == ["1"]
    assert option(argv, "-m") == ["1024M"]
    assert option(argv, "-accel") == ["tcg,thread=multi"]
    assert option(argv, "-drive") == [
        "id=disk0,if=none,file=/d/root.qcow2,format=qcow2,discard=unmap,detect-zeroes=unmap",
        "id=disk1,if=none,file=/d/a,,b.qcow2,format=qcow2,discard=unmap,detect-zeroes=unmap",
    ]
    assert "virtio-rng-pci" in option(argv, "-device")
    assert sum(word.startswith("pcie-root-port") for word in argv) == 4


def test_the_ports_are_only_on_this_host() -> None:
    (new,) = option(hardware.argv(Path("/g"), machine(), TCG, 0), "-netdev")
    (again,) = option(hardware.argv(Path("/g"), machine(), TCG, 2201, 8080), "-netdev")
    assert new == "user,id=net,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=tcp:127.0.0.1:0-:14178"
    assert again == "user,id=net,hostfwd=tcp:127.0.0.1:2201-:22,hostfwd=tcp:127.0.0.1:8080-:14178"


def test_other_firmware_takes_the_place_of_the_bios() -> None:
    assert option(hardware.argv(Path("/g"), machine(), TCG, 0), "-bios") == []
    whole = machine(arguments=starts_by_uefi(Path("/f/OVMF.fd")))
    assert option(hardware.argv(Path("/g"), whole, TCG, 0), "-bios") == ["/f/OVMF.fd"]
    words = starts_by_uefi(Path("/f/CODE.fd"), Path("/g/vars,1.fd"))
    with_nvram = hardware.argv(Path("/g"), machine(arguments=words), TCG, 0)
    assert option(with_nvram, "-bios") == []
    assert option(with_nvram, "-drive")[2:] == [
        "if=pflash,format=raw,unit=0,readonly=on,file=/f/CODE.fd",
        "if=pflash,format=raw,unit=1,readonly=off,file=/g/vars,,1.fd",
    ]


def test_further_words_come_last() -> None:
    words = WAITS_FOR_STATE + boots_kernel(Path("/k/vmlinuz"), Path("/k/initrd"), "quiet ro")
    argv = hardware.argv(Path("/g"), machine(arguments=words), TCG, 0)
    assert argv == [*hardware.argv(Path("/g"), machine(), TCG, 0), *words]
    assert option(argv, "-incoming") == ["defer"]
    assert option(argv, "-append") == ["quiet ro"]
    assert option(argv, "-kernel") + option(argv, "-initrd") == ["/k/vmlinuz", "/k/initrd"]


def test_kvm_and_emulation_take_their_own_processor() -> None:
    assert accelerator.Accelerator("kvm", "").argv() == ["-accel", "kvm", "-cpu", "host"]
    assert "kvm" not in " ".join(TCG.argv())


@pytest.mark.commands
@pytest.mark.parametrize(
    ("version", "fault"),
    [
        ("7.2.17", "QEMU 7.2 makes Debian 13's kernel panic; install 8 or newer .*backports"),
        ("six", "says no version"),
    ],
)
def test_a_qemu_known_not_to_work_is_refused(
    version: str, fault: str, fake_qemu: Callable[..., Path], tmp_path: Path
) -> None:
    calls = fake_qemu("exit 1", version=version)
    who = ssh_keys.Identity(user="u", user_key=tmp_path / "k", host_key="ssh-ed25519 A")
    with pytest.raises(BoxError, match=fault) as caught:
        qemu.Guest.start(tmp_path / "g", machine(), who, TCG)
    assert "\n" not in str(caught.value)
    assert calls.read_text() == ""
    assert not (tmp_path / "g").exists()


_BOOTS = 'echo "VFS: Unable to mount root fs" >"${1#file:}"'
PROBES = {
    "it boots": (_BOOTS, "kvm", "booted a kernel"),
    # as in an emulated machine: each character is an exit to KVM
    "a line takes long": (
        f'case "$*" in *quiet*) ;; *) sleep 30 ;; esac; {_BOOTS}',
        "kvm",
        "booted",
    ),
    "the kernel is silent": ("exit 0", "tcg", "the kernel did not come up"),
    "qemu dies": ("echo 'ioctl failed' >&2; exit 1", "tcg", "ioctl failed"),
    "it hangs": ("exec sleep 30", "tcg", "not done after"),
}


@pytest.mark.commands
@pytest.mark.parametrize("case", PROBES)
def test_kvm_is_believed_only_when_it_booted_a_kernel(
    case: str, fake_qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, name, reason = PROBES[case]
    calls = fake_qemu(f'while [ "$1" != -serial ]; do shift; done; shift\n{body}')
    monkeypatch.setattr(accelerator, "_KVM", tmp_path)
    monkeypatch.setattr(accelerator, "_PROBE_DEADLINE", 1.0)
    said: list[str] = []
    first = accelerator.choose(Path("/boot/vmlinuz"), tmp_path / "state", said.append)
    assert first.name == name
    assert reason in first.reason
    # Remembered: not a second boot, until QEMU changes.
    assert accelerator.choose(Path("/boot/vmlinuz"), tmp_path / "state", said.append) == first
    assert len(calls.read_text().splitlines()) == len(said) == 1


@pytest.mark.commands
def test_another_qemu_is_probed_again(
    fake_qemu: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator, "_KVM", tmp_path)
    for version in ("10.0.2", "10.0.3"):
        calls = fake_qemu("exit 1", version=version)
        accelerator.choose(Path("/boot/vmlinuz"), tmp_path / "state")
    assert len(calls.read_text().splitlines()) == 2


@pytest.mark.commands
def test_without_kvm_nothing_is_booted(
    fake_qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_qemu("exit 1")
    monkeypatch.setattr(accelerator, "_KVM", tmp_path / "none")
    assert accelerator.choose(Path("/boot/vmlinuz"), tmp_path / "state").name == "tcg"
    assert calls.read_text() == ""


def test_a_pid_that_is_someone_elses_by_now_is_not_a_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, pid=os.getpid())  # alive, and no guest
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed a stranger"))
    guest = qemu.Guest.find(tmp_path)
    assert guest is not None
    assert not guest.alive
    guest.cut_power()


def test_a_folder_may_have_no_guest(tmp_path: Path) -> None:
    assert qemu.Guest.find(tmp_path) is None


def test_a_damaged_note_hides_no_disks(tmp_path: Path) -> None:
    (tmp_path / "guest.json").write_text("{")
    with pytest.raises(BoxError, match=f"cannot be read: move the folder {tmp_path} away"):
        qemu.Guest.find(tmp_path)


@pytest.mark.commands
def test_a_folder_in_use_is_refused(
    fake_qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_qemu("exit 0")
    before = record(tmp_path, pid=4711)
    monkeypatch.setattr(qemu, "_is_ours", lambda pid, _: pid == 4711)
    with pytest.raises(BoxError, match="is running already, as process 4711"):
        qemu.Guest.start(tmp_path, machine(), before.identity, TCG)
    assert calls.read_text() == ""


@pytest.mark.commands
def test_a_port_taken_meanwhile_is_replaced(
    fake_qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_qemu(
        'case "$*" in *:2222-*) echo "Could not set up host forwarding rule" >&2; exit 1;; esac\n'
        "echo 99 >pid"
    )
    before = record(tmp_path, pid=0)
    table = """  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  13       127.0.0.1 41235       10.0.2.15 14178     0     0
  TCP[HOST_FORWARD]  12       127.0.0.1 41234       10.0.2.15    22     0     0
"""
    monkeypatch.setattr(qmp, "command", lambda *_, **__: table)
    guest = qemu.Guest.start(tmp_path, machine(), before.identity, TCG)
    assert guest.login.port == 41234
    assert guest.page == "http://127.0.0.1:41235/"
    assert guest.login.known_hosts.read_text().startswith("[127.0.0.1]:41234 ssh-ed25519")
    assert len(calls.read_text().splitlines()) == 2
    again = qemu.Guest.find(tmp_path)
    assert again is not None
    assert again.login == guest.login


def test_the_console_is_plain_text(tmp_path: Path) -> None:
    console = Console(tmp_path / "serial.log")
    assert (console.size, console.text(), console.tail()) == (0, "", "(nothing)")
    console.file.write_bytes(b"\x1b[0;32m  OK  \x1b[0m\r\n\xff\x00kernel\n" + b"x" * 900)
    assert console.says("kernel\n")
    assert "\x1b" not in console.text()
    assert len(console.tail()) == 400


def test_nobody_at_the_monitor_is_one_line(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)  # longer than a socket's path may be
    deep.mkdir()
    with pytest.raises(qmp.QmpError, match="query-status: ") as caught:
        qmp.command(deep / "qmp.sock", "query-status")
    assert "\n" not in str(caught.value)
