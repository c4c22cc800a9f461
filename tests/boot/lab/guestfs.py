"""libguestfs's tools in a root tree of their own, for `vagrant package`, which calls them.

Debian's guestfs-tools would install a hundred packages on the host, udev and mdadm among them, and
needs a kernel and its modules for its appliance. Here both are in a tree. The tree has no /dev/kvm,
so the appliance is emulated.
"""

from __future__ import annotations

from pathlib import Path

from tasks.debian import bootstrap
from tasks.desk import shell
from tests.namespaces import World

_PACKAGES = ("guestfs-tools", "linux-image-amd64")
_TOOLS = ("virt-sysprep", "virt-sparsify")
# $1: the tree; $2: the shared folder. The mounts are in the world's namespace and end with it.
_ENTER = """
mount -t proc proc "$1/proc"
mount -t tmpfs dev "$1/dev"
for name in null zero full random urandom; do
    : >"$1/dev/$name"
    mount --bind "/dev/$name" "$1/dev/$name"
done
mkdir -p "$1$2"
mount --bind "$2" "$1$2"
"""
# Vagrant ignores their exit codes, so the test records them.
_PROGRAM = """\
#!/bin/sh
env -i HOME=/root PATH=/usr/sbin:/usr/bin LANG=C.UTF-8 LIBGUESTFS_BACKEND=direct \\
    chroot {root} {tool} "$@"
echo {tool} $? >>{ended}
"""


def installed(folder: Path) -> Path:
    """Make a tree in ``folder`` in which the tools are installed."""
    root = folder / "guestfs"
    options = [f"--aptopt={line}" for line in bootstrap.relaxations()]
    include = f"--include={','.join(_PACKAGES)}"
    make = ["mmdebstrap", "--quiet", *options, "--variant=apt", include]
    what: list[str | Path] = [bootstrap.SUITE, root, *bootstrap.sources()]
    shell.run([*bootstrap.CONTAINED, *make, *what], env={"INITRD": "No"}, timeout=1800)
    return root


def on_path(world: World, root: Path, shared: Path) -> Path:
    """Make a folder of programs for PATH that call the tools; these see ``shared`` at its path."""
    world.run("sh", "-euc", _ENTER, "enter", root, shared)
    programs = root.with_name("programs")
    programs.mkdir()
    for tool in _TOOLS:
        program = programs / tool
        program.write_text(_PROGRAM.format(root=root, tool=tool, ended=programs / "ended"))
        program.chmod(0o755)
    return programs


def ended(programs: Path) -> list[str]:
    """The tools that were called, each with its exit code."""
    return (programs / "ended").read_text().splitlines()
