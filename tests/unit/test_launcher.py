"""bin/inv and bin/fab, run for real in a copy, with made-up programs for all that they install.

The copy's PATH holds those and the plain tools that the launcher may use; nothing else.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = pytest.mark.commands

_BIN = Path(__file__).parents[2] / "bin"
_REAL = (
    *("cat", "cksum", "date", "df", "env", "flock", "grep", "head", "mkdir", "readlink", "rm"),
    *("sed", "sh", "sleep", "tail", "touch", "tr", "true"),
)
# What macOS, BSD or Fedora do not have of what the launcher may use on Debian.
_DEBIAN = ("apt-cache", "apt-get", "dpkg", "dpkg-query", "flock", "sudo")
_LOG = 'echo "${0##*/} $*" >>"$CALLS"\n'
# What each made-up program does; $STATE is a folder whose files are the state of the system.
_FAKES = {
    "id": 'cat "$STATE/uid"',
    "dpkg-query": "sed 's/^/|/' \"$STATE/packages\"",
    "dpkg": """
        [ "$1" = --compare-versions ] || exit 0
        [ "${2%%.*}" -ge "${4%%.*}" ]""",
    "apt-cache": 'echo "$2:"; echo "  Candidate: $(cat "$STATE/candidate")"',
    "apt-get": """
        case "$*" in
        indextargets*) cat "$STATE/targets"; exit ;;
        *update) exit ;;
        esac
        [ ! -e "$STATE/apt-fails" ] || { echo "E: no route to the mirror"; exit 100; }
        printf 'installed %s \\n' 'git 1.0' 'qemu 10.0' 'vagrant 2.3' >"$STATE/packages" """,
    "sudo": """
        [ "$1" != -n ] || [ -e "$STATE/may-sudo" ] || exit 1
        [ "$1" != -n ] || shift
        exec "$@" """,
    "tee": 'cat >"$STATE/source"',
    "python3": """
        case "$1 $2" in
        "-c "*fcntl*) exec "$PYTHON" "$@" ;;
        -c*) [ ! -e "$STATE/old-python" ] || { echo "is version 3.9"; exit 1; }
            echo "$0"
            exit ;;
        esac
        [ "$1 $2 $3" = "-m venv --clear" ] || exit 2
        rm -rf "$4"
        mkdir -p "$4/bin"
        cat >"$4/bin/python3" <<'EOF'
#!/bin/sh
echo "pip $*" >>"$CALLS"
[ ! -e "$STATE/pip-hangs" ] || { touch "$STATE/hanging"; exec sleep 60; }
[ ! -e "$STATE/pip-fails" ] || { cat "$STATE/pip-fails"; exit 1; }
for tool in inv fab; do
    printf '#!/bin/sh\\nprintf "%%s|" "${0##*/}" "$PWD" "$@"\\n' >"${0%/*}/$tool"
    chmod +x "${0%/*}/$tool"
