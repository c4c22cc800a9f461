@< path("LatticeConstantCubicEnergy__TD_000000000101_000") >@
@< MODELNAME >@
Ar
39.948
fcc
5.26
