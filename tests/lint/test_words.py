"""Words that Python, shell, units and the page share stand in one place, or agree with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.facts.host_state import VERDICTS
from deploys.settings import STATUS_PORT, Settings, format_size

_ROOMS = ("bin", "deploys", "static", "tasks")
_SYSTEM = "static/onbox/etc/systemd/system"
# Files that cannot read a port from anywhere else, as systemd, sshd and nft read them as they are.
_PORTS = {
    STATUS_PORT: {
        "deploys/settings/__init__.py",
        "static/foruser/Vagrantfile",
        f"{_SYSTEM}/status-page.socket",
        "static/onbox/usr/lib/secure/firewall.nft",
    },
}
RESNAP = "static/onbox/usr/lib/resnap/resnap"
PAGE = "static/onbox/usr/lib/status-page/page.js"


@pytest.fixture(scope="module")
def product(tracked: list[Path], root: Path) -> dict[str, str]:
    """The product's files by their names."""
    files = {str(file.relative_to(root)): file for file in tracked}
    return {
        name: file.read_text(errors="replace")
        for name, file in files.items()
        if name.partition("/")[0] in _ROOMS
    }


@pytest.mark.parametrize("port", _PORTS)
def test_a_port_is_said_only_where_it_must_be(port: int, product: dict[str, str]) -> None:
    """A port that changes in the settings alone is seen here: the other files keep the old one."""
    found = {name for name, text in product.items() if re.search(rf"\b{port}\b", text)}
    assert found == _PORTS[port]


def _lists(text: str) -> Iterator[set[str]]:
    """The verdicts on each line of code that has more than two of them."""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        found = set(re.findall(rf"\b({'|'.join(VERDICTS)})\b", line))
        if len(found) > 2:
            yield found


def test_the_verdicts_are_listed_in_one_place_a_language(product: dict[str, str]) -> None:
    """In shell that is the script that leaves them, in Python the fact that reads them."""
    found = {name: list(_lists(text)) for name, text in product.items()}
    lists = {name: sets for name, sets in found.items() if sets}
    assert lists == {name: [set(VERDICTS)] for name in (RESNAP, PAGE)}


def test_the_page_knows_the_verdicts(product: dict[str, str]) -> None:
    kinds = ", ".join(f'{name}: "{meaning.kind}"' for name, meaning in VERDICTS.items())
    assert f"const KINDS = {{ {kinds} }};" in product[PAGE]


def test_nobody_asks_for_single_verdicts_of_a_snapshot(product: dict[str, str]) -> None:
    """Whether the root is a snapshot is /run/resnap/in-snapshot."""
    asked = re.compile(r"/run/resnap/(?:fresh|kept)\b")
    assert [name for name, text in product.items() if asked.search(text)] == []


def test_hyphens_are_doubled_in_one_place_a_language(product: dict[str, str]) -> None:
    doubled = re.compile(r"""s/-/--/|["']-["'], *["']--["']|%%-\*\}--""")
    found = {name for name, text in product.items() if doubled.search(text)}
    assert found == {"deploys/facts/mapper.py", "static/onbox/usr/lib/resnap/lib.sh"}


def test_the_initramfs_without_settings_takes_their_defaults(product: dict[str, str]) -> None:
    settings = Settings()
    size = format_size(settings.volumes.chunksize)
    line = f': "${{DEADLINE:={settings.boot.deadline}}}" "${{CHUNKSIZE:={size}}}"'
    assert line in product[RESNAP]


def test_no_other_script_has_a_default_of_its_own(product: dict[str, str]) -> None:
    """They read what provision wrote to /etc/default/resnap."""
    names = "WARN_PERCENT|RESET_PERCENT|DRAIN_SECONDS|DEADLINE|CHUNKSIZE|LVSIZE"
    default = re.compile(rf"\$\{{(?:{names}):?[-=]")
    assert [name for name, text in product.items() if default.search(text)] == [RESNAP]
