@< path("Reach__TD_000000000963_000") >@
@< MODELNAME >@
