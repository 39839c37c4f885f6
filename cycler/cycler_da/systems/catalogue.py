"""Every system that a config may name: importing this module registers them."""

from cycler_da.systems import lorenz63, lorenz96, sevir, stochastic_ns, two_layer_qg

__all__ = ["lorenz63", "lorenz96", "sevir", "stochastic_ns", "two_layer_qg"]
