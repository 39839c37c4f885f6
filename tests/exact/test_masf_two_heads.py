"""MASF for any observation operator: the augmented bridge is Bayes, the published form is what its own limit says.

With exact heads of a Gaussian a sampler is an affine map of its noise, so moments are computed without sampling
(`bench/masf_two_heads`). Reference for the published form: its small-step limit, a linear differential equation of mean
and variance that is solved here on its own.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from cycler_da.bench.masf_two_heads import (
    CURVED,
    LinearPair,
    augmented_moments,
    curved_samples,
    distance,
    dual_head_moments,
    linear_problems,
)
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError, WeightsMismatch
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.mask_bridge import T_END, Multiplier, cosine_signal, published_times
from cycler_da.generative.two_head_sampling import sample_augmented
from cycler_da.generative.two_head_weights import load_heads
from cycler_da.generative.two_heads import Augmented, GaussianHeads, Mixed, pair_of_members
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.block_mean import BlockMeanSpec
from cycler_da.obs.nonlinear import ArctanSpec, ExceedsSpec
from cycler_da.obs.points import CellSpec
from cycler_da.observed_training import pair_process, rmse_given_all, scaled_pairs
from cycler_da.registry import read_strictly
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.frame.fine_tuning import FineTuneSpec
from cycler_da.schemes.masf_two_heads import MasfTwoHeadsSpec
from cycler_da.state_training import StateSimulation
from cycler_da.training_run import TrainConfig, read_train_config, run_training

ONE = torch.ones(1, dtype=torch.float64)
TIME = np.array(["2020-01-01T12:00:00"], "datetime64[s]")
LAYOUT = Layout(
    "toy",
    (Variable("u", "1", "first"), Variable("v", "1", "second")),
    Grid(tuple(Axis(name, 8, periodic=True) for name in ("y", "x"))),
    np.timedelta64(3600, "s"),
)


@pytest.mark.parametrize("n_steps", [1, 4])
@pytest.mark.parametrize(("case", "problem", "y"), [pytest.param(*p, id=p[0]) for p in linear_problems()])
def test_the_augmented_bridge_of_a_gaussian_is_bayes_in_any_number_of_steps(case, problem, y, n_steps):
    mean, covariance = augmented_moments(problem, n_steps, y)
    exact_mean, exact = problem.posterior(y)
    torch.testing.assert_close(mean, exact_mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(covariance, exact, rtol=0, atol=1e-10)


def small_step_limit(c: float, r: float, *, z: float, first: float) -> tuple[float, float]:
    """Mean and variance of the published sampler without multipliers for x ~ N(0, 1), h = c x, from a(T) on."""
    end = cosine_signal(T_END)

    def slopes(a: float, mean: float, variance: float) -> tuple[float, float]:
        total, v = a + (1 - a) * c, r * (1 - a**2)
        gain = total / (total**2 + v)
        pull = 1 - a * (1 - c) * gain
        rate = (1 - c) * gain - 2 * r * a / (total**2 + v) - 2 * a * pull**2 / (a**2 - end**2)
        return rate * mean + 2 * a * pull * z / (a**2 - end**2), 2 * rate * variance + 2 * r * a

    mean, variance = 0.0, (end + (1 - end) * c) ** 2 + r * (1 - end**2)
    grid = first * (1 / first) ** (np.arange(4001) / 4000)  # equal ratios: the equation is stiff at its start
    for a, b in pairwise(grid):
        h, k = b - a, [(0.0, 0.0)]
        for part in (0.0, 0.5, 0.5, 1.0):
            k.append(slopes(a + part * h, mean + part * h * k[-1][0], variance + part * h * k[-1][1]))
        mean, variance = (
            x + h / 6 * (k[1][i] + 2 * k[2][i] + 2 * k[3][i] + k[4][i]) for i, x in enumerate((mean, variance))
        )
    return mean, variance


@pytest.mark.parametrize(("c", "r"), [(1.0, 0.25), (0.5, 0.25)])
def test_the_published_form_tends_to_its_own_small_step_limit_and_not_to_bayes(c, r):
    problem = LinearPair(ONE[:, None], c * ONE, r)
    plain = {"prior": Multiplier(), "guidance": Multiplier()}
    coarse, fine = (
        [float(part) for part in dual_head_moments(problem, n_steps, ONE, **plain)] for n_steps in (200, 400)
    )
    expected = small_step_limit(c, r, z=1.0, first=cosine_signal(published_times(400)[0]))
    for got_coarse, got, limit in zip(coarse, fine, expected, strict=True):
        # First order in the steps: what is left after extrapolation is of the second, and the guard of 1e-5.
        assert 2 * got - got_coarse == pytest.approx(limit, rel=4e-3)
    mean, covariance = problem.posterior(ONE)
    assert fine[1] < 0.4 * float(covariance) and abs(fine[0] - float(mean)) > 0.05


def test_where_the_state_is_observed_itself_that_limit_is_the_closed_form_of_the_linear_sampler():
    r, total, logarithm = 0.25, 1.25, math.log(1.25)
    mean, variance = small_step_limit(1.0, r, z=1.0, first=cosine_signal(published_times(400)[0]))
    assert mean == pytest.approx(logarithm / r, rel=0.01)  # T < 1
    assert variance == pytest.approx((total * r + r - 2 * total * logarithm) / r**2, rel=0.02)


def test_the_augmented_bridge_finds_both_states_that_an_observation_allows():
    squared = CURVED[1]
    drawn = curved_samples(squared, 60, 201)
    points = torch.linspace(-5.0, 5.0, 201, dtype=torch.float64)
    weights = squared.posterior(points)
    assert 0.3 < float((drawn["augmented"] > 0).to(torch.float64).mean()) < 0.7
    # Deviations of the posterior: 60 of its own draws are 0.05 to 0.2 away, one mode alone is 0.9.
    assert distance(drawn["augmented"], points, weights) < 0.25
    assert distance(drawn["dual head as published"], points, weights) > 0.6


def test_heads_of_members_are_the_regression_of_both_parts():
    z = Noise(1).normal("z", (6,), members=range(9), dtype=torch.float64)
    mask, a = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64), 0.6
    u3, u6 = (Noise(2).normal("u", (n,), members=range(4), dtype=torch.float64) for n in (3, 6))
    covariance, mean = torch.cov(z.mT), z.mean(dim=0)
    eye, blank = torch.eye(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    maps = {
        "mixed": torch.cat([a * eye, 0.4 * torch.diag(mask[0])], dim=1),
        "augmented": torch.cat([torch.cat([a * eye, blank], 1), torch.cat([blank, torch.diag(mask[0])], 1)]),
    }
    processes = {"mixed": Mixed(mask, 0.3 * torch.ones(3)), "augmented": Augmented(mask, 0.3 * torch.ones(6))}
    for name, u in (("mixed", u3), ("augmented", u6)):
        h = maps[name]
        system = h @ covariance @ h.mT + 0.3 * (1 - a**2) * torch.eye(len(h), dtype=torch.float64)
        expected = mean + (u - mean @ h.mT) @ torch.linalg.solve(system, h @ covariance)
        heads = GaussianHeads(pair_of_members(z, range(9)), processes[name])
        # Errors are given in single precision here.
        torch.testing.assert_close(heads.mean(u, a), expected, rtol=0, atol=1e-6)


def test_members_of_the_augmented_bridge_differ_by_their_own_noise():
    z = Noise(1).normal("z", (5,), members=range(7), dtype=torch.float64)
    process = Augmented(torch.ones(1, 2, dtype=torch.float64), torch.full((5,), 0.2, dtype=torch.float64))
    heads = GaussianHeads(pair_of_members(z, range(7)), process)
    drawn = [
        sample_augmented(
            process, heads, torch.zeros(2, dtype=torch.float64), (0.0, 0.4, 1.0), noise=MemberNoise(Noise(2), ids, "m")
        )
        for ids in ((3, 5), (5,))
    ]
    torch.testing.assert_close(drawn[0][1:], drawn[1], rtol=0, atol=1e-12)
    assert not torch.equal(drawn[0][0], drawn[0][1])


# ------------------------------------------------------------------ the scheme


def observe(places, *, operator=None, error=0.5, value=1.0, layout=LAYOUT) -> Observations:
    n = len(places)
    batch = ObsBatch(
        stream="toy",
        operator=operator or CellSpec().build(layout),
        where=Locations(
            torch.tensor([place[1:] for place in places], dtype=torch.float64),
            torch.tensor([place[0] for place in places]),
        ),
        values=torch.full((n,), value, dtype=torch.float64),
        error=torch.full((n,), error, dtype=torch.float64),
        times=np.repeat(TIME, n),
        ids=np.array([f"o{i}" for i in range(n)]),
        flags=torch.zeros(n, dtype=torch.int32),
    )
    return Observations((batch,), layout)


def background(n_members=400, layout=LAYOUT) -> Prior:
    """Members with correlated cells."""
    z = Noise(3).normal("members", layout.state_shape, members=range(n_members), dtype=torch.float64)
    x = z + z.roll(1, -1) + z.roll(1, 1)
    return Prior(Ensemble(x[:, None], TIME, tuple(range(n_members)), layout))


def test_without_weights_the_augmented_form_is_the_kalman_analysis_of_the_members():
    prior, seen = background(), observe([(0, 1, 2), (1, 4, 4), (0, 1, 2)])
    analysis = MasfTwoHeadsSpec().build(SchemeContext(LAYOUT)).analyse(prior, seen, noise=Noise(4), carry={})
    x = prior.background.latest
    covariance, h = torch.cov(x.flatten(1).mT), seen.adjoint(torch.eye(3, dtype=torch.float64)).flatten(1)
    gain = covariance @ h.mT @ torch.linalg.inv(h @ covariance @ h.mT + 0.25 * torch.eye(3, dtype=torch.float64))
    mean = x.flatten(1).mean(dim=0)
    expected = mean + gain @ (1.0 - h @ mean)
    exact = (covariance - gain @ h @ covariance).diagonal()
    got = analysis.ensemble.latest.flatten(1)
    # 400 draws: errors of the mean have the deviation sqrt(variance / 400), those of the variance a part of 7 %.
    assert float(((got.mean(dim=0) - expected) / (exact / 400).sqrt()).square().mean()) == pytest.approx(1.0, abs=0.6)
    assert float((got.var(dim=0) / exact).mean()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    ("form", "spec"),
    [
        pytest.param("augmented", BlockMeanSpec(factor=4), id="augmented, mean"),
        pytest.param("augmented", ArctanSpec(), id="augmented, curve"),
        pytest.param("augmented", ExceedsSpec(threshold=0.5), id="augmented, detection"),
        pytest.param("dual_head", BlockMeanSpec(factor=4), id="dual head, mean"),
        pytest.param("dual_head", ArctanSpec(), id="dual head, curve"),
    ],
)
def test_both_forms_take_operators_that_are_no_masks_also_in_inference_mode(spec, form):
    # Accurate beside the members' deviation: the noise that stands for blank cells, to which dual_head pulls, is small.
    places = [(0, 1.5, 1.5), (1, 5.5, 1.5)]
    prior, seen = background(40), observe(places, operator=spec.build(LAYOUT), value=0.9, error=0.1)
    scheme = MasfTwoHeadsSpec(form=form, steps={"augmented": 1, "dual_head": 40}[form]).build(SchemeContext(LAYOUT))
    with torch.inference_mode():
        analysis = scheme.analyse(prior, seen, noise=Noise(4), carry={})
    before, after = (seen.hx(x).mean(dim=0) for x in (prior.background.latest, analysis.ensemble.latest))
    assert float((0.9 - after).square().mean()) < float((0.9 - before).square().mean())


def test_two_observations_of_one_cell_are_refused_by_the_published_form_alone():
    prior, seen = background(20), observe([(0, 1, 2), (0, 1, 2)])
    with pytest.raises(AnalysisFailed, match=r"two observations .* lie in one.*augmented"):
        MasfTwoHeadsSpec(form="dual_head").build(SchemeContext(LAYOUT)).analyse(prior, seen, noise=Noise(1), carry={})
    MasfTwoHeadsSpec().build(SchemeContext(LAYOUT)).analyse(prior, seen, noise=Noise(1), carry={})


def test_options_that_cannot_be_right_are_refused():
    for options in ({"form": "mask"}, {"multipliers": "tuned"}, {"steps": 0}):
        with pytest.raises(ConfigError, match="scheme masf_two_heads"):
            MasfTwoHeadsSpec(**options)
    with pytest.raises(ConfigError, match=r"weights is None.*fine_tune"):
        MasfTwoHeadsSpec(fine_tune=FineTuneSpec())


# ------------------------------------------------------------------ weights

TRAINING = """
name: test/heads
out: {folder}/weights
run_folder: {folder}/run
data:
  kind: observed_states
  system: {{kind: lorenz96, size: 8}}
  seed: 1
  form: {form}
  observed: [{{variable: u, operator: {{kind: arctan, scale: 4.0}}}}]
  error: 0.2
  fractions: [0.5, 1.0]
  together: {together}
  states: 400
  held_out: 100
  spin_up: 60
  spacing: 3
