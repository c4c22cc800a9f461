"""Hostile values for every setting: refused in one line, or safe wherever they land."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from deploys.errors import SettingsError
from deploys.plan.of_image import box_plan, fstab
from deploys.reset.boot import defaults
from deploys.settings import Settings
from tasks.boxes.ship.vagrantfile import for_user
from tasks.desk.flags import validated
from tasks.desk.places import ROOT
from tasks.desk.setting_tables import sections

COMMIT, SHA256 = "a" * 40, "b" * 64
# Each is put in the place of a setting, and behind a value that is good.
TRICKS = (
    *("", " ", "a b", "'", '"', "`id`", ";id", "|id", "&id", ">x", "<x", "(id)", "$(id)", "${IFS}"),
    *("\\", "\n", "\nid", "\r", "\t", "\0", "\x1b]0;x\x07", "\x7f", "\u0085", "\u2028", "\u202e"),
    *("é", "\uff04", "\u0664", "\u212a", "\ud800", "*", "?", "[ab]", "{a,b}", "~", "~root", "#"),
    *("#{`id`}", "%n", "!", "..", ".", "/", "//", "/..", "/etc/passwd", "../x", "-", "-x", "--x"),
    *("@", "@{u}", "@-x", ":", "^", "=", ",", "+", ".lock", "a" * 1000, "9" * 5000, "-1", "+5"),
    *("0x10", "1_000", "1e9", "0", "1.5", "nan", "inf", "true", "yes", "null", "ext::sh -c id"),
)
OTHERS: tuple[Any, ...] = (
    *(0, -1, 10**30, 10**5000, 0.5, 1e300, float("nan"), float("inf"), True, False, None),
    *([], ["a"], [["a"]], ["-x"], {}, {"a": 1}, datetime.date(2026, 1, 1), b"\xff"),
)
# Good rows of a part, one for each source; a case changes one word of a row.
PARTS = {
    "git": {"source": "git", "location": "https://h/lammps", "version": COMMIT},
    "file": {"source": "file", "location": "/srv/lammps.tar.gz", "sha256": SHA256},
    "pip": {"source": "pip", "location": "ase", "version": "3.23.0", "sha256": SHA256},
    "apt": {"source": "apt", "location": "lammps", "version": "1.0"},
}


class Case(NamedTuple):
    """A setting and the tables of a file that set it."""

    name: str
    tree: dict[str, Any]


def cases() -> Iterator[Case]:
    for each in (each for section in sections() for each in section.settings):
        if each.name.startswith("stack.PART."):
            continue
        *table, key = each.name.split(".")
        good = each.default or {"volumes.root_size": "8G"}.get(each.name, "https://h/x")
        tails: list[Any] = [good + trick for trick in TRICKS]
        if each.name == "stack.packages":
            tails = [[one] for one in (*TRICKS, *(f"vim{trick}" for trick in TRICKS))]
        for value in (*TRICKS, *tails, *OTHERS):
            yield Case(each.name, {table[0]: {key: value}} if table else {key: value})
    for source, row in PARTS.items():
        part = "ase" if source == "pip" else "lammps"
        for key, good in row.items():
            for value in (*TRICKS, *(good + trick for trick in TRICKS if trick), *OTHERS):
                yield Case(f"stack.{part}.{key}", {"stack": {part: {**row, key: value}}})


@pytest.fixture(scope="module")
def taken() -> dict[str, Settings]:
    """The settings that cases make, by what they are in JSON. All other cases were refused."""
    found: dict[str, Settings] = {}
    tried = list(cases())
    for name, tree in tried:
        try:
            settings = validated(tree)
        except SettingsError as error:
            line = str(error)
            assert line.isprintable(), (name, line)
            assert len(line) < 400, (name, line)
            assert any(
                word in line for word in name.split(".")[-2 if name.count(".") > 1 else -1 :]
            )
        else:
            found[settings.model_dump_json()] = settings
    assert len(tried) > 9000
    assert len(found) > 100
    return found


def test_what_is_taken_reads_back_the_same(taken: dict[str, Settings]) -> None:
    for text, settings in taken.items():
        assert Settings.model_validate_json(text) == settings
        assert text.isprintable()


@pytest.mark.commands
def test_a_box_s_shell_reads_what_is_taken_as_it_is(
    taken: dict[str, Settings], tmp_path: Path
) -> None:
    """/etc/default/resnap, which the initramfs sources as root, and fstab."""
    files = {defaults(box_plan(each), each).content: each for each in taken.values()}
    assert len(files) > 20
    for number, content in enumerate(files):
        (tmp_path / f"{number:03}").write_bytes(content)
    script = (
        'for file in ./*; do (set -euf; . "$file"; '
        r'printf "%s\n" "$VOLGROUP $LVROOT $LVSNAP $LVSIZE $DEADLINE $DRAIN_SECONDS"); done'
    )
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
    )
    expected = [
        f"{each.volumes.volgroup} {each.volumes.lvroot} {each.volumes.lvsnap} "
        f"{each.volumes.lvsize} {each.boot.deadline} {each.jobs.drain}"
        for each in files.values()
    ]
    assert (done.stderr, done.stdout.splitlines()) == ("", expected)
    for settings in files.values():
        assert {len(line.split()) for line in fstab(settings, "u").splitlines()} == {6}


# It stands for Vagrant, and prints what a Vagrantfile says, a line of JSON for each.
RUBY = """
require 'json'
class Config
  attr_reader :said
  def initialize; @said = {}; end
  def vm; self; end
  def ssh; self; end
  def method_missing(name, *words, **more) = @said[name] = more[:inline] || words.last
end
module Vagrant
  def self.configure(_) = yield($config = Config.new)
end
ARGV.each do |file|
  load file
  said = $config.said
  puts JSON.generate([said[:box=], said[:box_url=], said[:provision]])
end
"""


@pytest.mark.commands
def test_vagrant_and_its_shell_read_what_is_taken_as_it_is(
    taken: dict[str, Settings], tmp_path: Path
) -> None:
    """The user's Vagrantfile is Ruby; the one word in it is run by the guest's shell, as root."""
    template = ROOT / "static/foruser/Vagrantfile"
    wanted: dict[str, list[str]] = {}
    for settings in taken.values():
        setup, package = settings.setup, settings.package
        text = for_user(template, package.name, package.url, setup.hostname, setup.branch)
        told = [setup.hostname, setup.branch] if setup.hostname else []
        wanted.setdefault(text, [package.name, package.url, *told])
    for number, text in enumerate(wanted):
        (tmp_path / f"{number:03}").write_text(text)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 20
    ruby = ["ruby", "--disable-gems", "-e", RUBY, *map(str, files)]
    said = [
        json.loads(line)
        for line in subprocess.run(
            ruby, check=True, capture_output=True, text=True
        ).stdout.splitlines()
    ]
    # No program can be found: whatever the shell would start beside runsetup is an error.
    fake = '[ "$1" = /persistent/runsetup ] && shift && printf "%s\\n" "$#" "$@"'
    lines = "".join(f"fake {inline}\n" for _, _, inline in said)
    shell = subprocess.run(
        ["/bin/sh", "-euc", f"fake() {{ {fake}; }}\n{lines}"],
        env={"PATH": "/nowhere"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    words = iter(shell.stdout.splitlines())
    given = [[next(words) for _ in range(int(next(words)))] for _ in said]
    assert (shell.stderr, list(words)) == ("", [])
    found = [[name, url, *words] for (name, url, _), words in zip(said, given, strict=True)]
    assert found == list(wanted.values())
