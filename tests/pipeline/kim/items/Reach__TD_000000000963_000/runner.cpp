// Reads a Model's name, and prints how far it reaches (Angstrom).
#include <KIM_SimulatorHeaders.hpp>
#include <iostream>
#include <string>

int main()
{
  using namespace KIM;
  std::string name;
  std::cin >> name;
  int accepted;
  Model * model;
  if (Model::Create(NUMBERING::zeroBased, LENGTH_UNIT::A, ENERGY_UNIT::eV, CHARGE_UNIT::e,
                    TEMPERATURE_UNIT::K, TIME_UNIT::ps, name, &accepted, &model))
    return 1;
  double reach;
  model->GetInfluenceDistance(&reach);
  std::cout << reach << "\n";
  Model::Destroy(&model);
  return 0;
}
