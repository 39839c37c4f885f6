"""Every system that a config may name: importing this module registers them."""

from cycler_da.systems import double_well, kolmogorov, lorenz63, lorenz96, sevir, stochastic_ns, two_layer_qg

__all__ = ["double_well", "kolmogorov", "lorenz63", "lorenz96", "sevir", "stochastic_ns", "two_layer_qg"]
