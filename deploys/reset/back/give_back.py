"""Give a host back, in two passes: on the box, and then on the old root (``ways``)."""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys.operations import efi, packages
from deploys.plan.of_firmware import LOADER
from deploys.reset.back import undo
from deploys.reset.back.ways import Way


@deploy("Leave the box")
def leave(way: Way) -> None:
    """Make the old root what the next boot takes, and all boots after it."""
    if way.starts_merge:
        undo.old_modules(name="Modules of the old kernels", group=way.volgroup, lvroot=way.lvroot)
        undo.removed(name="Remove snapshots", group=way.volgroup, volumes=way.snapshots)
    if way.file:
        undo.old_root_first_of_file(name="GRUB starts the old root")
    else:
        undo.old_root_first(name="GRUB starts the old root", boot=way.boot)
    if way.starts_merge:
        undo.merge(name="The root goes back", group=way.volgroup, lvroot=way.lvroot)


@deploy("Give back")
def give_back(way: Way) -> None:
    """On the old root: take away all that made the host a box; the record goes last."""
    if way.merges:
        undo.merged(name="Wait until the root is back", group=way.volgroup, lvroot=way.lvroot)
        undo.boot_files(name="Files of /boot")
        undo.loaders(name="Loaders of the firmware")
        gone = (*way.snapshots, *way.volumes)
        undo.removed(name="Remove volumes", group=way.volgroup, volumes=gone)
        undo.taken_out(name="Take the disk out", group=way.volgroup, parts=way.parts)
    else:
        if way.boot:
            undo.old_root_first(name="GRUB starts the old root", boot=way.boot)
        undo.boot_sectors(name="Boot sectors")
        for esp in way.esps:
            efi.old_removable_path(name=f"Old loader of {esp}", partition=esp)
        if way.esps:
            efi.no_boot_entry(name="No boot entry of the box", label=LOADER)
            undo.loaders(name="Loaders of the firmware")
        undo.closed(name=f"Close {way.volgroup}", group=way.volgroup)
    undo.wiped(name="Wipe the disk", paths=way.wiped)
    if way.file:
        undo.file_removed(name=f"Remove {way.file}", path=way.file, boot=way.folder)
    packages.purged(name="Remove packages", packages=way.packages)
    undo.forgotten(name="Remove the record", group="" if way.merges else way.volgroup)
