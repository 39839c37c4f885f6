"""Every scheme that a config may name: importing this module registers them."""

from cycler_da.schemes import (
    auxiliary_particle,
    enkf,
    ensf,
    envar,
    etkf,
    flowdas,
    free_run,
    interpolant_filter,
    letkf,
    local_particle,
    nudging,
    observations_only,
    optimal_particle,
    particle,
    var3d,
)

__all__ = [
    "auxiliary_particle",
    "enkf",
    "ensf",
    "envar",
    "etkf",
    "flowdas",
    "free_run",
    "interpolant_filter",
    "letkf",
    "local_particle",
    "nudging",
    "observations_only",
    "optimal_particle",
    "particle",
    "var3d",
]
