"""Every scheme that a config may name: importing this module registers them."""

from cycler_da.schemes import free_run, interpolant_filter, letkf, observations_only

__all__ = ["free_run", "interpolant_filter", "letkf", "observations_only"]
