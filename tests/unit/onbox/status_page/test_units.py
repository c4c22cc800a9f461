"""The status page's units: what systemd says of them, and the port that others know too."""

from __future__ import annotations

import subprocess

import pytest

from deploys.operations.onbox import ONBOX
from deploys.services.status_page import FILES
from deploys.settings import STATUS_PORT

UNITS = [ONBOX / file for file in FILES if file.startswith("etc/systemd")]


def systemd_analyze(*words: str) -> subprocess.CompletedProcess[str]:
    argv = ["systemd-analyze", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.commands
def test_systemd_understands_every_line() -> None:
    done = systemd_analyze("verify", "--man=no", *map(str, UNITS))
    assert [line for line in done.stderr.splitlines() if "status-page" in line] == []


# Of 10, in systemd's own measure: a service that says nothing of itself has 9.6.
@pytest.mark.commands
@pytest.mark.parametrize(
    ("unit", "exposure"), [("status-page.service", 1.0), ("status-page-gather.service", 2.5)]
)
def test_little_can_be_done_with_what_breaks_in(unit: str, exposure: float) -> None:
    file = ONBOX / "etc/systemd/system" / unit
    most = f"--threshold={exposure * 10:.0f}"
    done = systemd_analyze("security", "--offline=true", "--no-pager", most, str(file))
    assert done.returncode == 0, done.stdout[-500:]


def test_the_port_is_the_missions() -> None:
    socket = (ONBOX / "etc/systemd/system/status-page.socket").read_text()
    assert f"\nListenStream={STATUS_PORT}\n" in socket
    assert STATUS_PORT == 14178
