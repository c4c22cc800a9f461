"""Names and URLs: the settings take what their consumers take, and no password."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from deploys.errors import SettingsError
from tasks.desk.flags import load, validated
from tasks.desk.places import ROOT
from tests.unit.deploys.settings.test_hostile_values import TRICKS

COMMIT = "a" * 40
# Those that an argument of a program can be.
WORDS = [trick for trick in TRICKS if "\0" not in trick and trick != "\ud800"]
HOSTNAMES = {
    "taken": [
        *("git://h", "git://127.0.0.1:9418/x", "https://git.example.org/a/b/", "http://[::1]:80/x"),
        *("ssh://git@h/srv", "ssh://git@h:2222/~/x", "file:///srv/git", "/srv/git", "/a@b:c/~x"),
    ],
    "refused": [
        *("h", "h:x", "git@h:x", "../x", "-x", "--upload-pack=id", "ext::sh -c id", "fd::3", " /x"),
        *("git://", "git://-x", "git://h;id", "git://h id", "git://h\nid", "git://h$(id)", "x://h"),
        *(
            "git://h\x1b[2J",
            "git://h\x7f",
            "git://é",
            "git://h'",
            'git://h"',
            "git://h\\",
            "git://?",
        ),
        *("ssh://-oProxyCommand=id", "ssh://git@-oProxyCommand=id", "ssh://git@h:-1", "file://h/x"),
        *("https://me:secret@h/", "https://token@h/", "ssh://me:secret@h/", "git://me:secret@h"),
        *("http://u:secret@h", "https://u:sec/ret@h", "GIT://h", "/x\n/y", "/x*", "https://h/?a#b"),
    ],
    # git says this itself
    "refused by the settings": ["git://h:0", "https://h:65536/x", "ssh://h:99999999999"],
}
BRANCHES = {
    "taken": ["stable", "v1.2", "a/b-c_d", "A", "0", "a.lockx", "x-"],
    "refused": [
        *("", "-d", ".x", "/x", "a..b", "a//b", "a/", "a.", "a.lock", "a.lock/b", "a/.b", "a b"),
        *("a~1", "a^", "a:b", "a?", "a*", "a[", "a\\", "@", "a@{u}", "a\nb", "a\x7f", "é", "$(id)"),
    ],
}


def runsetup(function: str, values: list[str]) -> list[str]:
    """Those of the values that this function of the box's own script takes."""
    scripts = [
        text
        for file in (ROOT / "static/onbox").rglob("*")
        if file.is_file() and f"\n{function}() {{\n" in (text := file.read_text(errors="replace"))
    ]
    (body,) = (re.search(rf"^{function}\(\) \{{\n.*?^\}}", text, re.M | re.S) for text in scripts)
    assert body
    script = (
        f'refuse() {{ exit 2; }}\n{body[0]}\nfor value; do ({function} "$value"); echo $?; done'
    )
    env = {"PATH": "/nowhere", "LC_ALL": "C"}
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *values], env=env, capture_output=True, text=True
    )
    codes = done.stdout.split()
    return [value for value, code in zip(values, codes, strict=True) if code == "0"]


def settings_take(name: str, values: list[str]) -> list[str]:
    part = "stack.openkim-pipeline-setup"
    pin = (f"{part}.source=git", f"{part}.version={COMMIT}")

    def takes(value: str) -> bool:
        try:
            load(None, [f"{name}={value}", *pin])  # with it the box takes git:// too
        except SettingsError:
            return False
        return True

    return [value for value in values if takes(value)]


@pytest.mark.commands
def test_settings_and_runsetup_take_the_same_hostnames_and_none_with_a_password() -> None:
    values = [each for some in HOSTNAMES.values() for each in some]
    assert settings_take("setup.hostname", values) == HOSTNAMES["taken"]
    stricter = HOSTNAMES["refused by the settings"]
    assert runsetup("check_hostname", values) == [*HOSTNAMES["taken"], *stricter]
    tricks = [f"{good}{trick}" for good in HOSTNAMES["taken"] for trick in WORDS]
    said = set(settings_take("setup.hostname", tricks))
    assert said <= set(runsetup("check_hostname", tricks))


