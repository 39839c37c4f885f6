"""The stochastic interpolant between a state and its successor, and its identities.

    I_s = alpha x0 + beta x1 + sigma W_s,   W_s ~ N(0, s I),   s in [0, 1]

With the endpoint mean m = E[x1 | I_s = x, x0] (a prime is d/ds)

    drift       b = alpha' x0 + beta' m + (sigma'/sigma) (x - alpha x0 - beta m)
    inverse     m = [sigma b - sigma' x + (sigma' alpha - sigma alpha') x0] / (sigma beta' - sigma' beta)
    score       grad log p(x | x0) = -(x - alpha x0 - beta m) / (s sigma^2)
    covariance  Cov[x1 | I_s, x0] = (s sigma^2 / beta) dm/dx

so a network needs to learn m alone. The signal-to-noise ratio tau = beta^2 / (s sigma^2) turns the same
process into stochastic localisation, U = tau (I_s - alpha x0) / beta (see localisation.py).

Sources: Albergo, Boffi, Vanden-Eijnden (2023), arXiv:2303.08797; Chen et al. (2024), arXiv:2403.13724
(probabilistic forecasting, Foellmer processes); Chen et al. (2025), FlowDAS, for alpha = 1-s, beta = s^2.
Known limit: the inverse is 0/0 at s = 0 where beta' = 0; predict m instead of b there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Interpolant:
    """Coefficients alpha = 1 - s, beta = s^beta_power, sigma = noise_scale (1 - s).

    `beta_power` 2 is FlowDAS, 1 the other usual choice; `noise_scale` has the units of the state.
    """

    beta_power: int = 2
    noise_scale: float = 1.0

    def alpha(self, s: float) -> float:
        """Weight of the start."""
        return 1.0 - s

    def beta(self, s: float) -> float:
        """Weight of the end."""
        return s**self.beta_power

    def sigma(self, s: float) -> float:
        """Scale of the Brownian motion."""
        return self.noise_scale * (1.0 - s)

    def foellmer(self, s: float) -> float:
        """Diffusion of the Foellmer process: g^2 = 2 s sigma (sigma beta'/beta - sigma') - sigma^2."""
        sigma = self.sigma(s)
        return (2.0 * sigma * (self.beta_power * sigma + s * self.noise_scale) - sigma**2) ** 0.5

    def slopes(self, s: float) -> tuple[float, float, float]:
        """Derivatives (alpha', beta', sigma')."""
        return -1.0, self.beta_power * s ** (self.beta_power - 1), -self.noise_scale

    def snr(self, s: float) -> float:
        """tau = beta^2 / (s sigma^2): 0 at the start, infinite at the end."""
        return self.beta(s) ** 2 / (s * self.sigma(s) ** 2)

    def drift(self, s: float, x: Float[Tensor, ...], start: Tensor, endpoint_mean: Tensor) -> Tensor:
        """Drift b of the SDE dX = b ds + sigma dW from the endpoint mean; needs s < 1."""
        da, db, dsig = self.slopes(s)
        rest = x - self.alpha(s) * start - self.beta(s) * endpoint_mean
        return da * start + db * endpoint_mean + dsig / self.sigma(s) * rest

    def endpoint_mean(self, s: float, x: Float[Tensor, ...], start: Tensor, drift: Tensor) -> Tensor:
        """Endpoint mean from the drift; needs 0 < s < 1."""
        da, db, dsig = self.slopes(s)
        alpha, beta, sigma = self.alpha(s), self.beta(s), self.sigma(s)
        upper = sigma * drift - dsig * x + (dsig * alpha - sigma * da) * start
        return upper / (sigma * db - dsig * beta)

    def score(self, s: float, x: Float[Tensor, ...], start: Tensor, endpoint_mean: Tensor) -> Tensor:
        """Gradient of log p(I_s = x | x0); needs 0 < s < 1."""
        return -(x - self.alpha(s) * start - self.beta(s) * endpoint_mean) / (s * self.sigma(s) ** 2)

    def to_localisation(self, s: float, x: Float[Tensor, ...], start: Tensor) -> tuple[float, Tensor]:
        """(tau, U) of a point on the path, U = tau (x - alpha x0) / beta."""
        tau = self.snr(s)
        return tau, tau * (x - self.alpha(s) * start) / self.beta(s)

    def from_localisation(self, s: float, u: Float[Tensor, ...], start: Tensor) -> Tensor:
        """Point on the path whose localisation at tau(s) is U."""
        return self.alpha(s) * start + self.beta(s) * u / self.snr(s)
