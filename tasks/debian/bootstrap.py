"""Make root trees of Debian systems with mmdebstrap, from the mirror that apt here uses."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploys.errors import BoxError
from tasks.desk import shell

SUITE = "trixie"
# The packages of a small Debian server. logind handles the power button only with dbus.
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
# In its own namespaces: when it is killed, its processes and mounts end too.
CONTAINED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# Each package compiles its Python modules when it is configured, on one CPU: a fifth of the time of
# an installation. Here py3compile only notes its arguments; at the end all run on all CPUs.
_COMPILE = "usr/bin/py3compile"
_NOTED = "var/lib/dpkg/py3compile"
_BEFORE = f"""set -e
chroot "$1" dpkg-divert --quiet --local --rename --divert /{_COMPILE}.real --add /{_COMPILE}
printf '#!/bin/sh\necho "$@" >>/{_NOTED}\n' >"$1/{_COMPILE}"
chmod 755 "$1/{_COMPILE}"
"""
_AFTER = f"""set -e
rm "$1/{_COMPILE}"
chroot "$1" dpkg-divert --quiet --local --rename --remove /{_COMPILE}
if [ -e "$1/{_NOTED}" ]; then
	mv "$1/{_NOTED}" "$1/run/py3compile"
	xargs -L 1 -P "$(nproc)" chroot "$1" /{_COMPILE} <"$1/run/py3compile"
	rm "$1/run/py3compile"
fi
rm -f "$1/var/lib/dpkg/diversions-old"
"""
_RELAXATIONS = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")


@dataclass(frozen=True, slots=True)
class Tree:
    """The description of a root tree.

    ``mirror`` are the lines of its sources.list, ``apt_options`` lines of its apt.conf.
    ``epoch`` (seconds since 1970) replaces the present time in it. ``lists``: whether to keep
    apt's lists, because an emulated guest is slow to fetch them. ``pins`` are pairs of a package
    and the version that apt prefers for it.
    """

    suite: str
    packages: tuple[str, ...]
    mirror: tuple[str, ...]
    apt_options: tuple[str, ...]
    epoch: int | None = None
    lists: bool = True
    pins: tuple[tuple[str, str], ...] = ()


def sources(suite: str = SUITE) -> tuple[str, ...]:
    """Lines of a sources.list for ``suite``, with the mirrors that apt on this machine uses.

    Empty when apt here knows no Debian mirror, as on Ubuntu; mmdebstrap then uses its default.
    """
    row_format = "$(LABEL)\t$(SITE)\t$(RELEASE)\t$(COMPONENT)"
    argv = ["apt-get", "indextargets", "--format", row_format]
    table = shell.run([*argv, "Created-By: Packages", "Origin: Debian"]).stdout
    lines: dict[str, None] = {}  # a set that keeps its order
    for label, site, release, component in (row.split("\t") for row in table.splitlines()):
        if component != "main":
            continue
        if label == "Debian-Security":
            lines[f"deb {site} {suite}-security main"] = None
        elif label == "Debian" and "-" not in release:
            lines[f"deb {site} {suite} main"] = None
        elif label == "Debian" and release.endswith("-updates"):
            lines[f"deb {site} {suite}-updates main"] = None
    # The others are of no use without the main archive.
    return tuple(lines) if any(line.endswith(f" {suite} main") for line in lines) else ()


def relaxations() -> tuple[str, ...]:
    """Lines of apt.conf that switch off the date checks which are off on this machine.

    A frozen mirror has expired Release files, and guests use the same mirror.
    """
    dump = shell.run(["apt-config", "dump", *_RELAXATIONS]).stdout
    return tuple(line for line in dump.splitlines() if line.endswith('"false";'))


def make_tree(tar: Path, tree: Tree) -> None:
    """Write a root tree with installed packages to ``tar``; it has no initramfs yet.

    Raises:
        BoxError: a package does not exist; or mmdebstrap is missing or failed.
    """
    with tempfile.TemporaryDirectory(dir=tar.parent, prefix="tree-") as folder:
        made = Path(folder) / "root.tar"
        _mmdebstrap(tree, made, Path(folder), ())
        made.replace(tar)


def fill_folder(root: Path, tree: Tree, work: Path) -> None:
    """Make a root tree in an empty folder; ``work`` takes temporary files.

    Raises:
        BoxError: a package does not exist; or mmdebstrap is missing or failed.
    """
    with tempfile.TemporaryDirectory(dir=work, prefix="tree-") as folder:
        _mmdebstrap(tree, root, Path(folder), ("--format=directory",))


def preferences(pins: Mapping[str, str]) -> str:
    """A file of apt's preferences that pins these versions."""
    # Above 1000, apt takes the pinned version even when another suite has a newer one.
    stanza = "Package: {}\nPin: version {}\nPin-Priority: 1001\n"
    return "\n".join(stanza.format(*pin) for pin in pins.items())


def _mmdebstrap(tree: Tree, target: Path, folder: Path, arguments: Sequence[str]) -> None:
    argv = ["mmdebstrap", "--variant=apt", "--mode=root", f"--include={','.join(tree.packages)}"]
    argv += [f"--aptopt={line}" for line in (*tree.apt_options, 'Acquire::Languages "none"')]
    argv += ["--dpkgopt=force-unsafe-io"]
    argv += [f"--essential-hook={_BEFORE}", f"--customize-hook={_AFTER}"]
    argv += ["--skip=cleanup/apt/lists"] if tree.lists else []
    argv += _pin_hooks(tree.pins, folder / "pins") if tree.pins else []
    # The initramfs is made later, when the partition that it boots from is known.
    environment = {"INITRD": "No", "DEBIAN_FRONTEND": "noninteractive", "TMPDIR": str(folder)}
    if tree.epoch is not None:
        environment["SOURCE_DATE_EPOCH"] = str(tree.epoch)
    words: list[str | Path] = [*CONTAINED, *argv, *arguments, tree.suite, target, *tree.mirror]
    try:
        shell.run(words, env=environment, timeout=3600)
    except shell.CommandError as error:
        raise BoxError(f"installing Debian {tree.suite}: {_reason(error)}") from error


def _pin_hooks(pins: tuple[tuple[str, str], ...], file: Path) -> list[str]:
    """mmdebstrap's arguments that pin these versions while the tree is made."""
    file.write_text(preferences(dict(pins)))
    folder = '"$1"/etc/apt/preferences.d'
    # Restore the folder's time too, so that a tree with pins has the same bytes as one without.
    restore = f"time=$(stat -c @%Y {folder}) && rm {folder}/pins && touch -m -d $time {folder}"
    return [
        f"--setup-hook=mkdir -p {folder} && cp {shlex.quote(str(file))} {folder}/pins",
        f"--customize-hook={restore}",
    ]


def _reason(error: shell.CommandError) -> str:
    """apt's own error line; the last line, from mmdebstrap, only says that it failed."""
    lines = (line.strip() for line in error.stderr.splitlines())
    said = (line.partition(": ")[2] for line in lines if line.startswith("E: "))
    return next((line for line in said if not line.startswith("mmdebstrap")), str(error))
