"""Networks behind one protocol: scaled fields in, scaled increments out."""

from cycler_da.generative.networks.base import NetworkSpec, build_network
from cycler_da.generative.networks.mlp import Mlp
from cycler_da.generative.networks.spectral import QuadraticSpectralNet
from cycler_da.generative.networks.unet import UNet

__all__ = ["Mlp", "NetworkSpec", "QuadraticSpectralNet", "UNet", "build_network"]
