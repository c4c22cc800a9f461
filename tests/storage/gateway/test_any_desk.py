"""A desk without Debian's tools, as macOS, Fedora or Arch: from a checkout to a task on a host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.desk import shell
from tasks.desk.places import ROOT
from tests.storage.gateway.gateway import Gateway

# All that is on PATH: POSIX's tools, readlink, and what a desk is said to need.
_POSIX = ("cat", "cksum", "date", "df", "env", "grep", "head", "id", "mkdir", "rm", "sed", "sh")
_TOOLS = (*_POSIX, "tail", "tr", "readlink", "git", "ssh", "ssh-keygen", "ssh-keyscan")


@pytest.mark.long
def test_a_checkout_works_without_apt_and_dpkg(gateway: Gateway, tmp_path: Path) -> None:
    """bin/fab makes .venv from nothing; then it works on a host, over a real sshd."""
    path, checkout = tmp_path / "path", tmp_path / "a checkout"
    path.mkdir()
    for name in _TOOLS:
        (path / name).symlink_to(shell.find(name))
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached"]
    files = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name, follow_symlinks=False)
    env = {**os.environ, "PATH": str(path)}

    def start(tool: str, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(checkout / "bin" / tool), *words]
        return subprocess.run(
            argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False
        )

    made = start("fab", "--list")
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(
        r"fab: making .venv from requirements.txt\nfab: installed in \d+ s\n", made.stderr
    )
    listed = start("inv", "--list")
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, made.stdout, "")
    for task in ("box.build", "up"):
        told = start("inv", task)
        assert (told.returncode, told.stdout) == (1, "")
        assert told.stderr.startswith(
            f"error: {task} needs Debian's tools, which this system lacks"
        )
        assert told.stderr.count("\n") == 1

    def on_host(*words: str) -> shell.Completed:
        ssh = gateway.home / ".ssh"
        login = ("--ssh-config", f"{ssh}/config", "-H", "root@127.0.0.1", "-i", f"{ssh}/id_ed25519")
        return gateway.outside("env", f"PATH={path}", checkout / "bin/fab", *login, *words)

    status = on_host("status")
    assert status.returncode == 0, status.stderr
    assert "gateway" in status.stdout
    users = on_host("users")
    assert users.returncode == 0, users.stderr
    assert "ada" in users.stdout
    plan = on_host("provision", "--dry-run", "--device", "/dev/nowhere")
    assert plan.stdout == ""
    assert "error: 127.0.0.1: the host has neither initramfs-tools nor dracut" in plan.stderr
