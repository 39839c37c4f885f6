"""Isotropic spectra: Parseval, single waves, mirrored borders, merging."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cycler_da.errors import LayoutMismatch
from cycler_da.verification.spectra import SpectrumSums, shell_power, spectra, spectrum_sums

SPACING = (15625.0, 15625.0)  # m


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((4, 2, 16, 16)), rng.standard_normal((2, 16, 16))


def make_sums(seed: int) -> SpectrumSums:
    return spectrum_sums(*draw(seed), names=("q1", "q2"), spacing=SPACING, periodic=(True, True))


@pytest.mark.parametrize("shape", [(16, 16), (15, 16), (12, 30)])
@pytest.mark.parametrize("periodic", [(True, True), (False, False), (True, False)])
def test_power_of_all_shells_adds_up_to_the_mean_square(shape: tuple[int, int], periodic: tuple[bool, bool]) -> None:
    field = np.random.default_rng(1).standard_normal((3, *shape)) + 2.0
    power = shell_power(field, spacing=(2.0, 1.0), periodic=periodic)
    np.testing.assert_allclose(power.sum(axis=1), (field**2).mean(axis=(1, 2)), rtol=1e-13)


def test_a_single_wave_lies_in_its_own_shell_with_half_its_squared_amplitude() -> None:
    y, x = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    wave = 3.0 * np.cos(2 * np.pi * (3 * x + 4 * y) / 32) + 10.0
    power = shell_power(wave[None], spacing=(1.0, 1.0), periodic=(True, True))[0]
    expected = np.zeros(power.size)
    expected[0], expected[5] = 100.0, 4.5  # |k| = sqrt(3^2 + 4^2)
    np.testing.assert_allclose(power, expected, atol=1e-12)


def test_shells_are_isotropic_on_a_grid_with_different_spacings() -> None:
    # The same wave of 4 cycles per 64 m along y (32 cells of 2 m) and along x (64 cells of 1 m).
    along_y = np.cos(2 * np.pi * 4 * np.arange(32) / 32)[:, None] * np.ones((32, 64))
    along_x = np.cos(2 * np.pi * 4 * np.arange(64) / 64)[None, :] * np.ones((32, 64))
    power = shell_power(np.stack([along_y, along_x]), spacing=(2.0, 1.0), periodic=(True, True))
    np.testing.assert_allclose(power[0], power[1], atol=1e-15)
    assert power[0].argmax() == 4


def test_the_mirror_image_keeps_a_slope_out_of_the_small_scales() -> None:
    slope = np.broadcast_to(np.linspace(-1.0, 1.0, 64), (64, 64))[None]
    jump = shell_power(slope, spacing=(1.0, 1.0), periodic=(True, True))[0]
    mirrored = shell_power(slope, spacing=(1.0, 1.0), periodic=(False, False))[0]
    # Fourier series: a saw-tooth falls off as k^-2 in power, its mirrored triangle as k^-4.
    assert mirrored[16:].sum() < 1e-2 * jump[16:].sum()


def test_a_half_wave_between_walls_is_one_cosine_of_the_mirrored_field() -> None:
    cells = np.arange(32) + 0.5
    field = np.broadcast_to(np.cos(np.pi * 6 * cells / 32), (32, 32))[None]  # 6 half waves: 3 cycles per side
    power = shell_power(field, spacing=(1.0, 1.0), periodic=(False, False))[0]
    assert power[3] == pytest.approx(0.5, rel=1e-12)


def test_error_power_is_that_of_mean_minus_truth_and_members_have_at_least_the_power_of_the_mean() -> None:
    members, truth = draw(2)
    result = spectra(spectrum_sums(members, truth, names=("q1", "q2"), spacing=SPACING, periodic=(True, True)))
    error = members.mean(axis=0) - truth
    expected = shell_power(error, spacing=SPACING, periodic=(True, True))
    np.testing.assert_allclose(result["q2"]["error"], expected[1], rtol=1e-12)
    assert (result["q1"]["members"] >= result["q1"]["mean"]).all()
    np.testing.assert_allclose(result["q1"]["wavenumber"][:3], np.array([0, 1, 2]) / (16 * 15625.0), rtol=1e-15)


def test_merged_spectra_are_means_over_fields_and_survive_json() -> None:
    a, b = make_sums(3), make_sums(4)
    merged = SpectrumSums.from_json(json.loads(json.dumps((a + b).to_json(), allow_nan=False)))
    assert merged == a + b
    mean = (spectra(a)["q1"]["truth"] + spectra(b)["q1"]["truth"]) / 2
    np.testing.assert_allclose(spectra(merged)["q1"]["truth"], mean, rtol=1e-14)


def test_a_nan_in_the_truth_makes_the_error_spectrum_nan() -> None:
    members, truth = draw(5)
    truth[0, 3, 3] = np.nan
    result = spectra(spectrum_sums(members, truth, names=("q1", "q2"), spacing=SPACING, periodic=(True, True)))
    assert np.isnan(result["q1"]["error"]).all()
    assert np.isfinite(result["q1"]["mean"]).all() and np.isfinite(result["q2"]["error"]).all()


def test_fields_without_two_space_axes_and_other_grids_are_refused() -> None:
    with pytest.raises(LayoutMismatch, match="expected"):
        spectrum_sums(np.zeros((3, 1, 8)), np.zeros((1, 8)), names=("z",), spacing=SPACING, periodic=(True, True))
    members, truth = draw(6)
    other = spectrum_sums(members, truth, names=("q1", "q2"), spacing=(1.0, 1.0), periodic=(True, True))
    with pytest.raises(LayoutMismatch, match="shell width"):
        make_sums(6) + other
