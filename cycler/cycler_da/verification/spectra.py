"""Isotropic power spectra of the truth, the ensemble mean, the members and the error, as mergeable sums.

With the discrete Fourier transform f_hat of a field on N cells, the power of a wave vector is
|f_hat|^2 / N^2, and the spectrum of shell j collects the wave vectors with

    (j - 1/2) dk < |k| <= (j + 1/2) dk,      dk = 1 / (shortest side of the domain)

in cycles per unit of the axes. So the sum over all shells is the mean square of the field (Parseval), shell 0
is the square of its mean, and the spectrum of the error says at which scales the skill is. Along an axis that
is not periodic the field is first continued by its mirror image, which is the discrete cosine transform of
Denis et al. (2002, MWR 130, 1812): no jump at the border leaks power into the small scales. Waves of half a
cycle per side then exist and go to the nearest shell.

Limits: two space axes; no mask (a field with NaN has a NaN spectrum).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.errors import LayoutMismatch
from cycler_da.verification.totals import Totals, as_totals, stored_as

if TYPE_CHECKING:
    from jaxtyping import Float

_FORMAT = "cycler spectrum sums 1"


@dataclass(frozen=True)
class SpectrumSums:
    """Sums over fields of shell power; add them with `+`. Statistics: truth, mean, members, error (units^2)."""

    n_fields: int
    shell_width: float  # cycles per unit of the axes
    totals: Totals

    def __add__(self, other: SpectrumSums) -> SpectrumSums:
        """Merge; raises LayoutMismatch when shells or variables differ."""
        if self.shell_width != other.shell_width:
            raise LayoutMismatch(
                f"cannot merge spectra: shell width is {other.shell_width}, expected {self.shell_width}"
            )
        return SpectrumSums(self.n_fields + other.n_fields, self.shell_width, self.totals + other.totals)

    def to_json(self) -> dict[str, Any]:
        """Plain objects for strict JSON; `from_json` gives back the same bits."""
        return {
            "format": _FORMAT,
            "n_fields": self.n_fields,
            "shell_width": self.shell_width,
            "totals": self.totals.to_json(),
        }

    @staticmethod
    def from_json(description: Mapping[str, Any]) -> SpectrumSums:
        """Read what `to_json` wrote; raises DataError for anything else."""
        with stored_as(_FORMAT, description):
            totals = Totals.from_json(description["totals"])
            return SpectrumSums(int(description["n_fields"]), float(description["shell_width"]), totals)


def spectrum_sums(
    members: Float[np.ndarray, "member channel y x"],
    truth: Float[np.ndarray, "channel y x"],
    *,
    names: Sequence[str],
    spacing: tuple[float, float],
    periodic: tuple[bool, bool],
) -> SpectrumSums:
    """Reduce one field to shell power for each variable.

    `spacing` and `periodic` are those of the axes (y, x). One member is a deterministic forecast. The power of
    the members is the average over members. Raises LayoutMismatch for shapes that do not fit.
    """
    if members.ndim != 4 or members.shape[1:] != truth.shape or len(names) != truth.shape[0]:
        raise LayoutMismatch(
            f"cannot make spectra: members have shape {members.shape}, truth {truth.shape}, names {tuple(names)}; "
            "expected (member, channel, y, x), (channel, y, x) and one name for each channel"
        )
    totals = {}
    for channel, name in enumerate(names):
        ensemble = members[:, channel].astype(np.float64)
        mean, actual = ensemble.mean(axis=0), truth[channel].astype(np.float64)
        stack = np.concatenate([np.stack([actual, mean, mean - actual]), ensemble])
        power = shell_power(stack, spacing=spacing, periodic=periodic)
        parts = {"truth": power[0], "mean": power[1], "error": power[2], "members": power[3:].mean(axis=0)}
        totals[name] = {statistic: as_totals(values) for statistic, values in parts.items()}
    return SpectrumSums(1, _shell_width(truth.shape[-2:], spacing), Totals(totals))


def spectra(sums: SpectrumSums) -> dict[str, dict[str, np.ndarray]]:
    """Mean power by variable: wavenumber (cycles per axis unit), truth, mean, members, error (units^2)."""
    result = {}
    for name in sums.totals.values:
        mean = {statistic: total / sums.n_fields for statistic, total in sums.totals.of(name).items()}
        result[name] = {"wavenumber": sums.shell_width * np.arange(mean["truth"].size)} | mean
    return result


def shell_power(
    fields: Float[np.ndarray, "field y x"], *, spacing: tuple[float, float], periodic: tuple[bool, bool]
) -> Float[np.ndarray, "field shell"]:
    """Power of each field in isotropic shells; the sum over shells is the mean square of the field."""
    width = _shell_width(fields.shape[-2:], spacing)
    for axis, is_periodic in zip((-2, -1), periodic, strict=True):
        if not is_periodic:
            fields = np.concatenate([fields, np.flip(fields, axis=axis)], axis=axis)
    n_y, n_x = fields.shape[-2:]
    power = np.abs(np.fft.fft2(fields) / (n_y * n_x)) ** 2
    k_y, k_x = np.fft.fftfreq(n_y, d=spacing[0]), np.fft.fftfreq(n_x, d=spacing[1])
    # Rounded first, so that a wave on the border of two shells falls into the lower one on every machine.
    distance = np.round(np.hypot(k_y[:, None], k_x[None, :]) / width, 9)
    shell = np.ceil(distance - 0.5).astype(int).ravel()
    return np.stack([np.bincount(shell, weights=one.ravel()) for one in power])


def _shell_width(shape: tuple[int, ...], spacing: tuple[float, float]) -> float:
    return 1.0 / min(size * step for size, step in zip(shape, spacing, strict=True))
