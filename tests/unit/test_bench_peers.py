"""Other makers of images in the bench: measured where they run, else their own words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import peers
from tests.storage.faults import program

pytestmark = pytest.mark.commands
URL = "http://mirror.invalid/debian"
# As vmdb2 says it: what its step printed is in the log alone.
VMDB2 = """\
#!/bin/sh
cat >"$5" <<'EOF'
1970-01-01 DEBUG STDERR:
1970-01-01 DEBUG STDERR: /dev/mapper/control: open failed: No such device
EOF
echo "ERROR:root:An error occurred, exiting" >&2
exit 1
"""
MKOSI = """\
#!/bin/sh
echo "Failed to open system bus: No such file or directory" >&2
echo "‣ Error: Workspace command /bin/rm returned non-zero exit code 1." >&2
exit 1
"""


@pytest.mark.parametrize(
    ("name", "script", "missing"),
    [
        ("vmdb2", VMDB2, "exit code 1: /dev/mapper/control: open failed: No such device"),
        ("vmdb2", "#!/bin/sh\necho no such flag >&2\nexit 2\n", "exit code 2: no such flag"),
        ("mkosi", MKOSI, "exit code 1: Failed to open system bus: No such file or directory"),
        ("mkosi", "#!/bin/sh\nexit 1\n", "failed with exit code 1: it said nothing"),
    ],
)
def test_a_peer_that_fails_has_its_own_words_and_no_number(
    name: str, script: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, name, script, monkeypatch)
    row = peers.row(name, 9.0, tmp_path, "trixie", ["less"], URL)
    assert (row.what, row.ours, row.peer) == (f"box.build beside {name}", 9.0, None)
    assert row.missing.endswith(missing)
    assert row.as_dict()["missing"] == row.missing


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_that_runs_is_measured(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, name, '#!/bin/sh\necho "$@" >../asked\n', monkeypatch)
    monkeypatch.chdir(tmp_path / "stubs")
    row = peers.row(name, 9.0, tmp_path, "trixie", ["less", "ed"], URL)
    assert row.peer is not None
    assert row.missing == ""
    steps = tmp_path / name / "steps"
    asked = (tmp_path / "asked").read_text() if name == "mkosi" else steps.read_text()
    assert URL in asked
    assert "trixie" in asked
    assert "less,ed" in asked.replace('", "', ",")
    assert name == "mkosi" or json.loads(asked)["steps"][0]["size"] == "8G"


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_that_is_not_installed_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.machines.shell._SBIN", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    row = peers.row(name, 9.0, tmp_path, "trixie", ["less"], URL)
    assert row.missing == f"{name} is not installed; Debian's package is {name}"
