"""Builds of hostile authors, in the cage of every build, on a small Debian; and a good one."""

from __future__ import annotations

import ctypes
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.debian import cage, deb

CONNECT = "python3 -c 'from socket import *;"
# Each line is an attack; what it prints is told, and "refused" if it fails.
ATTACKS = {
    "the network": f'{CONNECT} create_connection(("{{host}}", {{port}}), 5)\'',
    "the loopback": f'{CONNECT} create_connection(("127.0.0.1", {{port}}), 5)\'',
    "an abstract socket": f'{CONNECT} socket(AF_UNIX).connect("\\0cage-{{port}}")\'',
    "the first process": "cat /proc/1/environ",
    "a folder of the first process": "ls /proc/1/root/",
    "the memory of the first process": "head -c 1 /proc/1/mem",
    "processes outside": "kill -0 {pid}",
    "every process": "kill -9 1",
    "a file outside": "cat {outside}",
    "a way out by chroot": "python3 -c 'import os; os.chroot(\"/tmp\")'",
    "the tree's etc": "echo x >/etc/evil",
    "the tree's root": "mkdir /evil",
    "a program of the tree": "cp /bin/true /usr/bin/evil",
    "the shadow of passwords": "cat /etc/shadow",
    "another user": "setpriv --reuid=0 true",
    "a setuid program": "su -c true",
    "a mount": "mount -t tmpfs none /tmp",
    "a namespace of users": "unshare --user --map-root-user true",
    "a disk": "mknod /tmp/disk b 7 0",
    "a device of this machine": "ls /dev | grep -vx 'fd\\|full\\|null\\|random\\|urandom\\|zero'",
    "the kernel's settings": "echo x >/proc/sys/kernel/core_pattern",
    "the kernel's files": "ls /sys | grep .",
    "the host's name": "hostname evil",
    "open files of others": "ls /proc/self/fd/ | grep -v '^[0-3]$'",
    "a terminal": ": </dev/tty",
    "a key of the operator's": "python3 key.py",
}
STATE = "grep -E '^(Cap|NoNewPrivs|Uid|Groups)' /proc/self/status"


