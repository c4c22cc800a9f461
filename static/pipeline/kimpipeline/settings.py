"""The runner's settings, read from one TOML file; every value has a default."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kimpipeline.errors import PipelineError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found] # of a box

FILE = Path("/etc/pipeline/pipeline.toml")
VARIABLE = "KIMPIPELINE_SETTINGS"
MIB, GIB = 2**20, 2**30

# What rsync gets, with a KIM id or a job id after it: "host:", "host:folder/" or a local folder,
# with a slash at its end. It cannot be an option, and a remote shell reads it as a path only.
Place = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9_.@-]*[A-Za-z0-9]:([A-Za-z0-9_./-]*/)?|/(.*/)?)$")
]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QueueSettings(Section):
    """Where PostgreSQL is (on a worker: this end of the tunnel), and how long to wait for it."""

    host: str = Field("/run/pipeline/queue", description="folder of its socket, or a host's name")
    port: int = Field(5432, ge=1, le=65535)
    user: str | None = Field(None, description="this box's name there; none: this user's")
    ttr: int = Field(
        120, ge=3, le=3600, description="seconds of silence after which a job is freed"
    )
    reach: float = Field(10, ge=0, description="seconds for which a service tries to connect")
    patience: int = Field(2, ge=1, description="seconds of one wait for a job or an update")


class Remote(Section):
    """Where items come from and where results go, by rsync."""

    items: Place | None = Field(None, description="as pipeline@gateway: ; none: all are local")
    results: Place = "/persistent/pipeline/results/"
    rsync: str = "rsync"
    ssh: tuple[str, ...] = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20")
    timeout: int = Field(600, ge=1, description="seconds for one transfer")


class Folders(Section):
    """Paths on this machine."""

    items: Path = Path("/persistent/pipeline/items")
    work: Path = Path("/var/tmp/pipeline")  # noqa: S108 - each worker makes its own folder there
    # while this file exists, workers take no new job (/usr/lib/resnap/pressure)
    drain: Path = Path("/run/resnap/drain")
    # where Debian's KIM API keeps models and their drivers, each installed under its name
    models: tuple[str, ...] = (
        "/usr/lib/*/kim-api/portable-models",
        "/usr/lib/*/kim-api/simulator-models",
    )
    drivers: tuple[str, ...] = ("/usr/lib/*/kim-api/model-drivers",)


class Limits(Section):
    """Limits of one job."""

    seconds: float = Field(3600, gt=0)
    memory: int = Field(4 * GIB, ge=16 * MIB, description="bytes")
    processes: int = Field(64, ge=4)
    disk: int = Field(GIB, ge=MIB, description="bytes of all that it writes and prints")


class Settings(Section):
    queue: QueueSettings = QueueSettings()
    remote: Remote = Remote()
    folders: Folders = Folders()
    limits: Limits = Limits()
    sandbox: Literal["auto", "systemd", "bubblewrap"] = "auto"


def load(file: Path | None = None) -> Settings:
    """Read ``file``, else $KIMPIPELINE_SETTINGS, else /etc/pipeline/pipeline.toml.

    Only the last of these may be missing; then every value is its default.

    Raises:
        PipelineError: the file cannot be read, or a setting is unknown or out of range.
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
