"""What is done to a host while its requests are logged: from a bare host to a box, and on."""

from __future__ import annotations

from tasks.desk.flags import load
from tasks.hosts.provision import Provision, Request
from tests.boot.cuts.recording import Recorder
from tests.boot.lab.box import DEADLINE, LEAN, Box

# A package that no box has, of which dpkg has something to do; and an initrd that must be made.
CHANGED = (*LEAN, "boot.deadline=61")
PACKAGE = "ed"
OVER, KERNEL, OUT = "over", "by hand: a kernel", "by hand: out of maintenance"

# Like the one it has: all the generic kernel's modules would be minutes of emulation.
_OTHER_KERNEL = (
    "apt-cache pkgnames linux-image- | grep -E '^linux-image-[0-9].*-cloud-amd64$' | "
    'grep -vF "$(uname -r)" | sort -V | tail -n 1'
)
_INSTALL = "env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends"


def provisioned(box: Box, recorder: Recorder, device: str | None, *settings: str) -> None:
    """A provision as a user's, its steps noted."""
    assert Provision(box.host, load(overrides=settings), Request(device), recorder).run().changed
    recorder.step(OVER)


def updated(box: Box, recorder: Recorder) -> None:
    """A box is brought up to date: maintenance, a package, an initrd, a fresh snapshot."""
    row = "stack.openkim-repository"
    package = (f"{row}.source=apt", f"{row}.location={PACKAGE}")
    provisioned(box, recorder, None, *CHANGED, *package)


def kernel_installed(box: Box, recorder: Recorder) -> None:
    """By hand, in maintenance: another kernel, as an upgrade of the distribution brings it."""
    recorder.step("by hand: into maintenance")
    box.host.reboot("maintenance", DEADLINE)
    box.succeed("apt-get -q update")
    recorder.step(KERNEL)
    box.succeed(f"{_INSTALL} $({_OTHER_KERNEL})")
    recorder.step(OUT)
    box.host.reboot("resnap", DEADLINE)
    recorder.step(OVER)
