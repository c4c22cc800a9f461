"""Root trees of Debian systems, from this machine's own package mirror."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploys.errors import BoxError
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
# In a namespace of its own: when it is killed, what it started and mounted goes with it.
CONTAINED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_RELAXATIONS = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")


@dataclass(frozen=True, slots=True)
class Tree:
    """What a root tree is made of.

    ``mirror`` are the lines of its sources.list, ``apt_options`` lines of its apt.conf.
    ``epoch`` (seconds since 1970) replaces the present time in it. ``lists`` keeps apt's lists:
    an emulated guest, which fetches and unpacks them slowly, starts with these. ``pins`` are
    packages with the version that they are to have if the mirror has it.
    """

    suite: str
    packages: tuple[str, ...]
    mirror: tuple[str, ...]
    apt_options: tuple[str, ...]
    epoch: int | None = None
    lists: bool = True
    pins: tuple[tuple[str, str], ...] = ()


def sources(suite: str = SUITE) -> tuple[str, ...]:
    """Lines for a sources.list of ``suite`` on the mirrors that this machine's apt uses.

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
            lines[f"deb {site} {suite}-security main"] = None
        elif label == "Debian" and "-" not in release:
            lines[f"deb {site} {suite} main"] = None
        elif label == "Debian" and release.endswith("-updates"):
            lines[f"deb {site} {suite}-updates main"] = None
    # Without the main archive the others are of no use.
    return tuple(lines) if any(line.endswith(f" {suite} main") for line in lines) else ()


def relaxations() -> tuple[str, ...]:
    """The date checks that this machine's apt was told to leave out, as lines of apt.conf.

    A frozen mirror serves expired Release files; a guest of the same mirror meets them too.
    """
    dump = shell.run(["apt-config", "dump", *_RELAXATIONS]).stdout
    return tuple(line for line in dump.splitlines() if line.endswith('"false";'))


def make_tree(tar: Path, tree: Tree) -> None:
    """Write a root tree to ``tar``: installed packages, no initramfs yet.

    Raises:
        BoxError: a package does not exist; or mmdebstrap is missing or failed.
    """
    argv = ["mmdebstrap", "--variant=apt", "--mode=root", f"--include={','.join(tree.packages)}"]
    argv += [f"--aptopt={line}" for line in (*tree.apt_options, 'Acquire::Languages "none"')]
    argv += ["--dpkgopt=force-unsafe-io"]
    argv += ["--skip=cleanup/apt/lists"] if tree.lists else []
    with tempfile.TemporaryDirectory(dir=tar.parent, prefix="tree-") as folder:
        # The partition to be booted from is known later, and so is the initramfs made later.
        environment = {"INITRD": "No", "DEBIAN_FRONTEND": "noninteractive", "TMPDIR": folder}
        if tree.epoch is not None:
            environment["SOURCE_DATE_EPOCH"] = str(tree.epoch)
        made = Path(folder) / "root.tar"
        argv += _pin_hooks(tree.pins, Path(folder) / "pins") if tree.pins else []
        try:
            words: list[str | Path] = [*CONTAINED, *argv, tree.suite, made, *tree.mirror]
            shell.run(words, env=environment, timeout=3600)
        except shell.CommandError as error:
            raise BoxError(f"installing Debian {tree.suite}: {_reason(error)}") from error
        made.replace(tar)


def _pin_hooks(pins: tuple[tuple[str, str], ...], file: Path) -> list[str]:
    """mmdebstrap's arguments that have apt in the tree prefer these versions, while it is made."""
    # More than 1000 lets apt take an older version than another suite has.
    stanza = "Package: {}\nPin: version {}\nPin-Priority: 1001\n"
    file.write_text("\n".join(stanza.format(*pin) for pin in pins))
    folder = '"$1"/etc/apt/preferences.d'
    # The folder's time too is as it would be without: the same packages are the same bytes.
    restore = f"time=$(stat -c @%Y {folder}) && rm {folder}/pins && touch -d $time {folder}"
    return [
        f"--setup-hook=mkdir -p {folder} && cp {shlex.quote(str(file))} {folder}/pins",
        f"--customize-hook={restore}",
    ]


def _reason(error: shell.CommandError) -> str:
    """What apt said; mmdebstrap's own last line is that it failed."""
    lines = (line.strip() for line in error.stderr.splitlines())
    said = (line.partition(": ")[2] for line in lines if line.startswith("E: "))
    return next((line for line in said if not line.startswith("mmdebstrap")), str(error))
