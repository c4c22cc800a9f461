"""The table of the parts that a box computes with, and where each can come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploys.settings.names import PackageName
from deploys.settings.part import Part, Source


def _apt_row(location: str) -> Part:
    return Part(source="apt", location=location)


SETUP = "openkim-pipeline-setup"
"""The name of this project below ``setup.hostname``."""
_OWN = Part(source="file")
DEFAULTS = {
    SETUP: _OWN,
    "openkim-api": _apt_row("libkim-api2"),
    "openkim-python": Part(source="pip", location="kimpy"),
    "openkim-kimcalculator-ase": _apt_row("python3-ase"),
    "openkim-repository": _apt_row("openkim-models"),
    "openkim-pipeline": _OWN,
    "ase": _apt_row("python3-ase"),
    "lammps": _apt_row("lammps"),
    "kim-tools": Part(source="none"),
}
LOCKED = ("kimpy", "kim-tools")
"""The projects of pip that a file of this checkout locks: requirements-NAME.txt."""
# The sources that a part can come from; the first is its default.
_SOURCES: dict[str, tuple[Source, ...]] = {
    SETUP: ("file", "git"),
    "openkim-api": ("apt", "git", "file", "none"),
    "openkim-kimcalculator-ase": ("apt", "git", "pip", "file", "none"),
    "openkim-repository": ("apt", "git", "file", "none"),
    "ase": ("apt", "git", "pip", "file", "none"),
    "openkim-python": ("pip", "git", "file", "none"),
    "openkim-pipeline": ("file",),
    "lammps": ("apt", "git", "file", "none"),
    "kim-tools": ("none", "pip"),
}


@dataclass(frozen=True)
class Build:
    """A Debian package that is built here.

    ``replaces`` are Debian's packages whose place it takes, ``needs`` those it depends on. It is
    built only where the box has the parts ``joins`` too. A host does without a ``dispensable``
    one that cannot be built for it.
    """

    replaces: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()
    dispensable: bool = False


BUILT = {
    # One package, as the headers must be of the library's version.
    "openkim-api": Build(("libkim-api2", "libkim-api-dev"), ("libgfortran5", "libstdc++6")),
    "lammps": Build(("lammps",), ("libkim-api2", "libstdc++6")),
    # Debian has the program ase in a package of its own.
    "ase": Build(("python3-ase", "ase"), ("python3-matplotlib", "python3-numpy", "python3-scipy")),
    "openkim-kimcalculator-ase": Build(),
    "openkim-python": Build(
        ("python3-kimpy",),
        ("libkim-api2", "libstdc++6", "python3-numpy"),
        joins=("openkim-api", "ase"),
        dispensable=True,
    ),
    # With the projects of KIM's that it needs, which Debian does not have either.
    "kim-tools": Build(
        needs=(
            *("python3-ase", "python3-jinja2", "python3-matplotlib", "python3-numpy"),
            *("python3-pymatgen", "python3-requests", "python3-scipy", "python3-semver"),
            *("python3-sklearn", "python3-sympy"),
        ),
        joins=("openkim-python",),
    ),
}
"""The parts that become Debian packages when they come from their sources."""
OPTIONAL = tuple(name for name, sources in _SOURCES.items() if "none" in sources)
"""The parts that a box can do without."""


def package_name(part: str) -> str:
    """The name of the package of a part that is built here."""
    return f"pipeline-{part}"


class Stack(BaseModel):
    """The software that a box computes with; a key that a part leaves out has its default."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: name.replace("_", "-"),
        serialize_by_alias=True,
    )

    openkim_pipeline_setup: Part = Field(
        DEFAULTS["openkim-pipeline-setup"],
        description="this project, which a box applies to itself after each reset",
    )
    openkim_api: Part = Field(
        DEFAULTS["openkim-api"],
        description="the KIM API: the library between simulators and models",
    )
    openkim_python: Part = Field(
        DEFAULTS["openkim-python"], description="the KIM API for Python: kimpy"
    )
    openkim_kimcalculator_ase: Part = Field(
        DEFAULTS["openkim-kimcalculator-ase"], description="ASE's calculator for KIM models"
    )
    openkim_repository: Part = Field(
        DEFAULTS["openkim-repository"], description="models, or a repository of items"
    )
    openkim_pipeline: Part = Field(
        DEFAULTS["openkim-pipeline"],
        description="the pipeline's runner: director, worker and commands",
    )
    ase: Part = Field(DEFAULTS["ase"], description="the Atomic Simulation Environment")
    lammps: Part = Field(DEFAULTS["lammps"], description="LAMMPS, the molecular dynamics program")
    kim_tools: Part = Field(
        DEFAULTS["kim-tools"], description="KIM's classes for Test Drivers in Python"
    )
    packages: tuple[PackageName, ...] = Field(
        (), description="Debian packages to install besides the parts"
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, rows: Any) -> Any:
        if not isinstance(rows, dict):
            return rows
        return {name: _completed(name, row) for name, row in rows.items()}

    @model_validator(mode="after")
    def _check(self) -> Stack:
        for name, part in self.parts.items():
            if _SOURCES[name][0] == part.source == "file" and not part.is_own:
                raise ValueError(_wrong_source(name, "another file"))
            pinned = self._pins.get(part.location, "")
            if part.source == "apt" and part.version not in ("", pinned):
                raise ValueError(f"two parts ask for different versions of {part.location}")
            if part.source == "pip" and not part.version and part.location not in LOCKED:
                raise ValueError(f"{name}: no lock file has {part.location}; give a version")
            is_file = part.source == "file" and not DEFAULTS[name].is_own
            if is_file and not part.location.endswith(".tar.gz"):
                raise ValueError(f"{name}: the file must be a .tar.gz of sources")
        for name in self.packages:
            if name in self.replaced:
                raise ValueError(f"packages: a package that is built here replaces {name}")
            if name in map(package_name, BUILT):
                raise ValueError(f"packages: {name} is built here, if its part has a source")
        if self.openkim_pipeline_setup.location and not self.openkim_pipeline_setup.is_relative:
            raise ValueError(f"{SETUP}: location must be relative to setup.hostname")
        return self

    @property
    def parts(self) -> dict[str, Part]:
        """The rows, by the names of the parts."""
        return {name: getattr(self, name.replace("-", "_")) for name in DEFAULTS}

    @property
    def built(self) -> tuple[str, ...]:
        """The parts that are built here as Debian packages."""
        return tuple(
            name
            for name, build in BUILT.items()
            if self.parts[name].source not in ("apt", "none") and self._has(*build.joins)
        )

    @property
    def replaced(self) -> frozenset[str]:
        """Debian's packages that are not installed, as one that is built here takes their place."""
        return frozenset(name for part in self.built for name in BUILT[part].replaces)

    @property
    def from_archive(self) -> tuple[str, ...]:
        """Debian's packages to install: of the rows, of ``packages``, and what built ones need."""
        rows = (part for part in self.parts.values() if part.source == "apt")
        named = [name for part in rows for name in part.location.split()]
        needed = [name for part in self.built for name in BUILT[part].needs]
        found = dict.fromkeys((*named, *needed, *self.packages))
        return tuple(name for name in found if name not in self.replaced)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of Debian's packages that rows pin, by package."""
        return {name: self._pins[name] for name in self._pins if name not in self.replaced}

    @property
    def has_items(self) -> bool:
        """Whether the repository comes as files of items, not as a Debian package."""
        return self.openkim_repository.source in ("git", "file")

    @property
    def has_reference(self) -> bool:
        """Whether LAMMPS can calculate with a model; items alone are not installed as models."""
        return self._has("lammps", "openkim-repository") and not self.has_items

    @property
    def _pins(self) -> dict[str, str]:
        rows = (part for part in self.parts.values() if part.source == "apt")
        return {part.location: part.version for part in rows if part.version}

    def _has(self, *names: str) -> bool:
        return all(self.parts[name].source != "none" for name in names)


def _completed(name: str, row: Any) -> Any:
    """A row as given; one with the default's source takes from the default what it leaves out."""
    default = DEFAULTS.get(name)
    if default is None or not isinstance(row, dict):
        return row
    others = [source for source in get_args(Source) if source not in _SOURCES[name]]
    if row.get("source", default.source) in others:
        raise ValueError(_wrong_source(name, row["source"]))
    if row.get("source", default.source) == default.source:
        return {**default.model_dump(), **row}
    return {"location": name, **row} if row["source"] == "git" or name in LOCKED else row


def _wrong_source(name: str, source: str) -> str:
    own = ("this checkout", *_SOURCES[name][1:])
    sources = " or ".join(own if DEFAULTS[name].is_own else _SOURCES[name])
    return f"{name} cannot come from {source}, only from {sources}"
