// A driver that knows one species and how far it reaches: enough for a simulator to take it.
#include <KIM_ModelDriverHeaders.hpp>
#include <fstream>
#include <string>

static double reach;
static int const hint = 0;

static int destroy(KIM::ModelDestroy * const) { return 0; }
static int begin(KIM::ModelCompute const * const, KIM::ModelComputeArgumentsCreate * const) { return 0; }
static int end(KIM::ModelCompute const * const, KIM::ModelComputeArgumentsDestroy * const) { return 0; }
static int compute(KIM::ModelCompute const * const, KIM::ModelComputeArguments const * const) { return 0; }

extern "C" {
int reach_create(KIM::ModelDriverCreate * const it, KIM::LengthUnit const, KIM::EnergyUnit const,
                 KIM::ChargeUnit const, KIM::TemperatureUnit const, KIM::TimeUnit const)
{
  using namespace KIM;
  std::string const * folder;
  std::string const * name;
  it->GetParameterFileDirectoryName(&folder);
  if (it->GetParameterFileBasename(0, &name)) return 1;
  std::ifstream file((*folder + "/" + *name).c_str());
  if (!(file >> reach)) return 1;
  it->SetInfluenceDistancePointer(&reach);
  it->SetNeighborListPointers(1, &reach, &hint);
  return it->SetUnits(LENGTH_UNIT::A, ENERGY_UNIT::eV, CHARGE_UNIT::unused, TEMPERATURE_UNIT::unused, TIME_UNIT::unused)
    || it->SetModelNumbering(NUMBERING::zeroBased)
    || it->SetSpeciesCode(SPECIES_NAME::Al, 0)
    || it->SetRoutinePointer(MODEL_ROUTINE_NAME::Destroy, LANGUAGE_NAME::cpp, true, reinterpret_cast<Function *>(destroy))
    || it->SetRoutinePointer(MODEL_ROUTINE_NAME::ComputeArgumentsCreate, LANGUAGE_NAME::cpp, true, reinterpret_cast<Function *>(begin))
    || it->SetRoutinePointer(MODEL_ROUTINE_NAME::ComputeArgumentsDestroy, LANGUAGE_NAME::cpp, true, reinterpret_cast<Function *>(end))
    || it->SetRoutinePointer(MODEL_ROUTINE_NAME::Compute, LANGUAGE_NAME::cpp, true, reinterpret_cast<Function *>(compute));
}
}
