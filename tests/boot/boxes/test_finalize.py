"""The base box is modified as a maintainer does it: maintenance, a change, finalize, a new box."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from tasks.debian import bootstrap
from tasks.guests.qemu import accelerator
from tests.boot.conftest import StartBox
from tests.boot.lab.box import Box, Ran, command, home_that_knows, interrupted
from tests.boot.lab.shipped import HOST_KEYS, OVMF, first_boot
from tests.storage.faults import given_back, held
from tests.storage.trees import run_in_tree

pytestmark = pytest.mark.slow

# A package of the maintainer's own, which no network is needed for.
_PACKAGE = """\
mkdir -p /root/kim-extra/DEBIAN
printf 'Package: kim-extra\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: a test\\n\
Description: of the test\\n' >/root/kim-extra/DEBIAN/control
dpkg-deb --build /root/kim-extra /root/kim-extra.deb
dpkg --install /root/kim-extra.deb
rm -r /root/kim-extra /root/kim-extra.deb"""
# Another kernel than the one that runs, packed so that an emulated guest unpacks it in seconds.
_KERNEL = """\
name=$(apt-cache pkgnames linux-image- | grep -E '^linux-image-[0-9].*-cloud-amd64$' |
    grep -vF "$(cat running)" | sort -V | tail -n 1)
