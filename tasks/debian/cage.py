"""Run what others wrote, as the build of a part, in a throwaway tree that it cannot leave.

It has a user without rights, no network, no process but its own, and can write to its folder and to
two empty ones for temporary files. What it leaves is looked at before anything reads it.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from deploys.errors import BoxError
from tasks.debian import bootstrap, chroot
from tasks.desk import shell

# keyrings(7): whoever inherits a session's keyring may read the keys in it. The library is one that
# Debian's ssh needs.
_KEYRING = """
import ctypes, os, sys
if ctypes.CDLL("libkeyutils.so.1").keyctl_join_session_keyring(None) < 0:
    sys.exit("the kernel gives the build no keyring of its own")
os.execvp(sys.argv[1], sys.argv[1:])
"""
# The mounts and processes in them end with the first process.
_NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
# $1 is the tree, $2 the folder in it. A bind mount leaves out what is mounted below. In a chroot
# the kernel grants nobody a user namespace, in which to be root.
_SCRIPT = """
set -eu
umask 022
work=$1/$2
chown -R 65534:65534 "$work"
mount --bind "$1" "$1"
mount --bind "$work" "$work"
mount -o remount,bind,nosuid,nodev "$work"
mount -t tmpfs -o nosuid,nodev,mode=1777 cage "$1/tmp"
mount -t tmpfs -o nosuid,nodev,mode=1777 cage "$1/var/tmp"
mount -t tmpfs -o nosuid,mode=755 cage "$1/dev"
for node in full null random urandom zero; do
    : >"$1/dev/$node"
    mount --bind "/dev/$node" "$1/dev/$node"
done
ln -s /proc/self/fd "$1/dev/fd"
mount -o remount,ro "$1/dev"
mount -t proc -o nosuid,nodev,noexec,hidepid=2 proc "$1/proc"
mount -o remount,bind,ro,nosuid,nodev "$1"
: >"$work/log"
exec 3<"$work/log"
chroot "$1" setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all \\
    --bounding-set=-all env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 sh -eu "/$2/run" \\
    </dev/null >"$work/log" 2>&1 3<&- && exit
tail -n 1 <&3 | tr -c '[:print:]\\n' '?' >&2
exit 1
"""
_DEADLINE = 3600


def run_in_tree(tree: bootstrap.Tree, work: Path, script: str) -> None:
    """Run a shell script, shut in, in a new root tree, which is deleted afterwards.

    The folder ``work`` is copied to the top of the tree, under the same name, and the script runs
    in it. Its subfolder ``out`` is moved back.

    Raises:
        BoxError: a package does not exist, mmdebstrap is missing, or the script failed. The line is
            the last one that the script printed.
    """
    with tempfile.TemporaryDirectory(dir=work.parent, prefix="tree-") as folder:
        root = Path(folder) / "root"
        bootstrap.fill_folder(root, tree, Path(folder))
        run(root, work, script)


def run(root: Path, work: Path, script: str) -> None:
    """Run a shell script, shut in, in a copy of ``work`` at the top of the tree ``root``.

    Its subfolder ``out`` is moved back to ``work``; it has files, folders and links only.

    Raises:
        BoxError: the script failed, or left something else.
    """
    inside = root / work.name
    shutil.copytree(work, inside, symlinks=True)
    (inside / "run").write_text(f"cd /{work.name}\n{script}")
    argv: list[str | Path] = [sys.executable, "-c", _KEYRING, "unshare", *_NAMESPACES]
    argv += ["sh", "-c", _SCRIPT, "sh", root, work.name]
    try:
        shell.run(argv, env=chroot.environment(), timeout=_DEADLINE)
    except shell.CommandError as error:
        said = error.stderr.strip().splitlines()
        raise BoxError(said[-1] if said else str(error)) from error
    _require_plain(inside / "out")
    shutil.move(inside / "out", work / "out")


def _require_plain(out: Path) -> None:
    if out.is_symlink() or not out.is_dir():
        raise BoxError("the sources make no folder of files")
    for place, folders, files in os.walk(out):
        for name in (*folders, *files):
            path = Path(place, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                raise BoxError(f"the sources make {str(path.relative_to(out))!r}, which is no file")
