"""Install the runner: the pipeline's commands, and the units of director and worker.

Every box has them, so that ``secure`` can give any box a role together with its credentials. Here
no unit is enabled: ``runsecure`` starts those of the box's role.
"""

from __future__ import annotations

from pathlib import Path

from pyinfra.api.deploy import deploy
from pyinfra.operations import files

from deploys.operations import onbox, packages, services
from deploys.operations.onbox import OnboxFile
from deploys.settings import Settings
from deploys.stack.bundle import PYTHON_PATH

PACKAGES = (
    *("bubblewrap", "python3-seccomp"),  # for people who run pairs without root
    *("dbus", "e2fsprogs", "libpq5", "openssh-client", "python3", "rsync", "units"),
)

HOME = "/usr/lib/pipeline-runner"
CONFIG = "/etc/pipeline/pipeline.toml"
DIRECTOR = "pipeline-director.service"
WORKER = "pipeline-worker@.service"
UNITS = (DIRECTOR, WORKER)
_PACKAGE = Path(__file__).resolve().parents[2] / "static" / "pipeline"
# The commands, each with its function in kimpipeline.commands.
COMMANDS = {
    "pipeline-director": "director",
    "pipeline-generate": "generate",
    "pipeline-items": "items",
    "pipeline-run-matches": "run_matches",
    "pipeline-run-pair": "run_pair",
    "pipeline-verify": "verify",
    "pipeline-worker": "worker",
}
_START = f"""\
#!/usr/bin/python3 -I
import sys

sys.path[:0] = ["{HOME}", "{PYTHON_PATH}"]
from kimpipeline.commands import {{0}}

sys.exit({{0}}())
"""


@deploy("Runner")
def runner(settings: Settings) -> None:
    """Install the commands, their settings and the units. ``/persistent`` must be mounted."""
    packages.present(name="Install what the runner needs", packages=PACKAGES)
    for path in ("/persistent/pipeline", "/persistent/pipeline/items"):
        files.directory(name=f"Folder {path}", path=path, mode="755", user="root", group="root")
    found = onbox.files(name="Files of the runner", sources=sources(settings))
    if found.will_change:
        # A worker may not write there, and would start more slowly after each reset.
        onbox.byte_compiled(name="Compile the runner", path=HOME)
        services.reloaded(name="Reload the runner", units=(DIRECTOR, "pipeline-worker@*.service"))


def sources(settings: Settings) -> dict[str, OnboxFile]:
    """The files of the runner, by their paths on the box."""
    drop_in = (f"{DIRECTOR}.d",) if settings.role == "gateway" else ()
    units = onbox.tree(*(f"etc/systemd/system/{unit}" for unit in (*UNITS, *drop_in)))
    commands = {
        f"/usr/bin/{name}": OnboxFile(_START.format(function).encode(), 0o755)
        for name, function in COMMANDS.items()
    }
    modules = {
        f"{HOME}/{file.relative_to(_PACKAGE)}": OnboxFile(file.read_bytes())
        for file in sorted((_PACKAGE / "kimpipeline").rglob("*.py"))
    }
    completion = OnboxFile((_PACKAGE / "completions/pipeline").read_bytes())
    return {
        **units,
        **commands,
        **modules,
        "/etc/bash_completion.d/pipeline": completion,
        CONFIG: OnboxFile(config(settings).encode()),
    }


def config(settings: Settings) -> str:
    """The content of the settings file of the commands and services. It has no secrets."""
    limits = settings.jobs
    lines = [
        "# Written by provision; each value has a default, in",
        f"# {HOME}/kimpipeline/settings.py.",
    ]
    if settings.role == "gateway":
        lines += ["[queue]", 'host = "/run/postgresql"']
        lines += ["[folders]", 'items = "/srv/pipeline/items"']
    else:
        ssh = '["ssh", "-F", "/etc/pipeline/ssh_config"]'
        lines += ["[remote]", 'items = "gateway:"', 'results = "gateway:"', f"ssh = {ssh}"]
    lines += ["[limits]", f"seconds = {limits.seconds}", f"memory = {limits.memory}"]
    lines += [f"disk = {limits.disk}"]
    return "\n".join(lines) + "\n"
