"""The root tree of a bare Debian host, from this machine's own package mirror."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tasks.machines import shell

SUITE = "trixie"
# What a small Debian server has; dbus because logind needs it to heed the power button.
PACKAGES = (
    "dbus",
    "e2fsprogs",
    "grub-pc",
    "initramfs-tools",
    "iproute2",
    "linux-image-cloud-amd64",
    "openssh-server",
    "procps",
    "sudo",
    "systemd-sysv",
    "udev",
)
_RELAXATIONS = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")


def sources() -> tuple[str, ...]:
    """Lines for a sources.list of SUITE on the mirrors that this machine's apt uses.

    Empty when apt here knows no Debian mirror (on Ubuntu, say): mmdebstrap then takes its own.
    """
    row_format = "$(LABEL)\t$(SITE)\t$(RELEASE)\t$(COMPONENT)"
    argv = ["apt-get", "indextargets", "--format", row_format]
    table = shell.run([*argv, "Created-By: Packages", "Origin: Debian"]).stdout
    lines: dict[str, None] = {}  # ordered, each once
    for label, site, release, component in (row.split("\t") for row in table.splitlines()):
        if component != "main":
            continue
        if label == "Debian-Security":
            lines[f"deb {site} {SUITE}-security main"] = None
        elif label == "Debian" and "-" not in release:
            lines[f"deb {site} {SUITE} main"] = None
        elif label == "Debian" and release.endswith("-updates"):
            lines[f"deb {site} {SUITE}-updates main"] = None
    # Without the main archive the others are of no use.
    return tuple(lines) if any(line.endswith(f" {SUITE} main") for line in lines) else ()


def relaxations() -> tuple[str, ...]:
    """The date checks that this machine's apt was told to leave out, as lines of apt.conf.

    A frozen mirror serves expired Release files; a guest of the same mirror meets them too.
    """
    dump = shell.run(["apt-config", "dump", *_RELAXATIONS]).stdout
    return tuple(line for line in dump.splitlines() if line.endswith('"false";'))


def make_tree(tar: Path, mirror: Sequence[str], apt_options: Sequence[str]) -> None:
    """Write the root tree to ``tar``: installed packages, no initramfs yet, apt's lists kept.

    Raises:
        CommandError: mmdebstrap is missing or failed.
    """
    argv = ["mmdebstrap", "--variant=apt", "--mode=root", f"--include={','.join(PACKAGES)}"]
    argv += [f"--aptopt={line}" for line in (*apt_options, 'Acquire::Languages "none"')]
    # An emulated guest fetches and unpacks the lists slowly: it starts with these.
    argv += ["--dpkgopt=force-unsafe-io", "--skip=cleanup/apt/lists"]
    # The partition to be booted from is known later, and so is the initramfs made later.
    environment = {"INITRD": "No", "DEBIAN_FRONTEND": "noninteractive"}
    with tempfile.TemporaryDirectory(dir=tar.parent, prefix="tree-") as folder:
        made = Path(folder) / "root.tar"
        shell.run([*argv, SUITE, made, *mirror], env=environment, timeout=900)
        made.replace(tar)
