"""Networks behind one protocol: scaled fields in, scaled increments out."""

from cycler_da.generative.networks.base import ConditionedNetwork, MeanAndRoot, NetworkSpec, build_network
from cycler_da.generative.networks.bridge_unet import BridgeUNet
from cycler_da.generative.networks.conditioned_ring import ConditionedRingNet
from cycler_da.generative.networks.fno import FourierNeuralOperator
from cycler_da.generative.networks.incompressible import IncompressibleSpectralNet
from cycler_da.generative.networks.mlp import Mlp
from cycler_da.generative.networks.quadratic_ring import QuadraticRingNet
from cycler_da.generative.networks.residual_mlp import ResidualMlp
from cycler_da.generative.networks.spectral import QuadraticSpectralNet
from cycler_da.generative.networks.two_head_ring import TwoHeadRing
from cycler_da.generative.networks.unet import UNet
from cycler_da.generative.networks.window_temporal import WindowTemporal
from cycler_da.generative.networks.window_unet import WindowUNet

__all__ = [
    "BridgeUNet",
    "ConditionedNetwork",
    "ConditionedRingNet",
    "FourierNeuralOperator",
    "IncompressibleSpectralNet",
    "MeanAndRoot",
    "Mlp",
    "NetworkSpec",
    "QuadraticRingNet",
    "QuadraticSpectralNet",
    "ResidualMlp",
    "TwoHeadRing",
    "UNet",
    "WindowTemporal",
    "WindowUNet",
    "build_network",
]
