"""Rows of the stack with the source git, as a maintainer writes them, and a git server for them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from deploys.settings.stack import package_name
from tasks.hosts import provision
from tests.boot.lab.box import Box
from tests.unit.tasks.stack import git_server
from tests.unit.tasks.stack.test_items import TEST, write

CALCULATOR, REPOSITORY = "openkim-kimcalculator-ase", "openkim-repository"
ITEM = f"/opt/pipeline/repository/{TEST}"
# It has its own build backend, so any pip can build it without the network.
_CALCULATOR = {
    "kimcalculator.py": "print(__file__)\n",
    "pyproject.toml": """\
        [build-system]
        requires = []
        build-backend = "backend"
        backend-path = ["."]
        """,
    "backend.py": """\
        import zipfile

        FOLDER = "kimcalculator-1.dist-info"
        FILES = ("METADATA", "WHEEL", "RECORD")
        NAMES = ("kimcalculator.py", *(f"{FOLDER}/{name}" for name in FILES))
        INFO = {
            "METADATA": "Metadata-Version: 2.1\\nName: kimcalculator\\nVersion: 1\\n",
            "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
            "RECORD": "".join(f"{name},,\\n" for name in NAMES),
        }

        def build_wheel(folder, *_):
            name = "kimcalculator-1-py3-none-any.whl"
            with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
                wheel.write("kimcalculator.py")
                for file, text in INFO.items():
                    wheel.writestr(f"{FOLDER}/{file}", text)
            return name
        """,
}


def write_pure(served: Path) -> dict[str, str]:
    """Make repositories of ASE's calculator and of items in a folder; returns their commits."""
    for name, text in _CALCULATOR.items():
        (served / CALCULATOR).mkdir(parents=True, exist_ok=True)
        (served / CALCULATOR / name).write_text(dedent(text))
    write(served / REPOSITORY, f"tests/{TEST}")
    return {name: git_server.commit(served / name, "one") for name in (CALCULATOR, REPOSITORY)}


@dataclass(frozen=True)
class Change:
    """Rows as settings, and their parts' commits, which are served until ``server`` is closed."""

    settings: tuple[str, ...]
    commits: Mapping[str, str]
    server: ExitStack


@contextmanager
def change(folder: Path, commits: Mapping[str, str], bundles: Path) -> Iterator[Change]:
    """Serve the repositories in ``folder``, with rows of these commits; builds go to ``bundles``.

    The rows have whole addresses: runsetup would use a hostname in the settings at each boot too.
    """
    with pytest.MonkeyPatch.context() as patch, ExitStack() as server:
        patch.setattr(provision, "BUNDLES", bundles)
        url = server.enter_context(git_server.served(folder))
        settings = tuple(
            f"stack.{name}.{said}"
            for name, commit in commits.items()
            for said in ("source=git", f"location={url}/{name}", f"version={commit}")
        )
        yield Change(settings, commits, server)


def assert_has(box: Box, commits: Mapping[str, str]) -> None:
    """Check that a box has the Python parts and the items, and its manifest these commits."""
    stack = json.loads(box.succeed("cat /etc/pipeline/manifest.json"))["stack"]
    for name, commit in commits.items():
        assert (stack[name]["source"], stack[name]["commit"]) == ("git", commit)
    [imported] = box.succeed("/usr/bin/python3 -c 'import kimcalculator'").split()
    assert imported == "/usr/lib/python3/dist-packages/kimcalculator.py"
    assert box.succeed(f"dpkg --search {imported}").startswith(f"{package_name(CALCULATOR)}:")
    box.succeed(f"test -x {ITEM}/runner")


def assert_lacks_pure(box: Box) -> None:
    """Check that a box has neither these Python parts nor the repository's folder."""
    box.fail("/usr/bin/python3 -c 'import kimcalculator'")
    box.fail(f"dpkg --status {package_name(CALCULATOR)}")
    box.fail("ls -d /opt/pipeline/repository* | grep .")
    box.succeed(f"test -x /persistent/pipeline/items/{TEST}/runner")
