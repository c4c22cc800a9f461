"""Root trees of Debian systems, from this machine's own package mirror."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploys.errors import BoxError
from tasks.desk import shell

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
# Packages have their Python modules compiled one after the other, each when it is configured: a
# fifth of an installation. Here they say which, and all are compiled at its end, on all CPUs.
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
    with tempfile.TemporaryDirectory(dir=tar.parent, prefix="tree-") as folder:
        made = Path(folder) / "root.tar"
        _mmdebstrap(tree, made, Path(folder), ())
        made.replace(tar)


def fill_folder(root: Path, tree: Tree, work: Path) -> None:
    """Make a root tree in a folder that is empty; files lie for a moment in ``work``.

    Raises:
        BoxError: a package does not exist; or mmdebstrap is missing or failed.
    """
    with tempfile.TemporaryDirectory(dir=work, prefix="tree-") as folder:
        _mmdebstrap(tree, root, Path(folder), ("--format=directory",))


def run_in_tree(tree: Tree, work: Path, script: str) -> None:
    """Run a shell script in a root tree that is made for it and thrown away after it.

    The folder ``work`` lies in the tree under its own, plain name, below the root, and the script
    runs in it; what that leaves in its subfolder ``out`` is in that of ``work`` afterwards. It
    gets no variable of this process.

    Raises:
        BoxError: a package does not exist, mmdebstrap is missing, or the script failed; the line
            is the last that it printed.
    """
    inside = f"/{work.name}"
    (work / "run").write_text(f"cd {inside}\n{script}")
    log, path = f"{inside}/log", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    failed = f'{{ echo "E: $(tail -n 1 "$1{log}")" >&2; exit 1; }}'
    ran = f'chroot "$1" env -i {path} LC_ALL=C.UTF-8 sh -eu {inside}/run >"$1{log}" 2>&1'
    hooks = (
        f"--customize-hook=copy-in {shlex.quote(str(work))} /",
        f"--customize-hook={ran} || {failed}",
        f"--customize-hook=copy-out {inside}/out {shlex.quote(str(work))}",
        "--format=null",
    )
    with tempfile.TemporaryDirectory(dir=work.parent, prefix="tree-") as folder:
        _mmdebstrap(tree, Path("-"), Path(folder), hooks)


def preferences(pins: Mapping[str, str]) -> str:
    """What has apt prefer these versions of packages, as a file of its preferences."""
    # More than 1000 lets apt take an older version than another suite has.
    stanza = "Package: {}\nPin: version {}\nPin-Priority: 1001\n"
    return "\n".join(stanza.format(*pin) for pin in pins.items())


def _mmdebstrap(tree: Tree, target: Path, folder: Path, arguments: Sequence[str]) -> None:
    argv = ["mmdebstrap", "--variant=apt", "--mode=root", f"--include={','.join(tree.packages)}"]
    argv += [f"--aptopt={line}" for line in (*tree.apt_options, 'Acquire::Languages "none"')]
    argv += ["--dpkgopt=force-unsafe-io"]
    argv += [f"--essential-hook={_BEFORE}", f"--customize-hook={_AFTER}"]
    argv += ["--skip=cleanup/apt/lists"] if tree.lists else []
    argv += _pin_hooks(tree.pins, folder / "pins") if tree.pins else []
    # The partition to be booted from is known later, and so is the initramfs made later.
    environment = {"INITRD": "No", "DEBIAN_FRONTEND": "noninteractive", "TMPDIR": str(folder)}
    if tree.epoch is not None:
        environment["SOURCE_DATE_EPOCH"] = str(tree.epoch)
    words: list[str | Path] = [*CONTAINED, *argv, *arguments, tree.suite, target, *tree.mirror]
    try:
        shell.run(words, env=environment, timeout=3600)
    except shell.CommandError as error:
        raise BoxError(f"installing Debian {tree.suite}: {_reason(error)}") from error


def _pin_hooks(pins: tuple[tuple[str, str], ...], file: Path) -> list[str]:
    """mmdebstrap's arguments that have apt in the tree prefer these versions, while it is made."""
    file.write_text(preferences(dict(pins)))
    folder = '"$1"/etc/apt/preferences.d'
    # The folder's time too is as it would be without: the same packages are the same bytes.
    restore = f"time=$(stat -c @%Y {folder}) && rm {folder}/pins && touch -m -d $time {folder}"
    return [
        f"--setup-hook=mkdir -p {folder} && cp {shlex.quote(str(file))} {folder}/pins",
        f"--customize-hook={restore}",
    ]


def _reason(error: shell.CommandError) -> str:
    """What apt said; mmdebstrap's own last line is that it failed."""
    lines = (line.strip() for line in error.stderr.splitlines())
    said = (line.partition(": ")[2] for line in lines if line.startswith("E: "))
    return next((line for line in said if not line.startswith("mmdebstrap")), str(error))
