"""Calculates with ASE and kimpy what silicon.lmp calculates: the same Model, the same line."""

from ase.build import bulk
from ase.calculators.kim import KIM
from scipy.optimize import brentq

MODEL = "SW_StillingerWeber_1985_Si__MO_405512056662_005"


def crystal(a):
    """Diamond silicon of lattice constant ``a`` (Angstrom), two atoms a cell."""
    atoms = bulk("Si", "diamond", a=a)
    atoms.calc = CALCULATOR
    return atoms


def tension(a):
    """The mean normal stress (eV/Angstrom^3), which is zero at the least energy."""
    return crystal(a).get_stress()[:3].mean()


CALCULATOR = KIM(MODEL)
constant = brentq(tension, 5.3, 5.6, xtol=1e-10)
atoms = crystal(constant)
print(f"a = {constant:.6f} A, E = {atoms.get_potential_energy() / len(atoms):.6f} eV/atom")
