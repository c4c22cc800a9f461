"""The settings of a box: typed and frozen."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from deploys.settings.names import (
    BoxName,
    BoxVersion,
    BranchName,
    LvName,
    PackageName,
    UserName,
    VgName,
    mapper_fault,
)
from deploys.settings.quantities import (
    GIB,
    KIB,
    MIB,
    ChunkSize,
    LvSize,
    Size,
    Switch,
    Whole,
    format_size,
    parse_size,
    shown,
)
from deploys.settings.signers import Signer
from deploys.settings.stack import SETUP, Stack
from deploys.settings.urls import FolderUrl, Hostname

__all__ = ["GIB", "KIB", "MIB", "Size", "format_size", "parse_size"]

STATUS_PORT = 14178  # where every box shows its status page
# The roles that provision makes. secure makes the others of a devel box (deploys/box.py).
Role = Literal["devel", "gateway"]
LABELS = ("director", "worker")
"""Roles that older versions of provision wrote on boxes that were devel."""

DESK: dict[str, Any] = {"of_the_desk": True}
"""The mark of a setting, or a section, that no box has: what the desk does with boxes."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Volumes(Section):
    """The volume group and its logical volumes."""

    volgroup: VgName = Field(
        "vagrant-pipeline",
        description="name of the volume group; a host with its root on LVM keeps its own",
    )
    lvroot: LvName = Field(
        "root", description="name of the golden root; a host with its root on LVM keeps its own"
    )
    lvsnap: LvName = Field("root_snap", description="name of the snapshot that the box runs on")
    lvsize: LvSize = Field(
        "100%ORIGIN",
        description="size of the snapshot, as 4G, or as 50%ORIGIN for half of the golden root; "
        "a snapshot of 100%ORIGIN cannot overflow",
    )
    warn_percent: Whole = Field(
        80, ge=1, le=98, description="percent full at which status warns about the snapshot"
    )
    reset_percent: Whole = Field(
        95,
        ge=2,
        le=99,
        description="percent full at which workers take no new job and the box resets; only for "
        "a snapshot that can overflow",
    )
    chunksize: ChunkSize = Field(
        64 * KIB,
        ge=4 * KIB,
        le=512 * KIB,
        description="size of the snapshot's chunks; LVM's own 4K is six times slower to read",
    )
    root_size: Size | None = Field(
        None,
        ge=2 * GIB,
        description="size of the golden root on the disk that --device names; if not set: the "
        "largest that leaves room for its snapshot",
    )
    persistent_size: Size = Field(
        2 * GIB, ge=256 * MIB, description="size of /persistent, which outlives each reset"
    )
    swap_size: Size = Field(GIB, ge=64 * MIB, description="size of the swap volume")
    boot_size: Size = Field(
        512 * MIB, ge=256 * MIB, description="size of the /boot partition on a new disk"
    )

    @model_validator(mode="after")
    def _check_order(self) -> Volumes:
        if self.warn_percent >= self.reset_percent:
            raise ValueError(
                f"warn_percent {self.warn_percent} is not below reset_percent {self.reset_percent}"
            )
        for name in (self.lvroot, self.lvsnap):
            if fault := mapper_fault(self.volgroup, name):
                raise ValueError(fault)
        return self


class Boot(Section):
    """How long a boot may take."""

    deadline: Whole = Field(
        120,
        ge=5,
        le=3600,
        description="seconds that the initramfs waits for a late disk or a busy volume",
    )
    reboot_deadline: Whole = Field(
        600,
        ge=30,
        le=7200,
        description="seconds until a host must answer again after a reboot",
        json_schema_extra=DESK,
    )


class Setup(Section):
    """Where provisiond fetches the setup project after each reset."""

    hostname: Hostname = Field(
        "",
        description="prefix of git URLs, as https://git.example.org; the name of a project is "
        "added to it. Empty: the box uses the copy that provision brought. Write no password in it",
    )
    branch: BranchName = Field("stable", description="branch of the setup project")
    signers: tuple[Signer, ...] = Field(
        (),
        description="who may sign the setup project: an allowed_signers file, as inv signer.add "
        "makes it, or its lines. Empty: a box applies what its server has",
    )


class Jobs(Section):
    """What one job of the pipeline may use on this box, and who makes the jobs."""

    seconds: Whole = Field(3600, ge=1, le=366 * 86400, description="seconds that a job may run")
    memory: Size = Field(4 * GIB, ge=64 * MIB, description="memory that a job may use")
    disk: Size = Field(
        GIB, ge=16 * MIB, description="disk space that the files and the output of a job may use"
    )
    drain: Whole = Field(
        600,
        ge=0,
        le=86400,
        description="seconds that running jobs have to end before a full snapshot is reset",
    )
    director: Switch = Field(False, description="whether a gateway is also the pipeline's director")


class Gateway(Section):
    """How much of /persistent a gateway gives away; nobody else can use that room."""

    quota: Size = Field(
        256 * MIB, ge=16 * MIB, description="room for the results of each owner of boxes"
    )
    queue: Size = Field(
        GIB,
        ge=128 * MIB,
        description="room for the queue's database: for a million jobs, 2G",
    )


