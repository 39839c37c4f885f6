"""MASF for fields: states with what is seen of them as more channels, as a mask bridge or as the published mixture.

Exact heads: with h = c x in every cell the longer state is Gaussian, and Bayes is known. Untrained networks: regression
of the state on h with the climate's covariances. Heads of the mixture: `test_masf_mixed_fields`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cycler_da.bench.masf_exact import Gaussian, bridge_moments
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError, LayoutMismatch, WeightsMismatch
from cycler_da.generative.bridge_denoiser import NetworkDenoiser, bound_denoiser
from cycler_da.generative.cell_interpolation import cell_interpolation
from cycler_da.generative.covariance import blocks_from_residuals, spectral_from_blocks
from cycler_da.generative.mixed_denoiser import MixedDenoiser
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.observed_bridge import load_observed_bridge, longer_states
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.fields import seen_everywhere
from cycler_da.obs.nonlinear import SigmoidSpec
from cycler_da.obs.points import CellSpec
from cycler_da.registry import read_strictly
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.frame.field_bridge import scaled_longer
from cycler_da.schemes.frame.fine_tuning import FineTuneSpec
from cycler_da.schemes.masf import MasfSpec
from cycler_da.schemes.masf_two_heads import MasfTwoHeadsSpec
from cycler_da.training_run import TrainConfig, read_train_config, run_training

TIME = np.array(["2020-01-01T12:00:00"], "datetime64[s]")


def test_the_bridge_of_states_beside_what_is_seen_of_them_converges_to_bayes():
    n, c, r = 12, 0.5, 0.04
    place = torch.arange(n, dtype=torch.float64)
    apart = torch.minimum((place[:, None] - place).abs(), n - (place[:, None] - place).abs())
    prior = torch.exp(-((apart / 2.0) ** 2))
    joint = torch.cat([torch.cat([prior, c * prior], dim=1), torch.cat([c * prior, c**2 * prior], dim=1)])
    mask = torch.zeros(2 * n, dtype=torch.float64)
    mask[n::4] = 1.0
    problem = Gaussian(torch.zeros(2 * n, dtype=torch.float64), joint, mask, r)
    z = torch.zeros(2 * n, dtype=torch.float64)
    z[n], errors = 1.0, []
    gain, exact = problem.posterior()
    for n_steps in (30, 60, 120):
        mean, covariance = bridge_moments(problem, n_steps, z)
        torch.testing.assert_close(mean[:n], gain[:n, n], rtol=0, atol=1e-9)
        errors.append(float((covariance - exact)[:n, :n].norm() / exact[:n, :n].norm()))
    assert errors[1] / errors[2] == pytest.approx(2.0, abs=0.3)  # first order in the noise of the steps
    assert errors[2] < 0.05


def test_at_its_end_an_untrained_network_is_the_regression_of_the_state_on_what_is_seen():
    arguments = {"fields": 2, "channels": [8], "patch": 2, "padding": "periodic"}
    model, n = NetworkDenoiser(build_network(NetworkSpec("bridge_unet", arguments), seed=0)), 64
    x = Noise(6).normal("x", (1, 8, 8), members=range(50), dtype=torch.float64)
    z = longer_states(x, (x + x.roll(1, -1)).tanh(), [0])
    covariance = spectral_from_blocks(blocks_from_residuals(z))
    mask = torch.zeros(2, 8, 8, dtype=torch.float64)
    mask[1, ::4, ::4] = 1.0
    seen = cell_interpolation(covariance, mask, noise_std=0.3)
    dense = covariance.apply(torch.eye(2 * n, dtype=torch.float64).view(2 * n, 2, 8, 8)).flatten(1)
    cells = mask.flatten() > 0
    system = dense[cells][:, cells] + 0.09 * torch.eye(4, dtype=torch.float64)
    expected = z.flatten(1)[:5, cells] @ torch.linalg.solve(system, dense[cells, :n])
    got = bound_denoiser(model, seen)(z[:5], 0.0)[:, 0].flatten(1)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)  # the network's arithmetic is in single precision


# ------------------------------------------------------------------ weights and scheme

TRAINING = """
name: test/fields
out: {folder}/weights
run_folder: {folder}/run
data:
  kind: observed_climate
  system: {{kind: kolmogorov, size: 16, step: 12min}}
  seed: 1
  observed: [{{variable: v, operator: {{kind: sigmoid, scale: 0.5}}}}]
  error: 0.1
  strides: [4]
  trajectories: 3
  states: 6
  spacing: 2
  held_out: 1
