"""Install and remove packages: those of the archives, and those that this project built."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.facts.deb import DebPackages

from deploys.facts.packages import Answers, SourceDigests
from deploys.operations import Commands, Upload, arrived

# It waits for another apt, such as the daily update that a new host runs at its first boot.
# --fix-broken completes an installation that a power cut ended. Without Pattern-Only, apt takes an
# unknown name with a dot for a regular expression, and installs every package that matches.
# A virtual package is never installed by its own name; show says nothing of it.
_SCRIPT = """
set -eu
export DEBIAN_FRONTEND=noninteractive
dpkg --configure -a --force-confdef --force-confold
$update
have=$(apt-cache show --no-all-versions $names 2>/dev/null | sed -n 's/^Package: //p')
for name in $names; do
    printf '%s\\n' "$have" | grep -Fqx "$name" && continue
    echo "E: there is no package $name; if it is virtual, name one that provides it" >&2
    exit 1
done
apt-get -q -y -o DPkg::Lock::Timeout=300 -o APT::Cmd::Pattern-Only=true \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
    --fix-broken --no-install-recommends install "$@"
"""

UPDATE = "apt-get -q -o DPkg::Lock::Timeout=300 update"

# update-initramfs reads its settings as shell, so the last line counts. dracut's hook reads INITRD.
_KEEP_INITRDS = """
export INITRD=No
conf=/etc/initramfs-tools/update-initramfs.conf
if [ -e "$conf" ]; then
    [ -e "$conf.before" ] || cp -a "$conf" "$conf.before"
    trap 'mv "$conf.before" "$conf"' EXIT
    echo update_initramfs=no >>"$conf"
fi
"""

# apt would remove what needs them, too: then they stay.
_PURGE = """
set -eu
export DEBIAN_FRONTEND=noninteractive
gone=$(apt-get --simulate purge "$@" | grep -c '^Purg ' || :)
if [ "$gone" -gt "$#" ]; then
    echo "other packages need some of these, so they stay: $*" >&2
    exit
fi
apt-get -q -y -o DPkg::Lock::Timeout=300 purge "$@"
"""


@dataclass(frozen=True)
class LocalPackage:
    """A package that this project built; ``digest`` is its field ``Pipeline-Source-Digest``.

    The file on this machine need not exist if the host has the package.
    """

    name: str
    digest: str
    file: Path


@operation()
def answered(package: str, answers: Mapping[str, tuple[str, str]]) -> Commands:
    """Have debconf give an installed package these answers at its upgrades, and not ask.

    ``answers`` has the type and the value of each, by the name of its question.
    """
    found = host.get_fact(Answers, package=package)
    if found is None:
        return
    lines = [
        shlex.quote(f"{package} {name} {kind} {value}")
        for name, (kind, value) in answers.items()
        if found.get(name) != value
    ]
    if lines:
        yield StringCommand("printf '%s\\n'", *lines, "| debconf-set-selections")


@operation()
def present(
    packages: Sequence[str],
    keep_initrds: bool = False,
    versions: Mapping[str, str] | None = None,
    local: Sequence[LocalPackage] = (),
    absent: Collection[str] = (),
    stay: Collection[str] = (),
) -> Commands:
    """Install packages, without those that they only recommend, and remove others.

    If nothing is missing, apt is not started and no network is needed.

    Args:
        packages: names of packages in the archives that the host's apt knows.
        keep_initrds: leave the host's initrds as they are.
        versions: the version that a package must have. It may be older than the installed one.
            Packages that are not in this mapping may have any version.
        local: packages that this project built. ``packages`` must have all that they need.
        absent: packages to remove.
        stay: installed packages that must not be removed with those in ``absent``.
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
    uploads = [Upload(each.file, f".{each.name}.deb") for each in new]
    for upload in uploads:
        yield upload.command
    named = {name.partition("=")[0] for name in missing}
    # apt does not remove a package that it is told to install.
    kept = sorted({*packages, *stay} & {*installed} - named) if new or gone else []
    words = [
        *missing,
        *(f"{name}={min(installed[name])}" for name in kept),
        *gone,
        *(upload.path for upload in uploads),
    ]
    options = ["--allow-downgrades"] if pins or new else []
    script = (_KEEP_INITRDS if keep_initrds else "") + _SCRIPT
    script = script.replace("$update", UPDATE if missing or gone else ":")
    script = f"names={shlex.quote(' '.join(sorted(named)))}\n{script}"
    install = shlex.join(("sh", "-c", script, "install", *options, *words))
    yield StringCommand("; ".join((*(arrived(*uploads) if uploads else ()), install)))


@operation()
def purged(packages: Sequence[str]) -> Commands:
    """Remove packages with their settings, unless others need them; initrds stay as they are."""
    installed = host.get_fact(DebPackages)
    there = [name for name in packages if name.partition(":")[0] in installed]
    if there:
        yield StringCommand(shlex.join(("sh", "-c", _KEEP_INITRDS + _PURGE, "purge", *there)))
