"""Trees of tests: of Ubuntu; and throwaway ones, for scripts that need root and the network."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tasks.debian import bootstrap
from tasks.desk import loop, shell


def run_in_tree(tree: bootstrap.Tree, work: Path, script: str) -> None:
    """Run a script in a copy of ``work`` at the top of a new tree; its ``out`` is copied back."""
    with tempfile.TemporaryDirectory(dir=work.parent, prefix="tree-") as folder:
        root = Path(folder) / "root"
        bootstrap.fill_folder(root, tree, Path(folder))
        shutil.copytree(work, root / work.name, symlinks=True)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        (root / work.name / "run").write_text(f"cd /{work.name}\n{script}")
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        words = ("env", "-i", path, "LC_ALL=C.UTF-8", "sh", "-eu", f"/{work.name}/run")
        with loop.chroot(root):
            shell.run(["chroot", root, *words], timeout=1800)
        shutil.copytree(root / work.name / "out", work / "out", symlinks=True, dirs_exist_ok=True)


def make_ubuntu(tar: Path, suite: str, packages: tuple[str, ...]) -> None:
    """Write a root tree of Ubuntu to ``tar``; mmdebstrap knows the mirror, Debian has the keys."""
    with tempfile.TemporaryDirectory(dir=tar.parent, prefix="tree-") as name:
        folder = Path(name)
        shell.run(["apt-get", "download", "-qq", "ubuntu-keyring"], cwd=folder, timeout=300)
        [package] = folder.glob("*.deb")
        shell.run(["dpkg-deb", "--extract", package, folder])
        keys = folder / "usr/share/keyrings/ubuntu-archive-keyring.gpg"
        argv = ["mmdebstrap", "--variant=apt", "--mode=root", f"--include={','.join(packages)}"]
        # of this folder of hooks the other refuses jammy's usr-is-merged, as too old
        merged = "/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh"
        argv += [f"--setup-hook={merged}", f"--keyring={keys}"]
        argv += ["--components=main,universe", suite, str(tar)]
        environment = {"INITRD": "No", "DEBIAN_FRONTEND": "noninteractive", "TMPDIR": name}
        shell.run([*bootstrap.CONTAINED, *argv], env=environment, timeout=3600)