scaling: {{mean: [2.34], std: [3.63]}}
network: {{kind: two_head_ring, inputs: {inputs}, fields: 1, channels: 8, blocks: 1, width: 3}}
fit: {{steps: 12, batch: 16, learning_rate: 3.0e-3, warm_up: 2, checkpoint_every: 12}}
"""


def trained(folder, form) -> TrainConfig:
    path = folder / "train.yaml"
    inputs, together = {"augmented": (6, 1), "dual_head": (5, 4)}[form]
    path.write_text(TRAINING.format(folder=folder, form=form, inputs=inputs, together=together))
    config = read_train_config(path)
    run_training(config)
    return config


@pytest.mark.parametrize("form", ["augmented", "dual_head"])
def test_trained_heads_analyse_and_go_on_in_the_next_cycle(tmp_path, form):
    config = trained(tmp_path, form)
    layout = config.data.fields()[0].layout
    operator = ArctanSpec(scale=4.0).build(layout)
    spec = MasfTwoHeadsSpec(
        form=form, weights=config.out, steps=10, fine_tune=FineTuneSpec(steps=3, learning_rate=1e-3)
    )
    scheme = spec.build(SchemeContext(layout, operators=(operator,)))
    prior = background(12, layout)
    seen = observe([(0, 1.0), (0, 4.0)], operator=operator, error=0.2, layout=layout)
    first = scheme.analyse(prior, seen, noise=Noise(1), carry={})
    second = scheme.analyse(prior, seen, noise=Noise(1), carry=dict(first.carry))
    assert first.carry.keys() == second.carry.keys() and first.carry
    # The first cycle uses the network as it is and carries it; the second one has tuned it.
    assert any(not torch.equal(first.carry[name], second.carry[name]) for name in first.carry)
    assert not torch.equal(first.ensemble.values, second.ensemble.values)

    louder = observe([(0, 1.0)], operator=operator, error=0.3, layout=layout)
    with pytest.raises(AnalysisFailed, match=r"0.3 to 0.3; weights .* know 0.2 alone"):
        scheme.analyse(prior, louder, noise=Noise(1), carry={})
    between = observe([(0, 1.5)], operator=operator, error=0.2, layout=layout)
    with pytest.raises(AnalysisFailed, match=r"lie between cells"):
        scheme.analyse(prior, between, noise=Noise(1), carry={})
    other = observe([(0, 1.0)], operator=ArctanSpec(scale=2.0).build(layout), error=0.2, layout=layout)
    with pytest.raises(AnalysisFailed, match=r"of no field that the weights know \(arctan of u\)"):
        scheme.analyse(prior, other, noise=Noise(1), carry={})
    with pytest.raises(ConfigError, match=r"not made for the operator cell; they know arctan \(scale 4\) of u"):
        spec.build(SchemeContext(layout, operators=(CellSpec().build(layout),)))
    with pytest.raises(WeightsMismatch, match="form"):
        replace(spec, form={"augmented": "dual_head", "dual_head": "augmented"}[form]).build(SchemeContext(layout))


def test_an_untrained_network_is_the_gaussian_of_the_climate(tmp_path):
    path = tmp_path / "train.yaml"
    text = TRAINING.format(folder=tmp_path, form="augmented", inputs=6, together=1).replace(
        "learning_rate: 3.0e-3", "learning_rate: 0.0"
    )
    path.write_text(text)
    card = run_training(read_train_config(path))
    scores = card.scores["rmse of the state given all observations"]
    assert scores["network"] == pytest.approx(scores["Gaussian"], rel=1e-6)
    assert scores["Gaussian"] < 0.9 * scores["climatology"]


@pytest.mark.parametrize("name", ["lorenz63/masf_augmented", "lorenz63/masf_dual_head"])
def test_released_heads_know_more_of_a_state_than_the_gaussian_of_the_climate(name, repository):
    config = read_train_config(repository / "config" / "train" / f"{name.replace('/', '_')}.yaml")
    layout, fields = config.data.simulated().layout(), config.data.fields()
    weights = load_heads(repository / "data" / "weights" / name, form=config.data.form, layout=layout)
    other = StateSimulation(replace(config.data.simulated(), seed=7), config.scaling)
    z = scaled_pairs(other.starts(400, stream="test"), fields, config.scaling, weights.observed_scaling)
    process = pair_process(config.data.form, fields, weights.observed_scaling, config.data.error, layout)
    rmse = rmse_given_all(weights.model, process, z)
    assert rmse["network"] < 0.7 * rmse["Gaussian"] < 0.7 * rmse["climatology"]


def test_data_that_cannot_be_right_is_refused():
    data = read_train_config.__globals__["_DATA"]["observed_states"]
    good = {
        "system": {"kind": "lorenz96"},
        "seed": 1,
        "form": "augmented",
        "observed": [{"variable": "u", "operator": {"kind": "arctan"}}],
        "error": 0.1,
    }
    read_strictly(data, good, where="data")
    for changed, message in (
        ({"form": "mask"}, "valid: augmented, dual_head"),
        ({"error": 0.0}, "positive"),
        ({"fractions": [0.0]}, "above 0"),
        ({"observed": []}, "empty"),
        ({"observed": good["observed"] * 2}, "twice"),
        ({"observed": [{"variable": "w", "operator": {"kind": "arctan"}}]}, "unknown variable 'w'"),
        ({"states": 3}, "100 or more"),
        ({"together": 0}, "1 or more"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_strictly(data, {**good, **changed}, where="data")
