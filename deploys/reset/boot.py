"""Put the files of the reset on a root, and make initrds and GRUB's entries from them."""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys.operations import boot as operations
from deploys.operations import efi, onbox, packages, services
from deploys.operations.onbox import ONBOX, OnboxFile, tree
from deploys.plan.of_firmware import LOADER, EfiPlan
from deploys.plan.result import VolumePlan
from deploys.settings import Settings, format_size, own_volumes

DEFAULTS = "/etc/default/resnap"
SERVICES = ("resnap-quarantine.service", "resnap-trial.service")

# The folder and the entry that grub-install makes, also when an upgrade of GRUB runs it. By default
# both have the distribution's name, and it would remove the old root's entry.
_LOADER = f"GRUB_DISTRIBUTOR={LOADER}\n"
# An upgrade of grub-pc would write GRUB to the disks of debconf's list, where a power cut leaves
# half of it, and would fail when one of them is gone. It leaves the disks, and the modules in /boot
# that their GRUBs load, as install-grub made them.
NO_DISKS = {
    "grub-pc/install_devices": ("multiselect", ""),
    "grub-pc/install_devices_empty": ("boolean", "true"),
}
_FILES = (
    "etc/default/grub.d/resnap.cfg",
    "etc/dracut.conf.d",
    "etc/grub.d/09_resnap",
    "etc/initramfs-tools",
    "etc/kernel",
    "etc/sysctl.d",
    "etc/systemd/system/boot-efi.mount.d",
    "etc/systemd/system/boot.mount.d",
    "etc/systemd/system/efi.mount.d",
    *(f"etc/systemd/system/{service}" for service in SERVICES),
    "etc/systemd/system/resnap-pressure.service",
    "usr/lib/dracut",
    "usr/lib/resnap",
)
# What only a box in a file needs.
_OF_FILE = ("usr/lib/systemd/system-shutdown",)


def defaults(plan: VolumePlan, settings: Settings) -> OnboxFile:
    """The file of shell variables for the scripts in /usr/lib/resnap, GRUB and makeinitrd.

    ``status`` reads WATCHED, as a box of an older version may not have all volumes of this one.
    """
    values = {
        "VOLGROUP": plan.volgroup,
        "LVROOT": plan.lvroot,
        "LVSNAP": plan.lvsnap,
        "LVSIZE": plan.lvsize,
        "CHUNKSIZE": format_size(settings.volumes.chunksize),
        "DEADLINE": str(settings.boot.deadline),
        "WARN_PERCENT": str(settings.volumes.warn_percent),
        "RESET_PERCENT": str(settings.volumes.reset_percent),
        "DRAIN_SECONDS": str(settings.jobs.drain),
        "REFERENCE": "yes" if settings.stack.has_reference else "no",
        "OLD_ROOT_UUID": plan.old_root_uuid,
        "OLD_BOOT_UUID": plan.old_boot_uuid,
        "WATCHED": f'"{" ".join(own_volumes.watched())}"',
    }
    if plan.file:
        values["VOLFILE"] = plan.file
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    return OnboxFile(f"# Written by provision; makeinitrd turns it into boots.\n{lines}".encode())


def sources(plan: VolumePlan, settings: Settings) -> dict[str, OnboxFile]:
    """The boot files, by their paths on the box."""
    makeinitrd = ONBOX.parent / "makeinitrd" / "makeinitrd"
    return {
        **tree(*_FILES, *(_OF_FILE if plan.file else ())),
        "/usr/sbin/makeinitrd": OnboxFile(makeinitrd.read_bytes(), 0o755),
        DEFAULTS: defaults(plan, settings),
    }


@deploy("Boot")
def boot(plan: VolumePlan, settings: Settings, root: str = "") -> None:
    """Put boot files, initrds and GRUB's entries on the running root, or on that at ``root``."""
    wanted = sources(plan, settings).items()
    files = onbox.files(name="Boot files", sources={f"{root}{path}": file for path, file in wanted})
    operations.starts_box(name="GRUB starts the box", root=root)
    operations.no_other_entries(name="Leave GRUB's entries to the box", root=root)
    operations.initrds(name="Initrds and GRUB entries", root=root, stale=bool(files.will_change))
    if not root:
        packages.answered(name="Upgrades leave GRUB", package="grub-pc", answers=NO_DISKS)
        for service in SERVICES:
            services.enabled(name=f"Enable {service}", unit=service)


@deploy("Boot of the copied root")
def boot_copy(plan: VolumePlan, settings: Settings) -> None:
    """Have the next boot start the copied root, in maintenance. The old root stays as it is.

    The last step is GRUB on the disk that the machine boots from, or the firmware's boot entry. If
    this breaks off before it, the machine boots its old root.
    """
    operations.mounted_copy(
        name="Mount the copied root",
        group=plan.volgroup,
        volume=plan.lvroot,
        boot=plan.boot_partition,
        esp=plan.efi.partition if plan.efi else "",
    )
    boot(plan=plan, settings=settings, root=operations.COPY)
    operations.next_boot(
        name="Next boot into maintenance", entry="maintenance", root=operations.COPY
    )
    if plan.efi is None:
        operations.grub_for_bios(name="Install GRUB", disks=plan.grub_disks, root=operations.COPY)
    else:
        _uefi_loader(plan.efi)
    operations.unmounted_copy(name="Unmount the copied root")


@deploy("Removable path")
def removable_path(plan: VolumePlan) -> None:
    """Have a host's own UEFI loader, if it has one, also start without a boot entry."""
    if plan.efi is None or not plan.efi.lacks_removable:
        return
    efi.removable_path_upgrades(name="Upgrades renew the removable path")
    efi.removable_path(
        name="Loader at the removable path", partition=plan.efi.partition, loader=plan.efi.loader
    )


def _uefi_loader(plan: EfiPlan) -> None:
    """Install GRUB on the spare disk's EFI system partition, or beside GRUB on the host's own.

    The old partition, or folder, keeps its loader's folder and its boot entry, as a way back.
    Firmware without boot entries takes the first disk that has a loader at the removable path, so
    an old partition must have none there. The step that makes the host start as a box is the last:
    after it ``provision`` finds a box, and does not repeat the steps before.
    """
    root = operations.COPY
    loader = {f"{root}/etc/default/grub.d/loader.cfg": OnboxFile(_LOADER.encode())}
    onbox.files(name="Name of the loader", sources=loader)
    efi.grub_for_uefi(name="Install GRUB", folder=plan.loader, root=root)
    efi.removable_path_upgrades(name="Upgrades renew the removable path", root=root)
    efi.removable_path(
        name="Loader at the removable path", partition=plan.partition, loader=plan.loader, new=True
    )
    if plan.old:
        efi.no_removable_path(name="Old loader leaves the removable path", partition=plan.old)
    if plan.entry:
        efi.boot_entry(
            name="Boot entry",
            partition=plan.partition,
            disk=plan.disk,
            number=plan.number,
            label=plan.loader,
        )
