"""Scripts of tests that need root and the network in a throwaway tree; builds have neither."""

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
