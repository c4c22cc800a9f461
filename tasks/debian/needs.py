"""The table of what each task needs on this machine, besides Python."""

from __future__ import annotations

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import call, task

from deploys.errors import PreflightError
from tasks.desk import shell
from tasks.desk.progress import exit_on_error

_APT = "apt-get"
_SSH = ("ssh", "ssh-keygen")
_DISKS = ("losetup", "lvm", "mke2fs", "qemu-img", "sfdisk")
_IMAGES = (_APT, "dpkg-deb", "git", "mformat", "mmdebstrap", "unshare", *_DISKS)

# A row a set of programs. What runs guests is in the table of providers.
TABLE: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((), ("destroy", "halt", "lock", "settings")),
    (
        _SSH,
        (
            *("adduser", "backup", "deluser", "keep", "maintain", "promote", "resnap", "restore"),
            *("revoke", "rollback", "secure", "shrink", "ssh", "status", "unprovision", "users"),
            *("pipeline.cancel", "pipeline.log", "pipeline.queue", "pipeline.results"),
            *("pipeline.retry", "pipeline.submit"),
            *("signer.add", "signer.remove"),
        ),
    ),
    ((*_SSH, "git"), ("finalize", "provision")),
    (("git", "shellcheck"), ("lint",)),
    (("qemu-img",), ("box.package",)),
    ((*_SSH, "git", *_DISKS), ("box.finalize",)),
    (_IMAGES, ("box.build",)),
    ((*_SSH, *_IMAGES), ("bench", "test", "up")),
)
_PROGRAMS = {name: programs for programs, names in TABLE for name in names}


def require(name: str) -> None:
    """Require that this machine has what a task needs.

    Raises:
        PreflightError: something is missing; the line says how to get it.
    """
    missing = shell.missing(_PROGRAMS[name])
    if not missing:
        return
    lacks = f"{name} needs {', '.join(missing)}"
    if not shell.missing([_APT]):
        packages = " ".join(dict.fromkeys(missing.values()))
        raise PreflightError(f"{lacks}: sudo apt-get install {packages}")
    if _APT in missing:
        raise PreflightError(
            f"{name} needs Debian's tools, which this system lacks: "
            "do it on Debian 12 or 13, or Ubuntu 24.04"
        )
    raise PreflightError(f"{lacks}: install {'it' if len(missing) == 1 else 'them'} first")


@task
def _require(_c: Context, name: str) -> None:
    with exit_on_error():
        require(name)


def check_first(tasks: Collection) -> None:
    """Let each task of a collection first require what the table says."""
    for name in tasks.task_names:
        tasks[name].pre = [call(_require, name)]  # type: ignore[arg-type]