apt-get -q download "$name"
dpkg-deb --raw-extract "$name"_*.deb files
dpkg-deb -Zzstd -z1 --build files out/kernel.deb
echo "${name#linux-image-}" >out/version
"""
_HOST_KEY = "cat /run/host-keys/ssh_host_ed25519_key.pub"
# What must not be shipped.
_TRACES = """\
echo of-the-first-life >/root/.bash_history
echo of-the-first-life >/home/vagrant/.bash_history
mkdir -p /root/.ssh
echo of-the-first-life >/root/.ssh/id_ed25519
echo of-the-first-life >/persistent/credentials
echo of-the-first-life >/var/log/first.log"""


def test_only_a_box_in_maintenance_is_shipped(box: Box, tmp_path: Path) -> None:
    (tmp_path / "guest").symlink_to(box.guest.directory)
    early = command("inv", "box.finalize", state=tmp_path)
    assert early.code == 1
    assert "is not in maintenance: run inv maintain first" in early.stderr


@pytest.mark.parametrize(
    "has_new_kernel",
    [
        pytest.param(False, id="same kernel"),
        pytest.param(True, id="new kernel", marks=pytest.mark.long),
    ],
)
def test_a_modified_box_is_shipped_as_one_that_never_ran(
    start_in_maintenance: StartBox,
    accel: accelerator.Accelerator,
    tmp_path: Path,
    has_new_kernel: bool,
) -> None:
    with start_in_maintenance() as box:
        (tmp_path / "guest").symlink_to(box.guest.directory)
        first = box.state.release["MANIFEST"]
        machine_id = box.succeed("cat /etc/machine-id")
        host_key = box.succeed(_HOST_KEY)
        for change in (_PACKAGE, _TRACES, "echo more >/etc/of-the-maintainer"):
            box.succeed(change)
        kernel = _change_kernel(box, tmp_path) if has_new_kernel else box.state.kernel
        used = ("--image", str(box.guest.machine.disks[0]), "--out", str(tmp_path / "packages"))
        refused = command("inv", "box.package", *used, state=tmp_path)
        assert refused.code == 1
        assert refused.stderr.count("\n") == 1
        assert "halt the guest first" in refused.stderr
        ran = command("inv", "box.finalize", state=tmp_path)
        assert ran.code == 0, ran.stderr
        assert not box.guest.alive
    made = tmp_path / "box.raw"
    assert f"image       {made}" in ran.stdout
    assert sorted(each.name for each in tmp_path.glob("*.raw")) == ["box.raw"]
    packed = command("inv", "box.package", "--format=libvirt", "--format=qcow2", state=tmp_path)
    assert packed.code == 0, packed.stderr
    [disk] = (tmp_path / "packages").glob("*.qcow2")
    assert list((tmp_path / "packages").glob("*.libvirt.box"))
    (tmp_path / "new").mkdir()
    with first_boot(disk, tmp_path / "new", accel, OVMF, "qcow2") as box:  # others boot by BIOS
        box.succeed("test -d /sys/firmware/efi")
        assert box.succeed(_HOST_KEY) != host_key
        _is_new_and_has_the_change(box, first, machine_id)
        assert box.state.kernel == kernel
        assert f"manifest    {box.state.release['MANIFEST']}" in ran.stdout


def _change_kernel(box: Box, folder: Path) -> str:
    """In maintenance: in the place of the kernel that runs another is installed; its version."""
    work, running = folder / "kernel", box.state.kernel
    (work / "out").mkdir(parents=True)
    (work / "running").write_text(running)
    suite = bootstrap.SUITE
    tree = bootstrap.Tree(suite, ("apt-utils",), bootstrap.sources(suite), bootstrap.relaxations())
    run_in_tree(tree, work, _KERNEL)
    box.host.run("cat >/root/kernel.deb", stdin=(work / "out/kernel.deb").read_bytes())
    box.succeed(f"rm /boot/*-{running} && dpkg --install /root/kernel.deb && rm /root/kernel.deb")
    return (work / "out/version").read_text().strip()


@pytest.mark.long
def test_a_hosts_snapshots_start_from_what_was_changed(box: Box, tmp_path: Path) -> None:
    login = box.guest.login
    host = ("-i", str(login.key), "-H", f"{login.user}@{login.host}:{login.port}")

    def fab(*words: str) -> Ran:
        return command("fab", *host, *words, state=tmp_path, home=home)

    home = home_that_knows(box, tmp_path)
    manifest = box.state.release["MANIFEST"]
    unasked = fab("finalize")
    assert unasked.code == 1
    assert "Say --force if that is meant." in unasked.stderr
    early = fab("finalize", "--force")
    assert early.code == 1
    assert f"is not in maintenance: fab -H {login.host}:{login.port} maintain" in early.stderr
    assert fab("maintain").code == 0
    box.host.close()
    for change in (_PACKAGE, _TRACES, "echo more >/etc/of-the-maintainer"):
        box.succeed(change)
    same = "cat /etc/machine-id /run/host-keys/*"
    before = box.succeed(same)
    ran = fab("finalize", "--force")
    assert ran.code == 0, ran.stderr
    box.host.close()
    assert (box.verdict.name, box.verdict.reason) == ("fresh", "")
    assert box.state.initrd_matches
    assert box.succeed("cat /etc/of-the-maintainer") == "more\n"
    assert box.succeed(same) == before
    assert box.state.release["MANIFEST"] != manifest
    assert box.succeed("cat /persistent/credentials") == "of-the-first-life\n"
    box.succeed("test -s /root/.ssh/id_ed25519")
    box.fail("grep -qs of-the-first-life /root/.*_history /home/*/.*_history /var/log/first.log")


@pytest.mark.long
def test_ctrl_c_leaves_a_guest_that_can_go_on(box: Box, tmp_path: Path) -> None:
    """While the guest makes its initrds: it goes on with that, and the next finalize waits."""
    state = tmp_path
    (state / "guest").symlink_to(box.guest.directory)
    box.reboot("maintenance")

    def is_at_work() -> None:
        box.succeed("timeout 60 sh -c 'until pgrep -x makeinitrd; do sleep 0.1; done'")

    before, at = held(state), "Initrds and GRUB entries"
    ran = interrupted("inv", "box.finalize", at=at, state=state, until=is_at_work)
    box.succeed("pgrep -x makeinitrd")
    assert ran.code == 130
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[-1].startswith("interrupted: no image was made or changed;")
    assert "Traceback" not in ran.stderr
    assert given_back(state, before)
    assert _started_with(state) == []
    assert list(state.glob("*.raw")) == []
    assert box.guest.alive
    box.succeed("lvs vagrant-pipeline/root_safety")  # the next boot would merge it back
    ran = command("inv", "box.finalize", state=state)
    assert ran.code == 0, ran.stderr
    assert not box.guest.alive


def _started_with(state: Path) -> list[str]:
    """The command lines of all that an ``inv`` with this state folder left running."""
    mark = f"OPENKIM_BOX_STATE={state}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended by now
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text())
    return found


def _is_new_and_has_the_change(box: Box, first: str, machine_id: str) -> None:
    assert (box.verdict.name, box.verdict.reason) == ("fresh", "")
    assert box.state.initrd_matches
    assert box.succeed("cat /etc/of-the-maintainer") == "more\n"
    assert box.state.release["MANIFEST"] != first
    manifest = json.loads(box.succeed("cat /etc/pipeline/manifest.json"))
    assert manifest["packages"]["kim-extra"] == "1.0"
    assert box.succeed("cat /etc/machine-id") not in (machine_id, "")
    assert box.succeed("ls /persistent/ssh").split() == sorted(HOST_KEYS)
    assert sorted(box.succeed("ls /persistent").split()) == sorted(
        ["log", "lost+found", "runsecure", "runsetup", "ssh"]
    )
    box.fail("grep -rqs of-the-first-life /root /home /var/log /persistent")
    keyring = box.succeed("cat /home/vagrant/.ssh/authorized_keys").splitlines()
    assert [key.split()[2:] for key in keyring if key] == [
        ["vagrant", "insecure", "public", "key"]
    ] * 2
    assert box.succeed("stat -c '%U %a' /home/vagrant/.ssh").strip() == "vagrant 700"
    assert box.succeed("sudo -u vagrant sudo -n id -u").strip() == "0"
    assert box.succeed("/home/vagrant/shrink").startswith("/ reset 0")
    # VirtualBox's network card, and its disk's controller
    box.succeed("modinfo e1000 ahci")
    assert (
        box.succeed("timeout 300 systemctl is-system-running --wait || systemctl --failed").strip()
        == "running"
    )