# keyctl(2) of x86-64: 248 is add_key, 250 keyctl, 10 search, -3 the keyring of the session.
ADD_KEY, KEYCTL, SEARCH, SESSION = 248, 250, 10, -3
FIND_KEY = f"""
import ctypes, sys
key = ctypes.CDLL(None).syscall({KEYCTL}, {SEARCH}, {SESSION}, b"user", b"cage", 0)
sys.exit(key < 0)
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "of a part" / "build"
    folder.mkdir(parents=True)
    return folder


@contextmanager
def listening(name: str) -> Iterator[int]:
    """Servers of this machine that a build might reach; the port."""
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("0.0.0.0", 0))
        tcp.listen()
        port: int = tcp.getsockname()[1]
        unix.bind(f"\0{name}-{port}")
        unix.listen()
        yield port


def test_what_a_hostile_build_tries_is_refused(root: Path, work: Path, tmp_path: Path) -> None:
    outside = tmp_path / "of the operator"
    outside.write_text("a secret")
    outside.chmod(0o644)
    (work / "key.py").write_text(FIND_KEY)
    ctypes.CDLL(None).syscall(ADD_KEY, b"user", b"cage", b"a secret", 8, SESSION)
    subprocess.run([sys.executable, work / "key.py"], check=True)
    addresses = socket.gethostbyname_ex(socket.gethostname())[2] or ["127.0.0.1"]
    with listening("cage") as port:
        secret = shlex.quote(str(outside))
        given = {"host": addresses[0], "port": port, "pid": os.getpid(), "outside": secret}
        lines = [
            f"if ({attack.format(**given)}) >>said 2>&1; then echo {shlex.quote(name)}; fi"
            for name, attack in ATTACKS.items()
        ]
        # The control: the same from here, where nothing is refused.
        for kind in ("the network", "the loopback", "an abstract socket"):
            subprocess.run(ATTACKS[kind].format(**given), shell=True, check=True)
        script = "\n".join(("mkdir out; {", *lines, "} >out/worked", f"{STATE} >out/state", ""))
        cage.run(root, work, script)
    assert (work / "out/worked").read_text() == ""
    said = (line.split(":") for line in (work / "out/state").read_text().splitlines())
    state = {name: words.split() for name, words in said}
    assert [state.pop(name) for name in list(state) if name.startswith("Cap")] == [["0" * 16]] * 5
    assert state == {"NoNewPrivs": ["1"], "Uid": ["65534"] * 4, "Groups": []}
    assert not (root / "etc/evil").exists()


def mounts(root: Path) -> list[str]:
    """The mounts of this machine at or below ``root``; other tests have others."""
    return [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if Path(line.split()[4]).is_relative_to(root)
    ]


def test_nothing_of_a_build_outlives_it(root: Path, work: Path) -> None:
    before = mounts(root)
    cage.run(root, work, "mkdir out; (setsid sleep 4711 &) </dev/null >/dev/null 2>&1\n")
    deadline = time.monotonic() + 10
    while subprocess.run(["pgrep", "-fx", "sleep 4711"], capture_output=True).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert before
    assert mounts(root) == before


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("ln -s /etc out", "the sources make no folder of files"),
        (":", "the sources make no folder of files"),
        ("mkdir out; mkfifo out/pipe", "the sources make 'pipe', which is no file"),
        ("mkdir -p out/a; python3 -c 'import socket; socket.socket(1).bind(\"out/a/s\")'", "'a/s'"),
        ("echo an error; exit 3", "^an error$"),
        ("printf '\\033]0;x\\007 red\\n'; false", r"^\?\]0;x\? red$"),
        # The log is read by what was opened before the build began.
        ("rm log; ln -s /etc/shadow log; echo mine; false", "^(?!.*root:)"),
        ("false", "failed with exit code 1"),
    ],
)
def test_what_a_build_leaves_is_looked_at_first(
    script: str, line: str, root: Path, work: Path
) -> None:
    with pytest.raises(BoxError, match=line) as caught:
        cage.run(root, work, f"{script}\n")
    assert str(caught.value).isprintable()
    assert not (work / "out").exists()


def test_scripts_for_dpkg_are_refused(root: Path, work: Path) -> None:
    cage.run(root, work, "mkdir -p out/DEBIAN; echo id >out/DEBIAN/postinst\n")
    with pytest.raises(BoxError, match="the sources make DEBIAN"):
        deb.write(work / "out", {"Package": "x"}, work)


def test_a_good_build_has_its_folder_its_sources_and_places_for_temporary_files(
    root: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "secret")
    (work / "source.c").write_text("what is built\n")
    script = """
mkdir -p out/usr/bin out/usr/lib
cp source.c out/usr/bin/program
chmod 4755 out/usr/bin/program
ln -s program out/usr/bin/link
pwd >out/usr/lib/where
env | sort >out/usr/lib/env
for place in /tmp /var/tmp .; do echo x | tee "$place/file" >/dev/null; done
head -c 4 /dev/zero /dev/urandom >/dev/null
"""
    cage.run(root, work, script)
    said = {path.name: path for path in (work / "out").rglob("*") if path.is_file()}
    assert said["program"].read_text() == "what is built\n"
    assert said["link"].readlink() == Path("program")
    assert said["where"].read_text() == "/build\n"
    names = {line.partition("=")[0] for line in said["env"].read_text().splitlines()}
    assert names <= {"PATH", "LC_ALL", "PWD", "OLDPWD", "_", "SHLVL"}
    fields = {"Package": "x", "Version": "1", "Architecture": "all", "Maintainer": "x"}
    deb.write(work / "out", {**fields, "Description": "x"}, work)
    (package,) = work.glob("*.deb")
    listed = subprocess.run(["dpkg-deb", "--contents", package], capture_output=True, text=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert {row[1] for row in rows} == {"root/root"}
    assert [row[0] for row in rows if row[-1] == "./usr/bin/program"] == ["-rwxr-xr-x"]
