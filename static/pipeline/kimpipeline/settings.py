"""What a runner is told: typed, frozen, from one TOML file; every value has a default."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kimpipeline.errors import PipelineError

FILE = Path("/etc/pipeline/pipeline.toml")
VARIABLE = "KIMPIPELINE_SETTINGS"
MIB, GIB = 2**20, 2**30

# What rsync takes before a KIM id or a job id: "host:", or a folder with a slash at its end. Not
# an option, and nothing that a shell at the other end could take for more than a path.
Place = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9_.@-]*[A-Za-z0-9]:([A-Za-z0-9_./-]*/)?|/(.*/)?)$")
]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QueueSettings(Section):
    """beanstalkd, at this machine's end of the tunnel."""

    host: str = "127.0.0.1"
    port: int = Field(14177, ge=1, le=65535)
    ttr: int = Field(120, ge=3, le=3600, description="seconds after which silence frees a job")
    largest: int = Field(60_000, ge=60_000, description="bytes of a message; see beanstalkd's -z")
    reach: float = Field(10, ge=0, description="s in which a service tries to reach it")
    patience: int = Field(2, ge=1, description="s that a service waits before it looks around")
    lives: int = Field(3, ge=1, description="workers that a job may end before it is buried")


class Remote(Section):
    """Where items come from and results go to, by rsync."""

    items: Place | None = Field(None, description="as pipeline@gateway: ; none: all are here")
    results: Place = "/persistent/pipeline/results/"
    rsync: str = "rsync"
    ssh: tuple[str, ...] = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20")
    timeout: int = Field(600, ge=1, description="seconds for one transfer")


class Folders(Section):
    """On this machine."""

    items: Path = Path("/persistent/pipeline/items")
    work: Path = Path("/var/tmp/pipeline")  # noqa: S108 - each worker makes its own folder there
    ledger: Path = Path("/persistent/pipeline/director.sqlite")
    # no folder: where it is there, no worker takes another job (/usr/lib/resnap/pressure)
    drain: Path = Path("/run/resnap/drain")
    # of the KIM API, as Debian lays it; a model is installed if one of these holds its name
    models: tuple[str, ...] = (
        "/usr/lib/*/kim-api/portable-models",
        "/usr/lib/*/kim-api/simulator-models",
    )


class Limits(Section):
    """Of one job."""

    seconds: float = Field(3600, gt=0)
    memory: int = Field(4 * GIB, ge=16 * MIB, description="bytes")
    processes: int = Field(64, ge=4)
    disk: int = Field(GIB, ge=MIB, description="bytes, of all that it writes and prints")


class Settings(Section):
    queue: QueueSettings = QueueSettings()
    remote: Remote = Remote()
    folders: Folders = Folders()
    limits: Limits = Limits()
    sandbox: Literal["auto", "systemd", "bubblewrap"] = "auto"
    job_user: str = Field("nobody", description="whom root runs jobs as")


def load(file: Path | None = None) -> Settings:
    """Settings from ``file``, else from $KIMPIPELINE_SETTINGS, else /etc/pipeline/pipeline.toml.

    Only the last of these may be missing.

    Raises:
        PipelineError: the file cannot be read, or has a setting that is unknown or out of range.
    """
    named = file or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    path = named or FILE
    if named is None and not path.exists():
        return Settings()
    try:
        return Settings.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise PipelineError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PipelineError(f"{path}: {where}: {first['msg']}") from error
