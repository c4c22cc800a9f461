"""Have packages installed: Debian's, asking the archive for what is missing, and our own."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.command import FileUploadCommand, StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.facts.deb import DebPackages

from deploys.facts.packages import SourceDigests

# Waits for another apt, as the daily update that a fresh host runs at its first boot.
# --fix-broken: an installation that a power cut ended must not stop this one.
_SCRIPT = """
set -eu
export DEBIAN_FRONTEND=noninteractive
dpkg --configure -a --force-confdef --force-confold
$update
apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold --fix-broken --no-install-recommends install "$@"
"""

_UPDATE = "apt-get -q -o DPkg::Lock::Timeout=300 update"
_UPLOADS = "/var/cache"  # written by root alone

# update-initramfs reads its settings as shell: the last word wins. dracut's hook heeds INITRD.
_KEEP_INITRDS = """
export INITRD=No
conf=/etc/initramfs-tools/update-initramfs.conf
if [ -e "$conf" ]; then
    [ -e "$conf.before" ] || cp -a "$conf" "$conf.before"
    trap 'mv "$conf.before" "$conf"' EXIT
    echo update_initramfs=no >>"$conf"
fi
"""


@dataclass(frozen=True)
class LocalPackage:
    """A package of our making: its name, what it is built from and how, and its file here.

    ``digest`` is the package's field ``Pipeline-Source-Digest``: the file of a package that the
    host has need not exist.
    """

    name: str
    digest: str
    file: Path


@operation()
def present(
    packages: Sequence[str],
    keep_initrds: bool = False,
    versions: Mapping[str, str] | None = None,
    local: Sequence[LocalPackage] = (),
    absent: Collection[str] = (),
    stay: Collection[str] = (),
) -> Generator[StringCommand | FileUploadCommand, None, None]:
    """Have ``packages`` installed, without what they merely recommend.

    Of those in ``versions`` that version, be it older than what is there; of others any.

    With nothing missing no network is needed, and none is asked. With ``keep_initrds`` the
    host's initrds stay as they are, whatever a package would have in them.

    Args:
        packages: of the archives that the host's apt knows.
        keep_initrds: see above.
        versions: see above.
        local: packages of our making, to be installed too; all that they need is in ``packages``.
        absent: packages that are to be removed.
        stay: packages that are not to be removed with these, if they are there.
    """
    pins, installed = versions or {}, host.get_fact(DebPackages)
    missing = [
        f"{name}={pins[name]}" if name in pins else name
        for name in sorted(set(packages))
        if name not in installed or pins.get(name, "") not in ("", *installed[name])
    ]
    digests = host.get_fact(SourceDigests) if local else {}
    new = [each for each in local if digests.get(each.name) != each.digest]
    gone = [f"{name}-" for name in sorted(absent) if name in installed]
    if not (missing or new or gone):
        return
    files = [f"{_UPLOADS}/{each.name}.deb" for each in new]
    for each, file in zip(new, files, strict=True):
        yield FileUploadCommand(str(each.file), file)
    named = {name.partition("=")[0] for name in missing}
    # apt does not remove what it is told to have.
    kept = sorted({*packages, *stay} & {*installed} - named) if new or gone else []
    words = [*missing, *(f"{name}={min(installed[name])}" for name in kept), *gone, *files]
    options = ["--allow-downgrades"] if pins or new else []
    script = (_KEEP_INITRDS if keep_initrds else "") + _SCRIPT
    script = script.replace("$update", _UPDATE if missing or gone else ":")
    yield StringCommand(shlex.join(("sh", "-c", script, "install", *options, *words)))
    if files:
        yield StringCommand(shlex.join(("rm", "-f", *files)))
