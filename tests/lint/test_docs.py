"""What README and docs say is so: links lead somewhere, commands exist, words are explained."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from invoke.tasks import Task

from tasks import ns
from tasks.desk.setting_tables import as_markdown, sections

_README_LINES = 160
_MARK = "<!-- What follows is printed by: bin/inv settings --markdown -->\n\n"
# Of inv and fab themselves.
_OWN_FLAGS = {
    "--help",
    "--list",
    "--prompt-for-sudo-password",
    "--print-completion-script",
}
# Rooms of which every path that is named must exist.
_ROOMS = ("bin", "deploys", "docs", "static", "tasks", "tests/boot", "tests/lint", "tests/storage")
_COINED = (
    *(
        "base box",
        "box",
        "desk",
        "devel",
        "director",
        "drain",
        "failed (verdict)",
        "fresh (verdict)",
    ),
    *(
        "gateway",
        "golden (verdict)",
        "golden root",
        "guest",
        "host",
        "item",
        "job",
        "kept (verdict)",
    ),
    *("KIM id", "ledger", "maintenance", "manifest", "Model", "operator", "owner", "pair", "part"),
    *("persistent", "pipeline", "promote", "provision", "provisiond", "quarantine", "reclaim"),
    *(
        "reference calculation",
        "reset, resnap",
        "role",
        "rollback",
        "root_snap",
        "row",
        "runsecure",
    ),
    *("runsetup", "safety snapshot", "secure", "setup project", "site", "snapshot", "source"),
    *("spare disk", "status page", "Test", "Test Driver", "trial", "tunnel", "update"),
    *("verdict", "version", "worker"),
)


@pytest.fixture(scope="session")
def pages(root: Path) -> dict[str, str]:
    """The texts for people, by their paths."""
    files = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    return {str(file.relative_to(root)): file.read_text() for file in files}


def test_readme_is_short(pages: dict[str, str]) -> None:
    assert len(pages["README.md"].splitlines()) <= _README_LINES


def test_every_link_leads_somewhere(pages: dict[str, str], root: Path) -> None:
    """To a file of the project, and to a heading in it."""
    dead = []
    for name, text in pages.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", _without_code(text)):
            if re.match(r"[a-z]+://", link):
                continue
            path, _, anchor = link.partition("#")
            target = (root / name).parent / path if path else root / name
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                dead.append(f"{name}: {link}")
    assert not dead


def test_every_page_is_reached_from_the_readme(pages: dict[str, str]) -> None:
    lost = [name for name in pages if name != "README.md" and f"({name}" not in pages["README.md"]]
    assert not lost


def test_every_command_exists_with_its_flags(pages: dict[str, str]) -> None:
    faults = [
        f"{name}: {' '.join(words)}: {fault}"
        for name, text in pages.items()
        for words in commands(text)
        for fault in wrong(words)
    ]
    assert not faults


def test_the_readme_has_every_task(pages: dict[str, str]) -> None:
    table = pages["README.md"].partition("## Tasks\n")[2].partition("\n## ")[0]
    first = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([^`]+)`", first)) == set(_tasks())


def test_every_setting_that_is_named_exists(pages: dict[str, str]) -> None:
    known = {each.name for section in sections() for each in section.settings} | {"stack"}
    parts = {name for name in known if name.startswith("stack.") and name.count(".") == 1}
    words = ("source", "location", "version", "sha256")
    known |= {f"{part}.{word}" for part in parts for word in words}
    named = {
        (name, key)
        for name, text in pages.items()
        for key in re.findall(r"--set ([a-z][a-z0-9_.-]*)=", text)
    }
    assert named
    assert not {(name, key) for name, key in named if key not in known}


def test_every_path_that_is_named_exists(pages: dict[str, str], root: Path) -> None:
    rooms = "|".join(_ROOMS)
    named = {
        (name, path.rstrip("/"))
        for name, text in pages.items()
        for path in re.findall(rf"`((?:{rooms})/[A-Za-z0-9_./@-]+)`", text)
    }
    assert named
    assert not [f"{name}: {path}" for name, path in sorted(named) if not (root / path).exists()]


def test_every_test_that_is_named_exists(pages: dict[str, str], root: Path) -> None:
    named = {
        (name, path, test)
        for name, text in pages.items()
        for path, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)", text)
    }
    assert named
    lost = [
        f"{name}: {path}::{test}"
        for name, path, test in sorted(named)
        if not (root / path).exists() or f"def {test}(" not in (root / path).read_text()
    ]
    assert not lost


def test_every_promise_names_its_test(pages: dict[str, str]) -> None:
    """Or says that it holds by reading alone."""
    table = re.findall(r"^\|(.+)\|$", pages["docs/trust.md"], re.MULTILINE)
    rows = [row.split("|") for row in table if not re.match(r"[ |-]*$| promise ", row)]
    assert rows
    assert not [row[0] for row in rows if "`tests/" not in row[-1] and "by reading" not in row[-1]]


def test_settings_are_those_of_the_model(pages: dict[str, str]) -> None:
    assert pages["docs/settings.md"].partition(_MARK)[2] == as_markdown(sections()), (
        "docs/settings.md: put the output of bin/inv settings --markdown below the mark"
    )


def test_every_coined_word_is_explained(pages: dict[str, str]) -> None:
    words = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", pages["docs/glossary.md"], re.MULTILINE)[1:]
    assert not set(_COINED) - set(words)
    assert words == sorted(words, key=str.casefold)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```sh\nbin/inv up    # a box\n```", []),
        ("```sh\nbin/fab -H root@h provision \\\n    --device /dev/sdb --set a=b\n```", []),
        ("say `fab -H HOST finalize`", []),
        ("with `provision --dry-run`", []),
        ("`bin/inv box.build --out f --nonsense`", ["no flag --nonsense"]),
        ("`bin/inv fly`", ["no such task"]),
        ("`promote --fast`", ["no flag --fast"]),
        ("in prose, inv fly", []),
    ],
)
def test_what_counts_as_a_command(text: str, expected: list[str]) -> None:
    assert [fault for words in commands(text) for fault in wrong(words)] == expected


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    plain = _without_code(text, inline=False)
    titles = re.findall(r"^#+ (.+)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of ours in a page's code, its task first, then what follows."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`([^`\n]+)`", _without_blocks(text))
    for line in (*lines, *inline):
        for part in re.split(r"[;&|]+", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # half a quoted string: no command of ours
                continue
            if words and words[0] in ("bin/inv", "bin/fab", "inv", "fab"):
                yield _from_task(words[1:])
            elif words and words[0] in _tasks() and line in inline:
                yield words


def wrong(words: list[str]) -> list[str]:
    """What is wrong with a command's task and its flags."""
    if not words or words[0].isupper():  # a placeholder
        return []
    if words[0] not in _tasks():
        return ["no such task"]
    flags = _tasks()[words[0]] | _OWN_FLAGS
    given = [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
    return [f"no flag {flag}" for flag in given if flag not in flags]


def _from_task(words: list[str]) -> list[str]:
    """Without what comes before the task: flags of inv and fab, and their values."""
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] in ("-H", "-i") else words[1:]
    return words


@cache
def _tasks() -> dict[str, set[str]]:
    """The flags of each task."""
    found = {}
    for name, task in _walk(ns, ""):
        # get_arguments takes the help texts out of the task that it is asked of
        flags = (
            flag for argument in copy.deepcopy(task).get_arguments() for flag in argument.names
        )
        found[name] = {f"--{flag.replace('_', '-')}" for flag in flags if len(flag) > 1}
    return found


def _walk(collection: object, prefix: str) -> Iterator[tuple[str, Task[Any]]]:
    for name, task in collection.tasks.items():  # type: ignore[attr-defined]
        yield prefix + name.replace("_", "-"), task
    for name, inner in collection.collections.items():  # type: ignore[attr-defined]
        yield from _walk(inner, f"{prefix}{name}.")


def _without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def _without_code(text: str, inline: bool = True) -> str:
    plain = _without_blocks(text)
    return re.sub(r"`[^`\n]*`", "", plain) if inline else plain
