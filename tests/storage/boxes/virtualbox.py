"""A real VBoxManage in a root of its own: Debian has VirtualBox in sid only.

Without its kernel module it starts no machine, but imports, converts and exports. Its daemon lives
in a process table of its own, and ends with the command that it was started for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tasks.debian import bootstrap
from tasks.desk import shell

_PROGRAM = "/usr/lib/virtualbox/VBoxManage"
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
# What a program finds in it: /proc, five devices, and the folder that it works in.
_ENTER = """
set -eu
root=$1 work=$2
shift 2
mount -t proc proc "$root/proc"
mount -t tmpfs dev "$root/dev"
for name in null zero full random urandom; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mount --bind "$work" "$root/work"
exec chroot "$root" env HOME=/work VBOX_USER_HOME=/work/settings sh -eu -c "$@"
"""


@dataclass(frozen=True)
class VirtualBox:
    """VirtualBox's tools in ``root``; they see the folder ``work`` as /work."""

    root: Path
    work: Path

    def run(self, script: str) -> str:
        """What a shell script printed in which ``vbox`` is VBoxManage; it ended well."""
        script = f'vbox() {{ {_PROGRAM} "$@"; }}\n{script}'
        argv: list[str | Path] = [
            *_NAMESPACES,
            "sh",
            "-c",
            _ENTER,
            "enter",
            self.root,
            self.work,
            script,
            "vbox",
        ]
        return shell.run(argv, timeout=600).stdout


def installed(folder: Path) -> VirtualBox:
    """VirtualBox and the libraries it needs, unpacked into ``folder``, without a kernel module."""
    root, work, state = folder / "root", folder / "work", folder / "apt"
    for each in (work, state / "lists" / "partial", state / "cache" / "archives" / "partial"):
        each.mkdir(parents=True)
    # sid alone: it has no updates besides
    lines = [f"{line} contrib" for line in bootstrap.sources("sid") if " sid " in line]
    (state / "sources.list").write_text("".join(f"{line}\n" for line in lines))
    (state / "apt.conf").write_text(_conf(state))
    apt = {"APT_CONFIG": str(state / "apt.conf")}
    shell.run(["apt-get", "--quiet", "update"], env=apt, timeout=300)
    about = shell.run(["apt-cache", "show", "--no-all-versions", "virtualbox"], env=apt).stdout
    [needs] = re.findall(r"^Depends: (.*)$", about, re.MULTILINE)
    libraries = re.findall(r"(?:^|, )((?:lib|zlib)[a-z0-9.+-]+)", needs)
    options = [f"--aptopt={line}" for line in bootstrap.relaxations()]
    include = f"--include={','.join(['dash', 'coreutils', *libraries])}"
    make = ["mmdebstrap", "--quiet", *options, "--variant=extract", include]
    shell.run([*bootstrap.CONTAINED, *make, "sid", root, *lines], timeout=900)
    shell.run(["apt-get", "--quiet", "download", "virtualbox"], env=apt, cwd=folder, timeout=300)
    [package] = folder.glob("virtualbox_*.deb")
    shell.run(["dpkg-deb", "--extract", package, root])
    for name in ("bin", "lib", "lib64", "sbin"):  # as the package base-files' script does
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for name in ("proc", "dev", "work"):
        (root / name).mkdir(exist_ok=True)
    return VirtualBox(root, work)


def _conf(state: Path) -> str:
    lines = [
        f'Dir::Etc::sourcelist "{state}/sources.list";',
        'Dir::Etc::sourceparts "/dev/null";',
        f'Dir::State::lists "{state}/lists";',
        f'Dir::Cache "{state}/cache";',
        'APT::Sandbox::User "root";',
        *bootstrap.relaxations(),
    ]
    return "".join(f"{line}\n" for line in lines)
