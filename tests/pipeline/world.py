"""Small KIM items whose runners are a few lines of shell, and a place where any user may read."""

from __future__ import annotations

from pathlib import Path

import kim_edn

from kimpipeline.kim.items import Item, ItemFolder
from kimpipeline.run.pair import Pair
from kimpipeline.settings import Limits

MIB = 2**20
PROPERTY = (
    "tag:staff@noreply.openkim.org,2014-04-15:property/cohesive-potential-energy-cubic-crystal"
)
TEST = "Energy_fcc_Al__TE_000000000901_000"
DRIVER = "Energy__TD_000000000902_000"
MODEL = "Pair_Al__MO_000000000903_000"
LIMITS = Limits(seconds=20, memory=512 * MIB, processes=32, disk=8 * MIB)
RESULT = {
    "property-id": PROPERTY,
    "instance-id": 1,
    "short-name": {"source-value": ["fcc"]},
    "species": {"source-value": ["Al", "Al", "Al", "Al"]},
    "a": {"source-value": 4.05, "source-unit": "angstrom"},
    "basis-atom-coordinates": {
        "source-value": [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
    },
    "cohesive-potential-energy": {"source-value": 3.36, "source-unit": "eV"},
}
GOOD = "cp results.edn output/results.edn"
# Each call with arguments that the kernel would look at; what comes of it is named.
CALLS = """
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
numbers = {"add_key": (248, b"user", b"x", b"y", 1, -4), "keyctl": (250, 0, -4, 1),
    "request_key": (249, b"user", b"x", 0, -4), "io_uring_setup": (425, 8, bytes(120)),
    "io_setup": (206, 1, bytes(8)), "bpf": (321, 0, bytes(72), 72),
    "perf_event_open": (298, bytes(112), 0, -1, -1, 0), "userfaultfd": (323, 1),
    "ptrace": (101, 0, 0, 0, 0), "unshare": (272, 0x10000000), "mount": (165, 0, b"/tmp", 0, 32),
    "personality": (135, 8), "kcmp": (312, 1, 1, 0, 0, 0), "setns": (308, 0, 0)}
for name, (number, *words) in numbers.items():
    libc.syscall(number, *words)
    done = libc.syscall(number, *words)
    print(name, "done" if done >= 0 else errno.errorcode[ctypes.get_errno()])
for family in ("AF_INET6", "AF_VSOCK", "AF_NETLINK", "AF_PACKET", "AF_ALG", "AF_BLUETOOTH"):
    try:
        socket.socket(getattr(socket, family), socket.SOCK_DGRAM).close()
        print(family, "done")
    except OSError as error:
        print(family, errno.errorcode[error.errno])
"""


def item(root: Path, kimid: str, **keys: object) -> Path:
    """An item's folder, with these keys (underscores for hyphens) in its kimspec.edn."""
    folder = root / kimid
    folder.mkdir(parents=True)
    spec = {"extended-id": kimid, **{name.replace("_", "-"): keys[name] for name in keys}}
    (folder / "kimspec.edn").write_text(kim_edn.dumps(spec))
    return folder


def program(path: Path, lines: str) -> None:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)


def make_test(root: Path, lines: str = GOOD, kimid: str = TEST, **keys: object) -> Path:
    """A Test whose runner is these lines of shell; a valid results.edn lies beside it."""
    given = {"species": ["Al"], "test_driver": DRIVER, "properties": [PROPERTY]}
    folder = item(root, kimid, **{**given, **keys})
    (folder / "pipeline.stdin.tpl").write_text(f'@< path("{DRIVER}") >@\n@< MODELNAME >@\n')
    (folder / "results.edn").write_text(kim_edn.dumps([RESULT]))
    program(folder / "runner", lines)
    return folder


def repository(root: Path, lines: str = GOOD) -> ItemFolder:
    """One Test, its Driver and a Model."""
    make_test(root, lines)
    program(item(root, DRIVER) / "runner", "true")
    item(root, MODEL, species=["Al"])
    return ItemFolder(root)


def pair(items: ItemFolder, test: str = TEST, model: str = MODEL) -> Pair:
    first: Item = items.get(test)
    second = items.get(model)
    return Pair(first, second, items.closure(first, second))
