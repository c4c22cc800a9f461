"""The real package of kim-tools: a driver that is a subclass of its class runs, without network."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploys.settings.stack import BUILT
from kimpipeline.kim import results
from tasks.debian import archive, cage
from tasks.desk.flags import load
from tasks.stack import packages
from tasks.stack.sources import Sources
from tests.pipeline import world

DRIVER = f"""
from ase.build import bulk
from ase.calculators.lj import LennardJones
from kim_tools import KIMTestDriver

class Energy(KIMTestDriver):
    def _setup(self, material):
        self._atoms = material

    def _calculate(self):
        atoms = self._atoms
        atoms.calc = self._calc
        energy = -atoms.get_potential_energy() / len(atoms)
        self._add_property_instance({world.PROPERTY!r})
        for name, value, *unit in (
            ("short-name", ["fcc"]),
            ("species", ["Ar"] * 4),
            ("a", 5.26, "angstrom"),
            ("basis-atom-coordinates", atoms.get_scaled_positions()),
            ("cohesive-potential-energy", energy, "eV"),
        ):
            self._add_key_to_current_property_instance(name, value, *unit)

driver = Energy(LennardJones(sigma=3.4, epsilon=0.0104, rc=10, smooth=True))
driver(bulk("Ar", "fcc", 5.26, cubic=True))
driver.write_property_instances_to_file()
"""


@pytest.mark.long
def test_a_test_driver_of_kim_tools_computes(loop_disk: str, tmp_path: Path) -> None:
    """With what the row brings, and Debian's packages that it asks for, alone."""
    assert loop_disk  # it skips where there is no root
    found = archive.read("trixie", tmp_path)
    sources = Sources.of(load(None, ["stack.kim-tools.source=pip"]), "kim-tools")
    package = packages.built(sources, found, "trixie", tmp_path / "made", print)
    work = tmp_path / "work"
    work.mkdir()
    (work / "kim-tools.deb").write_bytes(package.read_bytes())
    (work / "driver.py").write_text(DRIVER)
    script = "dpkg-deb -x kim-tools.deb root; export HOME=$PWD\n"
    script += "PYTHONPATH=$PWD/root/usr/lib/python3/dist-packages python3 driver.py\n"
    script += "mkdir out; cp output/results.edn out/"
    cage.run_in_tree(found.tree("trixie", BUILT["kim-tools"].needs), work, script)
    instance = results.check(work / "out/results.edn", (world.PROPERTY,))
    assert instance["cohesive-potential-energy"]["source-value"] == pytest.approx(0.08, abs=0.02)
