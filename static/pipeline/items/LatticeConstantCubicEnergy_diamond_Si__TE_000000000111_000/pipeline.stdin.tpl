@< path("LatticeConstantCubicEnergy__TD_000000000101_000") >@
@< MODELNAME >@
Si
28.0855
diamond
5.43
