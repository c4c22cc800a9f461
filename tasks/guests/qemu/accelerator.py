"""Whether this machine's processor runs guests itself, found by running one."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from deploys.errors import BoxError
from tasks.desk import shell
from tasks.guests.qemu.console import Console

QEMU = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
# QEMU 7.2 emulating kernel 6.12 panics at random: 6 boots of 9, against 0 of 9 with 10.0.
_MINIMUM = 8
_PROBE_DEADLINE = 60.0  # seconds; a KVM that works needs one or two, one in an emulated machine 30
_KVM = Path("/dev/kvm")
# What a guest would use, and QEMU emulates slowly. Nested virtualisation, for which a kvm module is
# loaded, is a tenth of a boot; string instructions, a byte at a time, and AVX with what builds on
# it are another (a login prompt after 25.7 s in place of 28.1, the best of 3 boots each). Page
# tables of five levels, and what guards users' pages from the kernel, are 7 % of what QEMU does
# until an initramfs waits for its disk (8.0 s in place of 8.6).
_AVX = ("avx=off", "avx2=off", "f16c=off", "fma=off", "vaes=off")
_PAGES = ("la57=off", "smap=off", "smep=off", "pku=off")
SLOW = ("svm=off", "erms=off", "fsrm=off", *_AVX, *_PAGES)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """How QEMU runs a guest's code: ``name`` is kvm or tcg, ``reason`` says in words why."""

    name: str
    reason: str

    def argv(self) -> list[str]:
        """The arguments for QEMU."""
        if self.name == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        return ["-accel", "tcg,thread=multi", "-cpu", ",".join(("max", *SLOW))]


def qemu_version() -> str:
    """The version of the installed QEMU.

    Raises:
        BoxError: QEMU is missing, or too old for Debian 13's kernel.
    """
    shell.find(QEMU, PACKAGE)
    said = shell.run([QEMU, "--version"], timeout=30).stdout
    match = re.search(r"version (\d+)\.(\d+)(?:\.\d+)?", said)
    if match is None:
        raise BoxError(f"{QEMU} --version says no version: {said.strip()[:60]!r}")
    if int(match[1]) < _MINIMUM:
        raise BoxError(
            f"QEMU {match[1]}.{match[2]} makes Debian 13's kernel panic; install {_MINIMUM} or "
            "newer (apt-get install -t bookworm-backports qemu-system-x86 qemu-utils)"
        )
    return match[0].removeprefix("version ")


def choose(
    kernel: Path, state: Path, progress: Callable[[str], None] = lambda _: None
) -> Accelerator:
    """Choose KVM if it boots ``kernel`` (a Linux image), else emulation.

    /dev/kvm is no proof: on nested and restricted hosts QEMU starts and then dies, or hangs in
    the kernel's decompressor. The result is cached in ``state`` until this machine reboots or
    QEMU changes.

    Raises:
        BoxError: QEMU is missing or too old.
    """
    version = qemu_version()
    if not _KVM.exists():
        return Accelerator("tcg", "there is no /dev/kvm")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    asked = {"qemu": version, "boot_id": boot_id, "kernel": kernel.name}
    state.mkdir(parents=True, exist_ok=True)
    note = state / "accelerator.json"
    with FileLock(note.with_suffix(".lock")):
        try:
            known = json.loads(note.read_text())
            if known["asked"] == asked:
                return Accelerator(known["name"], known["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # there is no valid note: try again
        progress("trying whether KVM runs a guest")
        found = _probe(kernel)
        answer = {"asked": asked, "name": found.name, "reason": found.reason}
        note.write_text(json.dumps(answer))
    return found


def _probe(kernel: Path) -> Accelerator:
    """Boot the kernel without a root; KVM works if the kernel panics because it finds none."""
    with tempfile.TemporaryDirectory(prefix="kvm-") as folder:
        serial = Path(folder) / "serial.log"
        argv = [QEMU, "-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "512"]
        argv += ["-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{serial}"]
        argv += ["-kernel", str(kernel), "-append", "console=ttyS0 quiet panic=-1"]
        try:
            shell.run(argv, timeout=_PROBE_DEADLINE)
        except shell.CommandError as error:
            said = error.stderr.strip().splitlines()
            return Accelerator("tcg", f"KVM runs no guest: {said[-1] if said else error}")
        if Console(serial).says("Unable to mount root"):
            return Accelerator("kvm", "KVM booted a kernel")
        return Accelerator("tcg", "KVM runs no guest: the kernel did not come up")
