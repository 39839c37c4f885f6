"""Every operator and network that a config may name: importing this module registers them."""

from cycler_da.obs import networks, nonlinear, points

__all__ = ["networks", "nonlinear", "points"]
