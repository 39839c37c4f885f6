"""Networks behind one protocol: scaled fields in, scaled increments out."""

from cycler_da.generative.networks.base import NetworkSpec, build_network
from cycler_da.generative.networks.spectral import QuadraticSpectralNet

__all__ = ["NetworkSpec", "QuadraticSpectralNet", "build_network"]