class Image(Section):
    """The disk image that ``inv box.build`` makes."""

    suite: Literal["trixie"] = Field("trixie", description="release of Debian")
    packages: tuple[PackageName, ...] = Field(
        (
            "dbus",  # with it, logind reacts to the power button
            "e2fsprogs",
            "grub-efi-amd64-bin",
            "grub-pc-bin",  # grub-pc itself would ask for its disk at an upgrade
            "grub2-common",
            "initramfs-tools",
            "iproute2",
            "linux-image-amd64",  # the cloud kernel has no driver for VirtualBox's network card
            "login",  # agetty starts it
            "openssh-server",
            "procps",
            "rsync",
            "sudo",
            "systemd-resolved",
            "systemd-sysv",
            "udev",
        ),
        description="Debian packages of the system; those that a box and its stack need are added",
    )
    user: UserName = Field(
        "vagrant", description="user who can log in and has sudo without a password"
    )
    disk_size: Size = Field(
        24 * GIB,
        ge=4 * GIB,
        le=2048 * GIB,
        description="size of the disk; its file takes only the space that is used",
    )


class Guest(Section):
    """The virtual machine that ``inv up`` starts here."""

    memory: Size = Field(2 * GIB, ge=512 * MIB, description="memory of the guest")
    cpus: Whole = Field(2, ge=1, le=64, description="processors of the guest")
    disk_size: Size = Field(
        8 * GIB, ge=3 * GIB, description="size of the system disk with inv up --bare"
    )
    spare_size: Size = Field(
        24 * GIB,
        ge=4 * GIB,
        description="size of the spare disk with inv up --bare, or of the file with --in-file",
    )


class Package(Section):
    """The name and version that ``inv box.package`` gives a box, and where people fetch it."""

    name: BoxName = Field("openkim/pipeline", description="name of the box in Vagrant")
    version: BoxVersion = Field("0.1.0", description="version of the box in Vagrant")
    url: FolderUrl = Field(
        "",
        description="URL of the folder where you will put the files, with a slash at its end; "
        "empty: the folder in which they are made",
    )


class Settings(Section):
    """All settings of a box."""

    role: Role = Field(
        "devel",
        description="what the box is for; provision makes a gateway, secure makes a worker or a "
        "director of a devel box",
    )
    volumes: Volumes = Volumes()
    boot: Boot = Boot()
    setup: Setup = Setup()
    stack: Stack = Stack()
    jobs: Jobs = Jobs()
    gateway: Gateway = Gateway()
    image: Image = Image()
    guest: Guest = Field(Guest(), json_schema_extra=DESK)
    package: Package = Field(Package(), json_schema_extra=DESK)

    @field_validator("role", mode="before")
    @classmethod
    def _check_role(cls, value: object) -> object:
        made = get_args(Role)
        if value not in made:
            raise ValueError(
                f"provision makes {' or '.join(made)}, not {shown(value)}: see fab secure --role"
            )
        return value

    @model_validator(mode="after")
    def _check_rooms(self) -> Settings:
        given = self.gateway.quota + self.gateway.queue
        if self.role == "gateway" and given > self.volumes.persistent_size:
            raise ValueError(
                f"gateway.quota and gateway.queue, {format_size(given)}, are more than "
                f"volumes.persistent_size, {format_size(self.volumes.persistent_size)}"
            )
        return self

    @model_validator(mode="after")
    def _check_parts(self) -> Settings:
        hostname = self.setup.hostname
        for name, part in self.stack.parts.items():
            if name == SETUP:
                continue  # runsetup can be given a hostname later
            is_file = part.source == "file"
            if part.is_relative and not hostname.startswith("/") and (is_file or not hostname):
                wanted = "a path in setup.hostname" if is_file else "setup.hostname"
                raise ValueError(
                    f"stack.{name}: {part.location} is relative: it needs {wanted}, "
                    "or a full address"
                )
        return self

    @property
    def setup_fault(self) -> str:
        """Why a box would refuse to fetch its set-up; empty if it would not.

        It is no error of the model, as boxes of older versions have such settings.
        """
        if (
            not self.setup.hostname.startswith(("git://", "http://"))
            or self.setup.signers
            or self.stack.openkim_pipeline_setup.source == "git"
        ):
            return ""
        return (
            "setup.hostname: over git:// and http:// anybody on the way could be the server: "
            "give setup.signers, pin a commit in stack.openkim-pipeline-setup, or use https or ssh"
        )

    def of_box(self) -> str:
        """The settings that land on the box, as JSON: all but those of the desk and of the disk."""
        return self.model_dump_json(indent=1, exclude={**_of_desk(Settings), "image": True})

    def of_image(self) -> str:
        """The settings that a disk image depends on, as JSON."""
        return self.model_dump_json(exclude=_of_desk(Settings))


def _of_desk(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a model that have the mark :data:`DESK`, as ``model_dump`` excludes them."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if field.json_schema_extra is DESK:
            found[name] = True
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= {name: below} if (below := _of_desk(field.annotation)) else {}
    return found
