"""Make base images of bare Debian hosts, without booting them; guests get overlays of these."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from filelock import FileLock

from deploys.facts.mapper import mapper_path
from tasks.debian import bootstrap, chroot
from tasks.desk import loop, shell, ssh_keys, whole_files
from tasks.disks import filesystems, grub, partitions, volume_group
from tasks.disks.identifiers import Fixed, Identifiers
from tasks.guests import bare_tree

GIB = 2**30
# Packages of a host with its root on LVM, as Debian's installer leaves a server.
SERVER = ("lvm2", "zstd", "python3", "ca-certificates", "git")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The layout and the packages of a bare host's disk.

    ``plain`` has one ext4 root and LVM is not installed; ``lvm`` has a /boot partition and a volume
    group ``volgroup`` with the LV ``root`` of ``root_size`` bytes (None: all extents). With
    ``firmware`` uefi, an EFI system partition with Debian's signed boot loader comes first, mounted
    at /boot/efi. ``extra`` are further packages. Sizes are in bytes; ``suite`` is the name of a
    Debian release.
    """

    kind: Literal["plain", "lvm"] = "plain"
    firmware: Literal["bios", "uefi"] = "bios"
    suite: str = bootstrap.SUITE
    disk_size: int = 8 * GIB
    boot_size: int = 512 * partitions.MIB
    volgroup: str = "debian-vg"
    root_size: int | None = 3 * GIB
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaseImage:
    """A raw disk image for overlays, and who logs in to its host.

    ``kernel`` is the file of a copy of its Linux image.
    """

    path: Path
    kernel: Path
    identity: ssh_keys.Identity


def build(recipe: Recipe, state: Path, progress: Progress = lambda _: None) -> BaseImage:
    """Make the base image of a recipe, or take it from the cache in ``state``.

    A change of the recipe, of this code or of the calendar week makes a new one. When two processes
    ask at once, one makes it and the other waits.

    Raises:
        BoxError: this process is not root, or a tool is missing or failed.
    """
    folder = state / "images"
    folder.mkdir(parents=True, exist_ok=True)
    user_key = state / "id_ed25519"
    public = ssh_keys.make_key(user_key)
    relaxed = bootstrap.relaxations()
    made_of = bootstrap.Tree(
        recipe.suite, bootstrap.PACKAGES, bootstrap.sources(recipe.suite), relaxed
    )
    tree_key = _key((bootstrap,), asdict(made_of))
    code = (
        sys.modules[__name__],
        bare_tree,
        chroot,
        filesystems,
        grub,
        partitions,
        loop,
        volume_group,
    )
    image = folder / f"{recipe.kind}-{_key(code, tree_key, asdict(recipe), public)}.raw"
    note, kernel = image.with_suffix(".json"), image.with_suffix(".vmlinuz")
    with FileLock(image.with_suffix(".lock")):
        if not (image.exists() and note.exists()):
            loop.require_root("making a disk image")
            tar = _tree(folder / f"tree-{recipe.suite}-{tree_key}.tar", made_of, progress)
            progress(f"laying out the {recipe.kind} disk")
            with whole_files.replaced(image) as disk:
                host_key = _fill(disk, kernel, recipe, tar, public, relaxed, progress)
                identity = ssh_keys.Identity(
                    user=bare_tree.USER, user_key=user_key, host_key=host_key
                )
                note.write_text(identity.model_dump_json())
    return BaseImage(image, kernel, ssh_keys.Identity.model_validate_json(note.read_text()))


def overlay(base: Path, file: Path, backing: Literal["raw", "qcow2"] = "raw") -> Path:
    """Make ``file`` a qcow2 overlay of a base image, which is only read from then on.

    ``backing`` is the format of the base.
    """
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", backing, "-b", str(base.resolve())]
    shell.run([*argv, file])
    return file


def empty_disk(file: Path, size: int) -> Path:
    """Make ``file`` an empty qcow2 disk of ``size`` bytes."""
    shell.run(["qemu-img", "create", "-q", "-f", "qcow2", file, str(size)])
    return file