done
EOF
        chmod +x "$4/bin/python3" """,
}


@dataclass
class Machine:
    """A checkout, and a made-up system around it."""

    folder: Path
    root: Path = field(init=False)
    state: Path = field(init=False)
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root = self.folder / "a checkout"
        self.state = self.folder / "state"
        self.path = self.folder / "path"
        for each in (self.root, self.state, self.path):
            each.mkdir()
        shutil.copytree(_BIN, self.root / "bin", symlinks=True)
        (self.root / "bin/packages").write_text("# why\ngit  # g\n")
        (self.root / "bin/packages-for-images").write_text("qemu >= 8.0  # q\n")
        (self.root / "tests").mkdir()
        (self.root / "tests/packages").write_text("vagrant  # v\n")
        (self.root / "requirements.txt").write_text("one==1\n")
        for name in (*_REAL, "chmod"):
            found = shutil.which(name)
            assert found
            (self.path / name).symlink_to(found)
        for name, body in _FAKES.items():
            self.fake(name, body)
        self.set("uid", "0")
        self.set("packages", "installed git 1.0 \ninstalled qemu 10.0 \n")
        self.set("candidate", "10.0")
        self.set("targets", "")

    def fake(self, name: str, body: str) -> None:
        """Put a made-up program on PATH that notes how it was called."""
        file = self.path / name
        file.unlink(missing_ok=True)  # it may be a link to the system's own
        file.write_text(f"#!/bin/sh\n{_LOG}{body}\n")
        file.chmod(0o755)

    def set(self, name: str, text: str = "") -> None:
        """Set one fact of the made-up system."""
        (self.state / name).write_text(text)

    def unset(self, name: str) -> None:
        """Take one fact of the made-up system back."""
        (self.state / name).unlink()

    def without_debian(self) -> None:
        """Take away what only Debian has."""
        for name in _DEBIAN:
            (self.path / name).unlink()

    def start(self, *arguments: str, tool: str = "inv") -> subprocess.Popen[str]:
        """Start bin/inv or bin/fab from another folder, in a session of its own."""
        env = {"PATH": str(self.path), "STATE": str(self.state), "CALLS": str(self.state / "calls")}
        env |= {"PYTHON": sys.executable, "CDPATH": "/"}
        return subprocess.Popen(
            [self.root / "bin" / tool, *arguments],
            env=env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, tool: str = "inv") -> tuple[int, str, str]:
        """The exit code, standard output and standard error of a start."""
        process = self.start(*arguments, tool=tool)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def calls(self, start: str) -> list[str]:
        """What was called since the last look, of the lines that begin with this word."""
        file = self.state / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [line for line in lines if line.startswith(start) and line != "id -u"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with the packages and without an environment."""
    return Machine(tmp_path)


@pytest.mark.parametrize("tool", ["inv", "fab"])
def test_it_installs_and_runs_the_tool_of_its_name(machine: Machine, tool: str) -> None:
    """Arguments and the caller's folder arrive as they were; only the project is added."""
    code, out, err = machine.run("up", "a b", "*", tool=tool)
    assert code == 0
    words = [tool, str(machine.folder), "--search-root", str(machine.root), "up", "a b", "*"]
    assert out == "|".join([*words, ""])
    assert err.splitlines()[0] == f"{tool}: making .venv from requirements.txt"
    (pip,) = machine.calls("pip")
    assert "--require-hashes" in pip
    assert "://" not in pip


def test_a_second_start_does_nothing_more(machine: Machine) -> None:
    """No word and no call of apt, dpkg or pip."""
    machine.run()
    machine.calls("")
    assert machine.run("x")[2] == ""
    assert machine.calls("") == []


def test_changed_requirements_are_installed_again(machine: Machine) -> None:
    """The environment belongs to what the file said."""
    machine.run()
    machine.calls("")
    with (machine.root / "requirements.txt").open("a") as stream:
        stream.write("# more\n")
    assert machine.run()[0] == 0
    assert len(machine.calls("pip")) == 1


@pytest.mark.parametrize("name", ["packages", "packages-for-images"])
def test_a_changed_list_of_packages_leaves_the_environment(machine: Machine, name: str) -> None:
    """Only what is new in it is installed."""
    machine.run()
    machine.calls("")
    with (machine.root / "bin" / name).open("a") as stream:
        stream.write("vagrant  # more\n")
    assert machine.run()[2].splitlines()[0] == "inv: installing vagrant"
    assert machine.calls("pip") == []
    machine.calls("")
    assert machine.run()[2] == ""


def test_a_moved_checkout_is_installed_again(machine: Machine) -> None:
    """The environment's own scripts name the folder they were made in."""
    machine.run()
    machine.calls("")
    moved = machine.folder / "moved"
    machine.root.rename(moved)
    machine.root = moved
    assert machine.run()[0] == 0
    assert len(machine.calls("pip")) == 1


