"""The files that make a root reset itself at boot, and what is made from them."""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys.onbox import ONBOX, tree
from deploys.operations import boot as operations
from deploys.operations import onbox, services
from deploys.operations.onbox import OnboxFile
from deploys.settings import Settings, format_size
from deploys.volume_plan import VolumePlan

DEFAULTS = "/etc/default/resnap"
_QUARANTINE = "resnap-quarantine.service"

_FILES = (
    "etc/default/grub.d/resnap.cfg",
    "etc/grub.d/09_resnap",
    "etc/initramfs-tools",
    "etc/kernel",
    "etc/systemd/system/boot.mount.d",
    f"etc/systemd/system/{_QUARANTINE}",
    "usr/lib/resnap",
)


def defaults(plan: VolumePlan, settings: Settings) -> OnboxFile:
    """The shell variables that the initramfs script, the GRUB script and makeinitrd read."""
    values = {
        "VOLGROUP": plan.volgroup,
        "LVROOT": plan.lvroot,
        "LVSNAP": plan.lvsnap,
        "LVSIZE": plan.lvsize,
        "CHUNKSIZE": format_size(settings.volumes.chunksize),
        "DEADLINE": str(settings.boot.deadline),
        "OLD_ROOT_UUID": plan.old_root_uuid,
    }
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    return OnboxFile(f"# Written by provision; makeinitrd turns it into boots.\n{lines}".encode())


def sources(plan: VolumePlan, settings: Settings) -> dict[str, OnboxFile]:
    """The boot files by their paths on the box."""
    makeinitrd = ONBOX.parent / "makeinitrd" / "makeinitrd"
    return {
        **tree(*_FILES),
        "/usr/sbin/makeinitrd": OnboxFile(makeinitrd.read_bytes(), 0o755),
        DEFAULTS: defaults(plan, settings),
    }


@deploy("Boot")
def boot(plan: VolumePlan, settings: Settings, root: str = "") -> None:
    """Boot files, initrds and GRUB's entries, on the running root or on the one at ``root``."""
    wanted = sources(plan, settings).items()
    files = onbox.files(name="Boot files", sources={f"{root}{path}": file for path, file in wanted})
    operations.no_other_entries(name="Leave GRUB's entries to the box", root=root)
    operations.made_initrds(
        name="Initrds and GRUB entries", root=root, stale=bool(files.will_change)
    )
    if not root:
        services.enabled(name=f"Enable {_QUARANTINE}", unit=_QUARANTINE)


@deploy("Boot of the copied root")
def boot_copy(plan: VolumePlan, settings: Settings) -> None:
    """Make the copied root boot, once, into maintenance; the old root stays as it is.

    GRUB comes last of all on the disk that the machine boots from: until then, and whenever
    this breaks off, the machine comes up as it always did.
    """
    operations.mounted_copy(
        name="Mount the copied root",
        group=plan.volgroup,
        volume=plan.lvroot,
        boot=plan.boot_partition,
    )
    boot(plan=plan, settings=settings, root=operations.COPY)
    operations.next_boot(
        name="Next boot into maintenance", entry="maintenance", root=operations.COPY
    )
    operations.grub_installed(name="Install GRUB", disks=plan.grub_disks, root=operations.COPY)
    operations.unmounted_copy(name="Unmount the copied root")
