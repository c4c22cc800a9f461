"""Ask apt what an archive has, as on a system on which nothing is installed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploys.errors import BoxError
from tasks.debian.archive import Archive
from tasks.debian.bootstrap import preferences
from tasks.desk import shell

_SIGNERS = "/etc/apt/trusted.gpg.d/"
_INSTALLED = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)


def versions(names: Sequence[str], archive: Archive, folder: Path) -> dict[str, set[str]]:
    """Find all versions of some packages in an archive; ``folder`` takes temporary files.

    Raises:
        CommandError: apt failed.
    """
    with _empty_system(archive, folder) as config:
        table = shell.run(["apt-cache", "madison", *names], env=config).stdout
    found: dict[str, set[str]] = {}
    for row in table.splitlines():
        package, version, _ = (cell.strip() for cell in row.split("|", 2))
        found.setdefault(package, set()).add(version)
    return found


def require(names: Sequence[str], archive: Archive, folder: Path) -> None:
    """Check that each name is one package's: neither a virtual one's, nor a pattern of apt's.

    Raises:
        BoxError: one is not; the line names it.
        CommandError: apt failed.
    """
    found = versions(names, archive, folder)
    for name in names:
        if name not in found:
            why = "if it is virtual, name one that provides it"
            raise BoxError(f"the archive has no package {name}; {why}")


def resolved(
    packages: Sequence[str], archive: Archive, folder: Path, pins: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Find all packages that installing some would install, with their versions.

    apt prefers the versions in ``pins``.

    Raises:
        BoxError: a package does not exist.
        CommandError: apt failed for another reason.
    """
    argv = ["apt-get", "install", "--simulate", "--no-install-recommends", *packages]
    with _empty_system(archive, folder, pins or {}) as config:
        try:
            simulated = shell.run(argv, env=config).stdout
        except shell.CommandError as error:
            lines = error.stderr.splitlines()
            said = [line[3:] for line in lines if line.startswith("E: ")]
            raise BoxError(said[0] if said else str(error)) from error
    return dict(_INSTALLED.findall(simulated))


@contextmanager
def _empty_system(
    archive: Archive, folder: Path, pins: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """Environment variables with which apt uses this archive and finds no package installed."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="apt-") as name:
        root = Path(name)
        for part in ("etc", "state/lists/partial", "cache/archives/partial"):
            (root / part).mkdir(parents=True)
        (root / "status").touch()
        (root / "etc/sources.list").write_text("".join(f"{line}\n" for line in archive.lines))
        (root / "etc/preferences").write_text(preferences(pins or {}))
        (root / "etc/apt.conf").write_text(
            "".join(f"{line}\n" for line in archive.options)
            + f'Dir::Etc "{root}/etc";\nDir::State "{root}/state";\nDir::Cache "{root}/cache";\n'
            + f'Dir::State::status "{root}/status";\nDir::Etc::trustedparts "{_SIGNERS}";\n'
            + 'Acquire::Languages "none";\nAPT::Sandbox::User "root";\n'
        )
        config = {"APT_CONFIG": str(root / "etc/apt.conf"), "LC_ALL": "C"}
        shell.run(["apt-get", "-q", "update"], env=config, timeout=600)
        yield config