scaling: {{mean: [0.0, 0.0], std: [1.0, 1.0]}}
network: {{kind: bridge_unet, fields: 3, channels: [8], blocks: 1, patch: 4, padding: periodic}}
fit: {{steps: 4, batch: 4, learning_rate: 3.0e-3, warm_up: 2, checkpoint_every: 4}}
"""


def train(folder: Path, text: str) -> TrainConfig:
    path = folder / "train.yaml"
    path.write_text(text.format(folder=folder))
    config = read_train_config(path)
    run_training(config)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> TrainConfig:
    return train(tmp_path_factory.mktemp("fields"), TRAINING)


@pytest.fixture(scope="module")
def trained_mixture(tmp_path_factory) -> TrainConfig:
    text = TRAINING.replace("observed_climate\n", "observed_climate\n  form: dual_head\n")
    return train(tmp_path_factory.mktemp("mixture"), text)


def observe(layout, cells, *, operator, error=0.1, channel=1) -> Observations:
    spacing, n = layout.grid.axes[0].spacing, len(cells)
    batch = ObsBatch(
        stream="toy",
        operator=operator,
        where=Locations(torch.tensor(cells, dtype=torch.float64) * spacing, torch.full((n,), channel)),
        values=torch.full((n,), 0.8, dtype=torch.float64),
        error=torch.full((n,), error, dtype=torch.float64),
        times=np.repeat(TIME, n),
        ids=np.array([f"o{i}" for i in range(n)]),
        flags=torch.zeros(n, dtype=torch.int32),
    )
    return Observations((batch,), layout)


def background(layout) -> Prior:
    x = Noise(3).normal("members", layout.state_shape, members=range(6), dtype=torch.float32)
    return Prior(Ensemble(x[:, None], TIME, tuple(range(6)), layout))


def test_trained_fields_analyse_and_go_on_in_the_next_cycle(trained):
    layout = trained.data.system_spec().layout()
    operator = SigmoidSpec(scale=0.5).build(layout)
    spec = MasfTwoHeadsSpec(weights=trained.out, steps=6)
    prior, seen = background(layout), observe(layout, [(0, 4), (8, 8)], operator=operator)
    scheme = spec.build(SchemeContext(layout, operators=(operator,)))
    with torch.inference_mode():
        once = scheme.analyse(prior, seen, noise=Noise(1), carry={})
    # Amortised: nothing is carried, and the forecast is not known.
    other = replace(prior, background=replace(prior.background, values=-prior.background.values))
    again = scheme.analyse(other, seen, noise=Noise(1), carry=dict(once.carry))
    assert not once.carry and torch.equal(once.ensemble.values, again.ensemble.values)
    # Seen as 0.8 with error 0.1, of a climate of 0.5.
    assert float(seen.hx(once.ensemble.latest).mean()) > 0.6

    tuning = replace(spec, fine_tune=FineTuneSpec(steps=3, learning_rate=1e-3))
    scheme = tuning.build(SchemeContext(layout))
    first = scheme.analyse(prior, seen, noise=Noise(1), carry={})
    second = scheme.analyse(prior, seen, noise=Noise(1), carry=dict(first.carry))
    assert torch.equal(first.ensemble.values, once.ensemble.values)
    assert any(not torch.equal(first.carry[name], second.carry[name]) for name in first.carry)
    assert not torch.equal(first.ensemble.values, second.ensemble.values)


def test_a_trained_mixture_analyses_as_published_and_goes_on_in_the_next_cycle(trained_mixture):
    layout = trained_mixture.data.system_spec().layout()
    operator = SigmoidSpec(scale=0.5).build(layout)
    spec = MasfTwoHeadsSpec(weights=trained_mixture.out, form="dual_head", steps=80)
    prior, seen = background(layout), observe(layout, [(0, 4), (8, 8)], operator=operator)
    scheme = spec.build(SchemeContext(layout, operators=(operator,)))
    with torch.inference_mode():
        once = scheme.analyse(prior, seen, noise=Noise(1), carry={})
    assert not once.carry and float(seen.hx(once.ensemble.latest).mean()) > 0.6

    # Two observations of one cell are one of their mean, with the error that the weights know.
    short = replace(spec, steps=4).build(SchemeContext(layout))
    alone, twice = (observe(layout, [(0, 4)] * count, operator=operator) for count in (1, 2))
    drawn = [short.analyse(prior, one, noise=Noise(1), carry={}).ensemble.values for one in (alone, twice)]
    torch.testing.assert_close(drawn[0], drawn[1], rtol=1e-4, atol=1e-4)

    scheme = replace(spec, fine_tune=FineTuneSpec(steps=3, learning_rate=1e-3)).build(SchemeContext(layout))
    first = scheme.analyse(prior, seen, noise=Noise(1), carry={})
    second = scheme.analyse(prior, seen, noise=Noise(1), carry=dict(first.carry))
    assert torch.equal(first.ensemble.values, once.ensemble.values)
    assert any(not torch.equal(first.carry[name], second.carry[name]) for name in first.carry)
    assert not torch.equal(first.ensemble.values, second.ensemble.values)
    with pytest.raises(WeightsMismatch, match=r"of the form dual_head; got form 'augmented'. Set form: dual_head"):
        replace(spec, form="augmented").build(SchemeContext(layout))
    with pytest.raises(ConfigError, match=r"not made for the operator cell; they know sigmoid \(scale 0.5\) of v"):
        spec.build(SchemeContext(layout, operators=(CellSpec().build(layout),)))
    other = {**dict(trained_mixture.data.system), "size": 32}
    with pytest.raises(LayoutMismatch):
        spec.build(SchemeContext(replace(trained_mixture.data, system=other).system_spec().layout()))


def test_fine_tuning_sees_what_the_operators_see_at_every_cell(trained):
    layout, fields = trained.data.system_spec().layout(), trained.data.fields()
    weights = load_observed_bridge(Path(trained.out), form="augmented", layout=layout)
    states = background(layout).background.latest.to(torch.float64)
    longer = scaled_longer(weights, fields, states)
    mean, std = weights.observed_scaling.mean[1], weights.observed_scaling.std[1]
    expected = (torch.sigmoid(2.0 * states[:, 1]) - mean) / std
    torch.testing.assert_close(longer[:, 2], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(longer[:, :2], states, rtol=0, atol=0)
    assert (weights.observed_scaling.mean[0], weights.observed_scaling.std[0]) == (0.0, 1.0)
    assert std == weights.unit and weights.noise_std == pytest.approx(0.1 / std)
    assert not seen_everywhere(fields, states)[:, 0].any()


def test_what_the_weights_do_not_know_is_refused(trained):
    layout = trained.data.system_spec().layout()
    operator, spec = SigmoidSpec(scale=0.5).build(layout), MasfTwoHeadsSpec(weights=trained.out, steps=2)
    scheme, prior = spec.build(SchemeContext(layout)), background(layout)
    for seen, message in (
        (observe(layout, [(0, 4)], operator=operator, error=0.3), r"0.3 to 0.3; weights .* know 0.1 alone"),
        (observe(layout, [(0, 4.5)], operator=operator), "lie between cells"),
        (
            observe(layout, [(0, 4)], operator=operator, channel=0),
            r"of no field that the weights know \(sigmoid of v\)",
        ),
    ):
        with pytest.raises(AnalysisFailed, match=message):
            scheme.analyse(prior, seen, noise=Noise(1), carry={})
    with pytest.raises(ConfigError, match=r"not made for the operator cell; they know sigmoid \(scale 0.5\) of v"):
        spec.build(SchemeContext(layout, operators=(CellSpec().build(layout),)))
    with pytest.raises(WeightsMismatch, match=r"of the form augmented; got form 'dual_head'"):
        replace(spec, form="dual_head").build(SchemeContext(layout))
    with pytest.raises(WeightsMismatch, match="masf needs a denoiser of kind 'mask_bridge'"):
        MasfSpec(weights=trained.out).build(SchemeContext(layout))


def test_data_that_cannot_be_right_is_refused():
    data = read_train_config.__globals__["_DATA"]["observed_climate"]
    good = {
        "system": {"kind": "kolmogorov", "size": 16},
        "seed": 1,
        "observed": [{"variable": "u", "operator": {"kind": "sigmoid"}}],
        "error": 0.1,
        "strides": [4],
    }
    read_strictly(data, good, where="data")
    for changed, message in (
        ({"form": "two_heads"}, "form is 'two_heads'; valid: augmented, dual_head"),
        ({"error": 0.0}, "positive"),
        ({"strides": [0]}, "strides from 1"),
        ({"observed": []}, "empty"),
        ({"observed": good["observed"] * 2}, "twice"),
        ({"observed": [{"variable": "w", "operator": {"kind": "sigmoid"}}]}, "unknown variable 'w'"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_strictly(data, {**good, **changed}, where="data")


@pytest.mark.parametrize(("old", "new"), [("fields: 3", "fields: 2"), ("bridge_unet, fields: 3", "unet, history: 1")])
def test_a_network_of_another_shape_is_refused(tmp_path, old, new):
    path = tmp_path / "train.yaml"
    path.write_text(TRAINING.replace(old, new).format(folder=tmp_path))
    with pytest.raises(ConfigError, match="needs bridge_unet with fields 3"):
        read_train_config(path)


def test_the_released_network_is_near_regression_at_its_end_and_knows_more_than_its_base_before(repository):
    config = read_train_config(repository / "config" / "train" / "kolmogorov_masf_augmented.yaml")
    system, fields = config.data.system_spec(), config.data.fields()
    folder = repository / "data" / "weights" / "kolmogorov" / "masf_augmented"
    weights = load_observed_bridge(folder, form="augmented", layout=system.layout())
    states = system.spun_up(Noise(7), members=range(3)).to(torch.float64)
    z = scaled_longer(weights, fields, states)
    mask = torch.zeros(z.shape[1:], dtype=torch.float64)
    mask[2:, ::10, ::10] = 1.0
    seen = cell_interpolation(weights.covariance, mask, noise_std=weights.noise_std)
    noisy = mask * z + weights.noise_std * Noise(8).normal("noise", z.shape[1:], members=range(3), dtype=torch.float64)
    answers = {"network": bound_denoiser(weights.model, seen)(noisy, 0.0), "regression": seen.mean(noisy)}
    rmse = {name: float((answer - z)[:, :2].square().mean().sqrt()) for name, answer in answers.items()}
    climate = float(states.square().mean().sqrt())
    # Held-out states of the training: 0.550, 0.537 and 1.005.
    assert rmse["network"] < 1.05 * rmse["regression"] < 1.05 * 0.65 * climate
    # Signal as large as noise: a network that knows nothing has 1.
    a = torch.full((3,), weights.noise_std / (1.0 + weights.noise_std**2) ** 0.5)
    xi = Noise(9).normal("noise", z.shape[1:], members=range(3), dtype=torch.float32)
    with torch.no_grad():
        assert float(weights.model.loss(z.to(torch.float32), a, xi, seen)) < 0.8


def test_the_released_two_heads_know_more_than_their_base(repository):
    config = read_train_config(repository / "config" / "train" / "kolmogorov_masf_dual_head.yaml")
    system, fields = config.data.system_spec(), config.data.fields()
    folder = repository / "data" / "weights" / "kolmogorov" / "masf_dual_head"
    weights = load_observed_bridge(folder, form="dual_head", layout=system.layout())
    z = scaled_longer(weights, fields, system.spun_up(Noise(7), members=range(3)).to(torch.float64))
    mask = torch.zeros(z.shape[1:], dtype=torch.float64)
    mask[2:, ::10, ::10] = 1.0
    seen = cell_interpolation(weights.covariance, mask, noise_std=weights.noise_std)
    base = MixedDenoiser(build_network(config.network, seed=0), weights.model.heads)  # not trained: F is 0
    a = torch.full((3,), weights.noise_std / (1.0 + weights.noise_std**2) ** 0.5)
    xi = Noise(9).normal("noise", z.shape[1:], members=range(3), dtype=torch.float64)
    with torch.no_grad():
        loss, without = (float(model.loss(z, a, xi, seen)) for model in (weights.model, base))
    assert loss < 0.95 * without
