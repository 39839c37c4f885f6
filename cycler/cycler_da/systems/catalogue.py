"""Every system that a config may name: importing this module registers them."""

from cycler_da.systems import sevir, two_layer_qg

__all__ = ["sevir", "two_layer_qg"]
