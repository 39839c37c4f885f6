"""Every operator and network that a config may name: importing this module registers them."""

from cycler_da.obs import (
    block_maximum,
    block_mean,
    layer_velocity,
    networks,
    nonlinear,
    points,
    radar_network,
    speed,
    velocity,
)

__all__ = [
    "block_maximum",
    "block_mean",
    "layer_velocity",
    "networks",
    "nonlinear",
    "points",
    "radar_network",
    "speed",
    "velocity",
]
