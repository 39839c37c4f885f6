"""Random rotations of an ensemble that keep its mean and covariance.

    Omega = 1 1^T / N + U Q U^T,   U an orthonormal basis of the space orthogonal to 1, Q uniform on O(N - 1)
so that Omega 1 = 1 and Omega Omega^T = I. Members that carry all of one direction (outliers, which a symmetric
root keeps for ever in a nonlinear system) are mixed with the others.
Sources: Sakov and Oke (2008), Mon. Wea. Rev. 136, 1042-1053; Q: Mezzadri (2007), Notices AMS 54, 592.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.noise import Noise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def rotate(members: Float[Tensor, "member *state"], *, noise: Noise, stream: str) -> Float[Tensor, "member *state"]:
    """Rotate the anomalies at random; float64 inside, dtype kept."""
    x = members.to(torch.float64).flatten(1)
    mean = x.mean(dim=0)
    omega = random_rotation(len(members), noise=noise, stream=stream).to(x.device)
    return (mean + omega @ (x - mean)).view(members.shape).to(members.dtype)


def random_rotation(n_members: int, *, noise: Noise, stream: str) -> Float[Tensor, "member member"]:
    """Draw Omega, float64."""
    n = n_members - 1
    q, r = torch.linalg.qr(noise.shared_normal(stream, (n, n), dtype=torch.float64))
    q = q * r.diagonal().sign()  # makes the draw uniform: QR alone prefers some signs
    u = complement_of_ones(n_members)
    return u @ q @ u.mT + 1 / n_members


def complement_of_ones(n: int) -> Float[Tensor, "n m"]:
    """An orthonormal basis of the vectors of sum zero: the Helmert contrasts, as columns."""
    rows = torch.ones((n - 1, n), dtype=torch.float64).tril()
    count = torch.arange(1, n, dtype=torch.float64)
    rows[torch.arange(n - 1), torch.arange(1, n)] = -count
    return (rows / (count * (count + 1)).sqrt()[:, None]).mT