def test_another_checkouts_environment_is_left_alone(machine: Machine) -> None:
    """It is not emptied through a link to it; the link gives way."""
    machine.run()
    others = machine.folder / "others"
    (machine.root / ".venv").rename(others)
    (machine.root / ".venv").symlink_to(others)
    with (machine.root / "requirements.txt").open("a") as stream:
        stream.write("# more\n")
    assert machine.run()[0] == 0
    assert not (machine.root / ".venv").is_symlink()
    assert (others / "bin/inv").exists()


def test_it_works_through_a_link_from_elsewhere(machine: Machine) -> None:
    """As with ~/bin/inv."""
    link = machine.folder / "inv"
    link.symlink_to(machine.root / "bin/inv")
    machine.run()
    done = subprocess.run([link, "x"], env={"PATH": str(machine.path)}, capture_output=True)
    assert f"--search-root|{machine.root}|x|".encode() in done.stdout


def test_missing_packages_are_installed_as_root(machine: Machine) -> None:
    """Only those that are missing, after whatever a cut install left."""
    machine.set("packages", "installed qemu 10.0 \nhalf-installed git 1.0 \n")
    code, _, err = machine.run()
    assert code == 0
    assert err.splitlines()[0] == "inv: installing git"
    calls = machine.calls("")
    assert "dpkg --configure -a" in calls
    assert [call for call in calls if call.endswith(" install git")]
    assert not [call for call in calls if call.startswith("sudo")]


def test_sudo_without_a_password_is_used(machine: Machine) -> None:
    """As on a cloud's fresh machine."""
    machine.set("uid", "1000")
    machine.set("may-sudo")
    machine.set("packages", "installed qemu 10.0 \n")
    assert machine.run()[0] == 0
    assert [call for call in machine.calls("sudo") if call.endswith(" install git")]


@pytest.mark.parametrize("sudo", [True, False])
def test_without_root_the_missing_packages_are_named(machine: Machine, sudo: bool) -> None:
    """In one line; nothing is installed, and no environment is made."""
    machine.set("uid", "1000")
    machine.set("packages")
    if not sudo:
        (machine.path / "sudo").unlink()
    code, out, err = machine.run()
    assert (code, out) == (1, "")
    line = "inv: missing packages: git, qemu (>= 8.0); get them by sudo apt-get install git qemu\n"
    assert err == line
    assert machine.calls("apt-get") == []
    assert not (machine.root / ".venv").exists()


def test_a_full_disk_is_named(machine: Machine) -> None:
    """What failed says nothing, or something else: its own line found no room."""
    size = "echo Filesystem 1024-blocks Used Available Capacity Mounted on; "
    row = f"/dev/a-disk 12288 12288 0 100% {machine.root}"
    machine.fake("df", f"{size} echo '{row}'")
    machine.fake("python3", '[ "$1" = -c ] || { echo "Error: Command returned 1"; exit 1; }')
    code, out, err = machine.run()
    assert (code, out) == (1, "")
    log = machine.root / ".box/install.log"
    said = f"inv: python3 -m venv: the disk is full, at {machine.root} (full log: {log})"
    assert err.splitlines()[-1] == said


def test_only_the_tests_get_what_only_they_need(machine: Machine) -> None:
    """Once, and into the environment that is there already."""
    machine.run("up")
    assert machine.calls("apt-get") == []
    machine.calls("")
    code, _, err = machine.run("test", "--quick")
    assert code == 0
    assert err.splitlines()[0] == "inv: installing vagrant"
    machine.calls("")
    assert machine.run("test")[2] == machine.run("up")[2] == ""
    assert machine.calls("") == []


def test_a_cut_install_for_the_tests_is_made_good(machine: Machine) -> None:
    """The next start of the tests begins again; the other tasks never waited for it."""
    machine.set("apt-fails")
    assert machine.run("up")[0] == 0
    assert machine.run("test")[0] == 1
    assert machine.run("up")[0] == 0
    machine.unset("apt-fails")
    machine.calls("")
    assert machine.run("test")[0] == 0
    calls = machine.calls("")
    assert [call for call in calls if call.endswith(" install vagrant")]
    assert not [call for call in calls if call.startswith("pip")]