@pytest.mark.parametrize("name", ["package.url", "stack.lammps.location"])
def test_no_setting_that_is_a_url_takes_a_password(name: str) -> None:
    row = ["stack.lammps.source=git", f"stack.lammps.version={COMMIT}"]
    for url in ("https://me:secret@h/x/", "https://secret@h/x/", "ssh://me:secret@h/x/"):
        with pytest.raises(SettingsError, match="write no password") as caught:
            load(None, [*row, f"{name}={url}"])
        assert "secret" not in str(caught.value)


@pytest.mark.commands
def test_settings_runsetup_and_git_take_the_same_branches() -> None:
    values = [each for some in BRANCHES.values() for each in some]
    assert settings_take("setup.branch", values) == BRANCHES["taken"]
    assert runsetup("check_branch", values) == BRANCHES["taken"]
    tricks = [f"stable{trick}" for trick in WORDS]
    taken = [*BRANCHES["taken"], *settings_take("setup.branch", tricks)]
    assert runsetup("check_branch", taken) == taken
    for branch in taken:
        subprocess.run(["git", "check-ref-format", "--branch", branch], check=True)


def test_no_account_of_the_system_becomes_the_image_s_user() -> None:
    masters = Path("/usr/share/base-passwd")
    found = {
        line.partition(":")[0]
        for name in ("passwd.master", "group.master")
        for line in (masters / name).read_text().splitlines()
    }
    found |= {"sshd", "messagebus", "polkitd", "systemd-network", "_apt", "_chrony", "netdev"}
    assert len(found) > 40
    found |= {"Root", "a" * 33, "1a", "-a", "a.b", "a$", ""}
    assert settings_take("image.user", sorted(found)) == []
    good = ["vagrant", "ada", "a", "kim-user_1"]
    assert settings_take("image.user", good) == good


@pytest.mark.parametrize("name", ["volgroup", "lvroot", "lvsnap"])
def test_no_name_of_lvm_s_own_is_a_volume(name: str) -> None:
    bad = [".", "..", "-a", "a b", "a/b", "é", "", "a" * 127]
    bad += {
        "volgroup": ["null", "shm", "mapper", "tty1", "sda", "vda3", "loop0", "dm-1", "nvme0n1p2"]
    }.get(name, ["snapshot", "snapshot1", "pvmove0", "x_mlog", "x_rimage_0", "a_tdata", "a_cvol"])
    assert settings_take(f"volumes.{name}", bad) == []
    good = ["vg0", "system", "a.b", "_x", "+x", "root-2", "a" * 90]
    assert settings_take(f"volumes.{name}", good) == good


def test_a_volume_has_a_name_for_the_device_mapper() -> None:
    with pytest.raises(SettingsError, match=r"volumes: .* device-mapper takes 122"):
        load(None, [f"volumes.volgroup={'a' * 60}", f"volumes.lvsnap={'b-' * 30}b"])


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("volumes.swap_size", ["0", "-1", "1e9", "nan", "99999999999999T", "٤G", "64 K"]),
        ("volumes.lvsize", ["0", "-4M", "0%ORIGIN", "1000%ORIGIN", "٤%ORIGIN", "9" * 5000]),
        ("boot.deadline", ["60.0", "6_0", "+60", " 60", "true", "٦٠", "1e2", "0x40"]),
        ("jobs.seconds", ["0", "99999999999"]),
        ("jobs.director", ["yes", "1", "on", "True", ""]),
        (
            "package.url",
            [
                *("https://h", "//h/", "javascript://h/", "https://h/#{x}/", "file:///a b/"),
                *("http://h/", "ftp://h/"),  # anybody on the way could give another box
            ],
        ),
    ],
)
def test_a_number_a_size_or_a_url_is_what_it_looks_like(name: str, bad: list[str]) -> None:
    assert settings_take(name, bad) == []


def test_a_number_of_a_file_is_no_other_kind() -> None:
    for value in (True, 60.0, float("nan"), 10**5000, [60], "60 "):
        with pytest.raises(SettingsError, match=r"^setting boot\.deadline: "):
            validated({"boot": {"deadline": value}})
