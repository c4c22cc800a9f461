@< path("LatticeConstantCubicEnergy__TD_000000000101_000") >@
@< MODELNAME >@
Al
26.9815
fcc
4.05