def _tree(tar: Path, made_of: bootstrap.Tree, progress: Progress) -> Path:
    with FileLock(tar.with_suffix(".lock")):
        if not tar.exists():
            progress(f"installing Debian {made_of.suite} into a tree")
            # older trees of this release are not used again
            for old in tar.parent.glob(f"tree-{made_of.suite}-*.tar"):
                old.unlink()
            bootstrap.make_tree(tar, made_of)
    return tar


def _fill(
    disk: Path,
    kernel: Path,
    recipe: Recipe,
    tar: Path,
    public: str,
    relaxed: tuple[str, ...],
    progress: Progress,
) -> str:
    """Put the tree on the disk and make it bootable; returns the public host key."""
    is_lvm, is_uefi = recipe.kind == "lvm", recipe.firmware == "uefi"
    fixed = Fixed(Identifiers(uuid.uuid4().hex), int(time.time()))
    with disk.open("wb") as file:
        file.truncate(recipe.disk_size)
    boot_size = recipe.boot_size if is_lvm else None
    table = partitions.uefi(boot_size, fixed.identifiers) if is_uefi else partitions.mbr(boot_size)
    parts = partitions.partition(disk, table)
    esp = parts.pop(0) if is_uefi else None
    with ExitStack() as stack:
        work = stack.enter_context(loop.temporary_folder(disk.parent))
        whole = stack.enter_context(loop.attached(disk))
        last = parts[-1]
        if is_lvm:
            wanted = [volume_group.Volume("root", recipe.root_size)]
            last = volume_group.make(disk, last, recipe.volgroup, wanted)["root"]
        device = stack.enter_context(loop.attached(disk, offset=last.offset, size=last.size))
        identity = boot_uuid = partitions.make_ext4(device, "root")
        root = stack.enter_context(loop.mounted(device, work))
        nodes = {whole.name: whole, device.name: device}
        mapped = mapper_path(recipe.volgroup, "root")
        name = mapped if is_lvm else f"UUID={identity}"
        fstab = [f"{name} / ext4 errors=remount-ro 0 1"]
        if is_lvm:
            first = parts[0]
            (root / "boot").mkdir()
            boot = stack.enter_context(loop.attached(disk, offset=first.offset, size=first.size))
            boot_uuid = partitions.make_ext4(boot, "boot")
            fstab.append(f"UUID={boot_uuid} /boot ext4 defaults 0 2")
            stack.enter_context(loop.mounted(boot, root / "boot"))
            nodes[boot.name] = boot
        if is_uefi:
            serial = fixed.identifiers.serial("esp").upper()
            fstab.append(f"UUID={serial[:4]}-{serial[4:]} /boot/efi vfat umask=0077 0 1")
        progress("unpacking the tree")
        bare_tree.unpack(tar, root)
        stack.enter_context(loop.chroot(root, nodes))
        host_key = bare_tree.furnish(root, fstab, public, relaxed)
        loader = grub.SIGNED if is_uefi else ()  # they replace GRUB for BIOS
        if extra := (*loader, *(SERVER if is_lvm else ()), *recipe.extra):
            progress(f"installing {extra[0]}")
            bare_tree.install(root, *extra)
        progress("making it bootable")
        where = None if is_uefi else whole.name
        bare_tree.make_bootable(root, where, mapped if is_lvm else identity)
        if esp is not None:
            (root / "boot/efi").mkdir()
            chain = grub.signed_chain(root, boot_uuid, "/grub" if is_lvm else "/boot/grub")
            filesystems.write_esp(disk, esp, chain, fixed)
        shutil.copy(next((root / "boot").glob("vmlinuz-*")), kernel)
    return host_key


def _key(code: Sequence[ModuleType], *parts: object) -> str:
    """A hash of the source of these modules, of these parts and of the calendar week."""
    source = b"".join(Path(module.__file__ or "").read_bytes() for module in code)
    week = datetime.date.today().isocalendar()[:2]
    text = json.dumps([*parts, week], sort_keys=True).encode()
    return hashlib.sha256(source + text).hexdigest()[:16]
