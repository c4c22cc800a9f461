"""States of hosts, for the tests of what is shown of them."""

from __future__ import annotations

from dataclasses import replace

from deploys.facts.state import HostState, Verdict

DIGEST = "ab" * 32
FRESH = HostState(
    os_id="debian",
    os_version="13",
    boot_id="6f1c2f0e",
    kernel="6.12.9-amd64",
    uptime=5400.0,
    clock=1_795_550_400,
    has_modules=True,
    defaults={"VOLGROUP": "vagrant-pipeline"},
    verdict=Verdict("fresh", 2.5, 4.0, 6.3, "", DIGEST),
    snapshot_percent=12.5,
    sources=DIGEST,
    release={"MANIFEST": DIGEST, "COMMIT": "0123", "ROLE": "gateway"},
    provisiond={"state": "failed", "reason": "no network"},
    free={"/": 3 * 2**30},
    versions={"lammps": "20240829"},
)
REASON = "Volume group [vagrant-pipeline] has insufficient free space"
FAILED = HostState(
    verdict=Verdict("failed", reason=REASON), defaults={"VOLGROUP": "vagrant-pipeline"}
)
FULL = replace(FRESH, free={"/": 10**6}, used={"/": 10**9})
STAYS_UP = replace(FAILED, in_quarantine=True)
BARE = HostState(os_id="debian", os_version="12")
STATES = {"a.example": FRESH, "b.example:2222": FAILED, "c": BARE}
