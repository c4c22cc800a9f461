"""Where the parts of a box come from, as its manifest says it."""

from __future__ import annotations

from collections.abc import Mapping

from deploys.settings.stack import BUILT, DEFAULTS, package_name

Rows = Mapping[str, Mapping[str, str]]


def provenance(
    rows: Rows, commit: str, packages: Mapping[str, str], built: Mapping[str, Mapping[str, str]]
) -> dict[str, object]:
    """The source and the exact version of each part of a box, for its manifest.

    Args:
        rows: of the stack, in the settings.
        commit: of this project.
        packages: all that are installed, with versions.
        built: the packages that were built here, as in ``deploys.facts.manifest.System``.
    """
    versions = {name.partition(":")[0]: version for name, version in packages.items()}
    replacing = {package_name(part): build.replaces for part, build in BUILT.items()}

    def found(name: str, row: Mapping[str, str]) -> dict[str, object]:
        source = {"source": row["source"]}
        if DEFAULTS[name].is_own:
            return {**source, "commit": commit}
        if row["source"] == "apt":
            names = {*row["location"].split()}
            # A package that is built for another row may take this one's place.
            names |= {ours for ours, theirs in replacing.items() if not names.isdisjoint(theirs)}
            had = {name: versions[name] for name in sorted(names) if name in versions}
            return {**source, "packages": had}
        if name in BUILT:
            return dict(built.get(package_name(name), {"source": "none"}))
        pins = {"commit" if row["source"] == "git" else "version": row.get("version", "")}
        pins["sha256"] = row.get("sha256", "")
        return {**source, **{key: value for key, value in pins.items() if value}}

    return {name: found(name, row) for name, row in rows.items() if name in DEFAULTS}
