"""Make base images of bare Debian hosts, without booting them; guests get overlays of these."""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal, Protocol

from filelock import FileLock

from tasks.debian import bootstrap, chroot
from tasks.desk import loop, shell, ssh_keys, whole_files
from tasks.disks import partitions
from tasks.guests import bare_tree

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Materials:
    """What every bare host is made from.

    ``tree`` is a tar file of a minimal Debian system, ``user_key`` the public SSH key of its user;
    ``apt_lines`` are lines of its apt.conf.
    """

    tree: Path
    user_key: str
    apt_lines: tuple[str, ...]


class Recipe(Protocol):
    """A kind of bare host: the layout of its disk, and what is on it.

    All that tells it from others is in its repr, as in a dataclass's: that goes into the image's
    key. ``kind`` is a word for the image's name, ``suite`` the name of a Debian release.
    """

    @property
    def kind(self) -> str: ...

    @property
    def suite(self) -> str: ...

    def write(self, disk: Path, kernel: Path, given: Materials, progress: Progress) -> str:
        """Make the file ``disk`` a disk that boots, and ``kernel`` a copy of its Linux image.

        Returns the host's public SSH key.
        """


@dataclass(frozen=True, slots=True)
class Plain:
    """A host that BIOS starts: one ext4 root on a disk of ``disk_size`` bytes, and no LVM."""

    disk_size: int
    kind: ClassVar[str] = "plain"
    suite: ClassVar[str] = bootstrap.SUITE

    def write(self, disk: Path, kernel: Path, given: Materials, progress: Progress) -> str:
        """See ``Recipe``."""
        with disk.open("wb") as file:
            file.truncate(self.disk_size)
        [part] = partitions.partition(disk, "label: dos\nstart=1MiB, type=83, bootable\n")
        with ExitStack() as stack:
            work = stack.enter_context(loop.temporary_folder(disk.parent))
            whole = stack.enter_context(loop.attached(disk))
            device = stack.enter_context(loop.attached(disk, offset=part.offset, size=part.size))
            identity = partitions.make_ext4(device, "root")
            root = stack.enter_context(loop.mounted(device, work))
            progress("unpacking the tree")
            bare_tree.unpack(given.tree, root)
            stack.enter_context(loop.chroot(root, {each.name: each for each in (whole, device)}))
            fstab = [f"UUID={identity} / ext4 errors=remount-ro 0 1"]
            host_key = bare_tree.furnish(root, fstab, given.user_key, given.apt_lines)
            progress("making it bootable")
            chroot.chroot_output(root, "update-initramfs", "-c", "-k", "all")
            bare_tree.install_grub(root, whole)
            bare_tree.write_menu_by_uuid(root, identity)
            bare_tree.copy_kernel(root, kernel)
        return host_key


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
    recipe_module = sys.modules[type(recipe).__module__]
    code = (sys.modules[__name__], recipe_module, bare_tree, chroot, partitions, loop)
    image = folder / f"{recipe.kind}-{_key(code, tree_key, repr(recipe), public)}.raw"
    note, kernel = image.with_suffix(".json"), image.with_suffix(".vmlinuz")
    with FileLock(image.with_suffix(".lock")):
        if not (image.exists() and note.exists()):
            loop.require_root("making a disk image")
            tar = _tree(folder / f"tree-{recipe.suite}-{tree_key}.tar", made_of, progress)
            progress(f"laying out the {recipe.kind} disk")
            with whole_files.replaced(image) as disk:
                given = Materials(tar, public, relaxed)
                host_key = recipe.write(disk, kernel, given, progress)
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


def _key(code: Sequence[ModuleType], *parts: object) -> str:
    """A hash of the source of these modules, of these parts and of the calendar week."""
    source = b"".join(Path(module.__file__ or "").read_bytes() for module in code)
    week = datetime.date.today().isocalendar()[:2]
    text = json.dumps([*parts, week], sort_keys=True).encode()
    return hashlib.sha256(source + text).hexdigest()[:16]
