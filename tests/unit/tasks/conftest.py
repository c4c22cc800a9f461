"""What tests of tasks share."""

from __future__ import annotations

import pytest

from tasks.hosts import fleet


@pytest.fixture(autouse=True)
def _openssh_is_not_asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is what the test says, whatever this machine's ssh_config says of such a name."""
    if not request.node.get_closest_marker("commands"):
        monkeypatch.setattr(fleet, "way", lambda _connection: None)
