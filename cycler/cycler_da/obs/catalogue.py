"""Every operator and network that a config may name: importing this module registers them."""

from cycler_da.obs import block_mean, networks, nonlinear, points, velocity

__all__ = ["block_mean", "networks", "nonlinear", "points", "velocity"]