def test_fab_of_an_ordinary_user_needs_no_packages_for_images(machine: Machine) -> None:
    """Only root could make an image with them; root's fab installs them."""
    machine.set("uid", "1000")
    machine.set("packages", "installed git 1.0 \n")
    assert machine.run(tool="fab")[0] == 0
    assert machine.calls("sudo") == []
    assert machine.run(tool="fab")[2] == ""
    machine.set("uid", "0")
    assert machine.run(tool="fab")[2].splitlines()[0] == "fab: installing qemu (>= 8.0)"


def test_without_root_nothing_is_asked_when_nothing_is_missing(machine: Machine) -> None:
    """A user of a machine that has the packages needs no sudo."""
    machine.set("uid", "1000")
    assert machine.run()[0] == 0
    assert machine.calls("sudo") == []


def _on_debian() -> str | None:
    release = platform.freedesktop_os_release()
    return release.get("VERSION_CODENAME") if release.get("ID") == "debian" else None


@pytest.mark.skipif(_on_debian() is None, reason="backports are Debian's")
@pytest.mark.parametrize("known", [False, True])
def test_what_is_too_old_comes_from_backports(machine: Machine, known: bool) -> None:
    """From the mirror in use, and with no second source where there is one."""
    name = _on_debian()
    targets = f"{name} main http://mirror.test/debian\n"
    if known:
        targets += f"{name}-backports main http://mirror.test/debian\n"
    machine.set("targets", targets)
    machine.set("candidate", "7.2")
    machine.set("packages", "installed git 1.0 \ninstalled qemu 7.2 \n")
    code, _, err = machine.run()
    assert code == 0, err
    assert [c for c in machine.calls("apt-get") if c.endswith(f" install -t {name}-backports qemu")]
    source = machine.state / "source"
    assert source.exists() is not known
    if not known:
        lines = source.read_text().splitlines()
        assert "URIs: http://mirror.test/debian" in lines
        assert f"Suites: {name}-backports" in lines
        assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" in lines


@pytest.mark.parametrize("tool", ["inv", "fab"])
def test_a_system_without_apt_gets_the_environment(machine: Machine, tool: str) -> None:
    """And nothing else; the tasks say themselves what they lack."""
    machine.without_debian()
    machine.set("packages")
    code, out, err = machine.run("test", tool=tool)
    assert (code, out.startswith(f"{tool}|")) == (0, True), err
    assert err.splitlines()[0] == f"{tool}: making .venv from requirements.txt"
    machine.calls("")
    assert machine.run("x", tool=tool)[2] == ""
    assert machine.calls("python3") == []


@pytest.mark.parametrize(
    ("fault", "what", "says"),
    [
        ("apt-fails", "", "E: no route to the mirror"),
        ("pip-fails", "ERROR: hashes do not match", "ERROR: hashes do not match"),
        (
            "pip-fails",
            "WARNING: Retrying (Retry(total=0, connect=None))\nERROR: No matching distribution",
            "pip: the package index does not answer: is there a network?",
        ),
    ],
)
def test_a_fault_is_one_line_and_mends_itself(
    machine: Machine, fault: str, what: str, says: str
) -> None:
    """The reason, and where the rest is; the next start begins again."""
    machine.set("packages")
    machine.set(fault, what)
    code, out, err = machine.run()
    assert (code, out) == (1, "")
    assert says in err.splitlines()[-1]
    assert "/.box/install.log" in err.splitlines()[-1]
    machine.unset(fault)
    assert machine.run("x")[0] == 0


@pytest.mark.parametrize("debian", [True, False])
def test_an_interrupted_start_mends_itself(machine: Machine, debian: bool) -> None:
    """Ctrl-C while pip is at work leaves no lock, no process, and no stamp."""
    if not debian:
        machine.without_debian()
    machine.set("pip-hangs")
    process = machine.start()
    _wait_for(machine.state / "hanging")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode != 0
    assert not (machine.root / ".venv/installed").exists()
    machine.unset("pip-hangs")
    code, _, err = machine.run("x")
    assert code == 0
    assert "waiting" not in err


