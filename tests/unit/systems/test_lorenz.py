"""Lorenz-63 and Lorenz-96: order of the time stepping, fixed points, published climate, process noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.noise import Noise
from cycler_da.systems.lorenz63 import Lorenz63Spec
from cycler_da.systems.lorenz96 import Lorenz96Spec
from cycler_da.systems.runge_kutta import runge_kutta_step

TIME = np.datetime64("2020-01-01T00:00:00", "s")
both = pytest.mark.parametrize("spec", [Lorenz63Spec(), Lorenz96Spec()], ids=["lorenz63", "lorenz96"])


def states_on_the_attractor(spec, n_states=3):
    generator = torch.Generator().manual_seed(4)
    x = 8 + torch.randn((n_states, *spec.layout().state_shape), generator=generator, dtype=torch.float64)
    dynamics = spec.build()
    for _ in range(round(10 / (dynamics.time_step * dynamics.n_time_steps))):
        x = dynamics.step(x)
    return x


@both
def test_time_stepping_is_of_fourth_order(spec):
    x, length = states_on_the_attractor(spec), 0.1
    ends = []
    for n_steps in (20, 40, 1280):
        end = x
        for _ in range(n_steps):
            end = runge_kutta_step(spec.tendency, end, length / n_steps)
        ends.append(end)
    coarse, fine = ((end - ends[-1]).norm() for end in ends[:2])
    # The next term of the error, of relative size h, is left: 0.15 covers it at h = 0.005.
    assert math.log2(coarse / fine) == pytest.approx(4, abs=0.15)


def test_lorenz63_rests_at_its_fixed_points():
    spec = Lorenz63Spec()
    root = math.sqrt(spec.beta * (spec.rho - 1))
    points = torch.tensor([[0, 0, 0], [root, root, spec.rho - 1], [-root, -root, spec.rho - 1]], dtype=torch.float64)
    torch.testing.assert_close(spec.tendency(points[..., None]), torch.zeros(3, 3, 1).double(), rtol=0, atol=1e-12)


def test_lorenz96_keeps_energy_without_forcing_and_friction():
    spec = Lorenz96Spec(forcing=0.0)
    x = states_on_the_attractor(Lorenz96Spec())
    # Without F and -X the sum of squares is conserved: x . f(x) = -x . x is what friction takes.
    power = (x * spec.tendency(x)).sum(dim=(1, 2))
    torch.testing.assert_close(power, -(x * x).sum(dim=(1, 2)), rtol=1e-12, atol=0)


def climatology(spec, *, n_runs, n_steps):
    x, dynamics, kept = states_on_the_attractor(spec, n_runs), spec.build(), []
    for _ in range(n_steps):
        x = dynamics.step(x)
        kept.append(x)
    return torch.stack(kept).flatten(0, 1)


def test_lorenz96_has_its_published_climate():
    values = climatology(Lorenz96Spec(), n_runs=50, n_steps=400)
    # DAPPER lists 3.6 (re-run: 3.630); standard error of 50 runs of 20 time units about 0.01.
    assert float((values - values.mean()).square().mean().sqrt()) == pytest.approx(3.63, abs=0.04)
    assert float(values.mean()) == pytest.approx(2.34, abs=0.03)


def test_lorenz63_has_its_published_climate():
    values = climatology(Lorenz63Spec(), n_runs=200, n_steps=100)
    deviation = values - values.mean(dim=0)
    # DAPPER lists an RMS over the three variables of 7.6, a mean over time of the spatial RMS (re-run: 7.595).
    assert float(deviation.square().mean(dim=(1, 2)).sqrt().mean()) == pytest.approx(7.6, abs=0.15)
    assert float(values[:, 2].mean()) == pytest.approx(23.55, abs=0.1)


@both
def test_a_batch_is_stepped_as_its_states_alone(spec):
    x = states_on_the_attractor(spec)
    together = spec.build().step(x)
    assert all(torch.equal(spec.build().step(x[i : i + 1])[0], together[i]) for i in range(len(x)))


def test_float32_states_stay_float32_and_are_stepped_in_the_precision_asked_for():
    spec = Lorenz96Spec()
    x = states_on_the_attractor(spec).float()
    stepped = spec.build().step(x)
    assert stepped.dtype == torch.float32
    assert torch.equal(stepped, spec.build().step(x.double()).float())


def test_process_noise_has_its_variance_and_belongs_to_the_member():
    options = {"kind": "lorenz96", "process_noise": 0.5}
    layout = Lorenz96Spec().layout()
    model = NumericalSpec(system=options).build(layout)
    start = Ensemble(torch.full((500, 1, 1, 40), 8.0, dtype=torch.float64), np.array([TIME]), tuple(range(500)), layout)
    times = np.array([TIME + layout.step])
    noisy = model.forecast(start, times, noise=Noise(3)).latest
    # F is the fixed point, so what is left is noise: 0.5 sqrt(0.05) after one step, 20000 draws.
    assert float((noisy - 8).std()) == pytest.approx(0.5 * 0.05**0.5, rel=0.02)
    alone = model.forecast(start.select([7]), times, noise=Noise(3)).latest
    assert torch.equal(alone[0], noisy[7])


def test_states_of_the_lorenz96_climate_belong_to_the_member_and_have_its_spread():
    spec = Lorenz96Spec(step="12h")
    states = spec.spun_up(Noise(4), members=range(100))
    assert torch.equal(spec.spun_up(Noise(4), members=[7])[0], states[7])
    # 100 rings of about ten independent values each: 3.63 / sqrt(1000) = 0.11 for the mean.
    assert float(states.mean()) == pytest.approx(2.34, abs=0.3)
    assert float(states.std()) == pytest.approx(3.63, rel=0.05)
    with pytest.raises(ConfigError, match="no years"):
        spec.spun_up(Noise(4), members=[0], years=2.0)


@pytest.mark.parametrize(("spec", "options"), [(Lorenz63Spec, {"step": "1min"}), (Lorenz96Spec, {"time_step": 0.05})])
def test_whole_time_steps_are_counted(spec, options):
    dynamics = spec(**options).build()
    assert dynamics.n_time_steps == (60 if spec is Lorenz63Spec else 1)


@pytest.mark.parametrize(
    ("spec", "options", "text"),
    [
        (Lorenz63Spec, {"time_step": 0.1}, "time_step 0.1"),
        (Lorenz96Spec, {"time_step": 0.0}, "time_step 0"),
        (Lorenz96Spec, {"size": 3}, "size is 3"),
        (Lorenz96Spec, {"process_noise": -1.0}, "process_noise is -1"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(spec, options, text):
    with pytest.raises(ConfigError, match=text):
        spec(**options)
