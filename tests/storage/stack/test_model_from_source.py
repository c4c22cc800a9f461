"""A model built from its sources with what docs/stack.md says a devel box needs, and then used."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tasks.debian import archive, bootstrap
from tasks.desk import loop
from tasks.desk.flags import load
from tasks.desk.places import ROOT
from tests.storage.trees import run_in_tree

# In the tree: KIM's example of a model in C++, by another name so that no package's is found.
_SCRIPT = """
export HOME=/root
name=OurArgon
mkdir out "$HOME/$name"
cd "$HOME"
from=/usr/share/doc/libkim-api-dev/examples/portable-models/LennardJones_Ar
sed "s/project(LennardJones_Ar /project($name /" "$from/CMakeLists.txt" >"$name/CMakeLists.txt"
cp "$from/LennardJones_Ar.cpp" "$name/$name.cpp"
{user}
kim-api-collections-management list >/work/out/list
g++ -I/usr/include/kim-api /work/use.cpp -lkim-api -o use
./use "$name" >/work/out/cutoff
kim-api-collections-management remove --force "$name"
if ./use "$name"; then exit 1; fi
{system}
./use "$name" >>/work/out/cutoff
"""
_USE = """
#include "KIM_SimulatorHeaders.hpp"
#include <iostream>

int main(int, char **argv) {
  int accepted = 0;
  KIM::Model *model = nullptr;
  if (KIM::Model::Create(KIM::NUMBERING::zeroBased, KIM::LENGTH_UNIT::A, KIM::ENERGY_UNIT::eV,
          KIM::CHARGE_UNIT::e, KIM::TEMPERATURE_UNIT::K, KIM::TIME_UNIT::ps, argv[1], &accepted,
          &model))
    return 1;
  double cutoff = 0;
  model->GetInfluenceDistance(&cutoff);
  std::cout << cutoff << std::endl;
  KIM::Model::Destroy(&model);
}
"""


def documented(start: str) -> list[str]:
    """The lines of code that begin with this, where docs/stack.md tells how to build a model."""
    text = (ROOT / "docs/stack.md").read_text().partition("## A model from its sources\n")[2]
    lines = (line.strip() for line in text.splitlines())
    return [line.partition("  #")[0].strip() for line in lines if line.startswith(start)]


@pytest.mark.long
def test_the_documented_commands_build_a_model(loop_disk: str, tmp_path: Path) -> None:
    assert loop_disk  # it skips where there is no root
    loop.require_root("making a tree")
    (line,) = documented("bin/fab")
    stack = load(None, shlex.split(line)[-1:]).stack
    packages = (*stack.packages, *stack.openkim_api.location.split())
    (command,) = documented("kim-api-collections-management install user")
    work = tmp_path / "work"
    work.mkdir()
    (work / "use.cpp").write_text(_USE)
    found = archive.read("trixie", tmp_path)
    tree = bootstrap.Tree(
        suite="trixie",
        packages=(*packages, "libkim-api-doc"),
        mirror=found.lines,
        apt_options=found.options,
        lists=False,
    )
    run_in_tree(
        tree, work, _SCRIPT.format(user=command, system=command.replace(" user ", " system "))
    )
    assert "OurArgon" in (work / "out/list").read_text()
    assert (work / "out/cutoff").read_text() == "8.15\n8.15\n"
