"""Names that LVM, useradd, git, apt and Vagrant take, by their rules."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from deploys.facts.mapper import mapper_name
from deploys.settings.quantities import shown

# lvm(8), "VALID NAMES", and what lvcreate refuses besides: it looks for these as beginnings, and
# for those anywhere.
_LVM = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]*")
_LV_BEGINNINGS = ("snapshot", "pvmove")
_LV_PARTS = re.compile(
    "_(cdata|cmeta|corig|cpool|cvol|imeta|iorig|mimage|mlog|pmspare|rimage|rmeta|tdata|tmeta|vdata"
    "|vorigin|wcorig)"
)
# vgcreate refuses the name of anything in /dev, as the group's folder would lie there. These are
# there on every Linux; disks and the like have a number or a letter more.
_IN_DEV = frozenset(
    [
        "block",
        "bus",
        "char",
        "console",
        "core",
        "cpu",
        "cpu_dma_latency",
        "disk",
        "dma_heap",
        "dri",
        "fb",
        "fd",
        "full",
        "fuse",
        "hugepages",
        "hwrng",
        "initctl",
        "input",
        "kmsg",
        "kvm",
        "log",
        "loop-control",
        "mapper",
        "mem",
        "mqueue",
        "net",
        "null",
        "nvram",
        "port",
        "ppp",
        "ptmx",
        "pts",
        "random",
        "rfkill",
        "rtc",
        "shm",
        "snapshot",
        "snd",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "uhid",
        "uinput",
        "urandom",
        "usb",
        "userfaultfd",
        "vfio",
        "vga_arbiter",
        "vhost-net",
        "vhost-vsock",
        "vsock",
        "zero",
    ]
)
_DISKS = re.compile(
    "([shv]d|xvd)[a-z]+[0-9]*|dm-[0-9]+"
    "|(loop|md|mmcblk|nbd|nvme|pmem|ram|sg|sr|tty|ttyS|vcs|vcsa|vcsu|zram)[0-9][0-9np]*"
)
# The kernel's DM_NAME_LEN, less its NUL and what LVM adds to the name of a snapshot's parts.
_MAPPER_MOST = 127 - len("-real")

# base-passwd's accounts and groups, and those that Debian's packages make on a box.
_ACCOUNTS = frozenset(
    [
        "adm",
        "audio",
        "backup",
        "bin",
        "cdrom",
        "clock",
        "crontab",
        "daemon",
        "dhcpcd",
        "dialout",
        "dip",
        "disk",
        "fax",
        "floppy",
        "games",
        "input",
        "irc",
        "kmem",
        "kvm",
        "list",
        "lp",
        "mail",
        "man",
        "messagebus",
        "netdev",
        "news",
        "nobody",
        "nogroup",
        "operator",
        "plugdev",
        "polkitd",
        "proxy",
        "render",
        "root",
        "sasl",
        "sgx",
        "shadow",
        "src",
        "sshd",
        "staff",
        "sudo",
        "sync",
        "sys",
        "tape",
        "tcpdump",
        "tss",
        "tty",
        "users",
        "utmp",
        "uucp",
        "uuidd",
        "video",
        "voice",
        "www-data",
    ]
)
# The name's own mailbox, home and sudoers file bear it; useradd(8) takes 32 characters.
_USER = re.compile(r"[a-z][a-z0-9_-]{0,31}")

_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_NOT_GIT = re.compile(r"\.\.|//|/\.|\.lock(/|$)|[./]$")

# To apt, a hyphen at the end means: remove this package. A file of dpkg's bears the name.
PACKAGE = r"[a-z0-9][a-z0-9+.-]{0,198}[a-z0-9+]"
_VAGRANT = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


def _check_volume(name: str) -> str:
    if not _LVM.fullmatch(name) or name in (".", "..") or len(name) > _MAPPER_MOST:
        raise ValueError(
            f"{shown(name)} is no name for LVM: write letters, digits and _ + . -, none first that "
            "is a hyphen"
        )
    return name


def _check_lv(name: str) -> str:
    if name.startswith(_LV_BEGINNINGS) or _LV_PARTS.search(name):
        raise ValueError(f"{shown(name)} is a name that LVM keeps for its own volumes")
    return name


def _check_vg(name: str) -> str:
    if name in _IN_DEV or _DISKS.fullmatch(name):
        raise ValueError(f"{shown(name)} is the name of a device in /dev, so LVM refuses it")
    return name


def mapper_fault(group: str, volume: str) -> str:
    """Why device-mapper cannot have this volume and its snapshot; empty if it can."""
    name = mapper_name(group, volume)
    if len(name) <= _MAPPER_MOST:
        return ""
    return f"{shown(name)} has {len(name)} characters, and device-mapper takes {_MAPPER_MOST}"


def _check_user(name: str) -> str:
    if not _USER.fullmatch(name):
        raise ValueError(
            f"{shown(name)} is no name for a user: write up to 32 small letters, digits, _ and -, "
            "a letter first"
        )
    if name in _ACCOUNTS or name.startswith("systemd-"):
        raise ValueError(f"{shown(name)} is an account or a group of the system")
    return name


def _check_branch(name: str) -> str:
    # As runsetup, and git check-ref-format.
    if not _BRANCH.fullmatch(name) or _NOT_GIT.search(name):
        raise ValueError(
            f"{shown(name)} is no name for a branch: write letters, digits and . _ / -, as git "
            "takes them"
        )
    return name


def _check_package(name: str) -> str:
    if not re.fullmatch(PACKAGE, name):
        raise ValueError(f"{shown(name)} is no name of a Debian package")
    return name


def _check_box(name: str) -> str:
    if not re.fullmatch(f"{_VAGRANT}(/{_VAGRANT})?", name):
        raise ValueError(f"{shown(name)} is no name for a box: write NAME or USER/NAME")
    return name


def _check_version(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9A-Za-z]+)*(-[0-9A-Za-z]+(\.[0-9A-Za-z]+)*)?", text):
        raise ValueError(f"{shown(text)} is no version as Vagrant takes them, as 1.2.0")
    return text


_Volume = Annotated[str, AfterValidator(_check_volume)]
VgName = Annotated[_Volume, AfterValidator(_check_vg)]
LvName = Annotated[_Volume, AfterValidator(_check_lv)]
UserName = Annotated[str, AfterValidator(_check_user)]
BranchName = Annotated[str, AfterValidator(_check_branch), Field(max_length=200)]
PackageName = Annotated[str, AfterValidator(_check_package)]
BoxName = Annotated[str, AfterValidator(_check_box), Field(max_length=100)]
BoxVersion = Annotated[str, AfterValidator(_check_version), Field(max_length=50)]