@pytest.mark.parametrize("debian", [True, False])
def test_two_starts_at_once_install_once(machine: Machine, debian: bool) -> None:
    """The second waits, and then has nothing left to do; without flock, Python locks."""
    if not debian:
        machine.without_debian()
    gate = machine.state / "go"
    os.mkfifo(gate)
    body = _FAKES["python3"].replace("rm -rf", 'touch "$STATE/making"; cat "$STATE/go"; rm -rf')
    machine.fake("python3", body)
    first = machine.start("first")
    _wait_for(machine.state / "making")
    second = machine.start("second")
    assert second.stderr
    assert second.stderr.readline() == "inv: waiting for another start, which is installing\n"
    gate.write_text("")
    outs = [each.communicate(timeout=30)[0] for each in (first, second)]
    assert [each.returncode for each in (first, second)] == [0, 0]
    assert ["first" in outs[0], "second" in outs[1]] == [True, True]
    assert len(machine.calls("pip")) == 1


def test_an_old_python_is_refused(machine: Machine) -> None:
    """Neither the one on PATH nor the system's will do; the line says what it is."""
    machine.set("old-python")
    _without_system_python(machine)
    code, _, err = machine.run()
    assert code == 1
    python, wanted = machine.path / "python3", "Python 3.11 or newer, with venv and pip, is needed"
    assert err == f"inv: {python} is version 3.9: {wanted}\n"
    python.unlink()
    assert machine.run()[2] == f"inv: there is no python3: {wanted}\n"


def test_a_newer_python_beside_an_old_one_is_taken(machine: Machine) -> None:
    """As on macOS, whose own is old."""
    good = machine.path / "python3.12"
    (machine.path / "python3").rename(good)
    machine.fake("python3", 'echo "is version 3.9"; exit 1')
    code, _, err = machine.run()
    assert code == 0, err
    assert [call for call in machine.calls("python3.12") if " venv " in call]


def test_a_python_without_pip_is_named(machine: Machine) -> None:
    """By what a real Python says of itself; Debian's packages leave them out."""
    (machine.folder / "ensurepip.py").write_text("raise ImportError")
    machine.fake("python3", f"""PYTHONPATH='{machine.folder}' exec '{sys.executable}' "$@" """)
    _without_system_python(machine)
    code, _, err = machine.run()
    assert code == 1
    assert err.startswith(f"inv: {machine.path}/python3 has no venv or pip")
    assert "python3-venv" in err


def test_the_environment_is_of_a_python_with_a_version_in_its_name(machine: Machine) -> None:
    """An upgrade that replaces it breaks the link in .venv, which is then made anew."""
    real, link = machine.path / "python3.11", machine.path / "python3"
    link.rename(real)
    machine.fake("python3", f"exec '{real}' \"$@\"")
    assert machine.run()[0] == 0
    assert [call for call in machine.calls("python3.11") if " venv " in call]


def test_another_name_is_refused(machine: Machine) -> None:
    """It runs inv or fab, and guesses at nothing else."""
    (machine.root / "bin/invoke").symlink_to("inv")
    code, _, err = machine.run(tool="invoke")
    assert code == 1
    assert "inv or fab" in err


@pytest.mark.parametrize("file", ["bin/packages", "bin/packages-for-images", "tests/packages"])
def test_every_package_says_why(file: str) -> None:
    """One a line, with a reason; the launcher reads the rest."""
    for line in (_BIN.parent / file).read_text().splitlines():
        wanted, _, why = line.partition("#")
        assert why.strip()
        assert len(wanted.split()) in (0, 1, 3)


def _without_system_python(machine: Machine) -> None:
    launcher = machine.root / "bin/inv"
    none = str(machine.folder / "none")
    launcher.write_text(launcher.read_text().replace("/usr/bin/python3", none))


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < deadline, f"{file.name} did not come"
        time.sleep(0.01)
