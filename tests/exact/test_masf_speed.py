"""MASF's two heads for one observed value of two velocities: the speed through a sigmoid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.generative.cell_interpolation import cell_interpolation
from cycler_da.generative.covariance import blocks_from_residuals, spectral_from_blocks
from cycler_da.generative.observed_bridge import load_observed_bridge, longer_states
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.fields import observed_fields, seen_everywhere
from cycler_da.obs.points import CellSpec
from cycler_da.obs.speed import SpeedSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.frame.field_bridge import scaled_longer
from cycler_da.schemes.masf_two_heads import MasfTwoHeadsSpec
from cycler_da.systems.kolmogorov import KolmogorovSpec
from cycler_da.training_run import TrainConfig, read_train_config, run_training

LAYOUT = KolmogorovSpec(size=16).layout()
TIME = np.array(["2020-01-01T12:00:00"], "datetime64[s]")
TRAINING = """
name: test/speed
out: {folder}/weights
run_folder: {folder}/run
data:
  kind: observed_climate
  form: {form}
  system: {{kind: kolmogorov, size: 16, step: 12min}}
  seed: 1
  observed: [{{variable: u, operator: {{kind: speed, components: [u, v]}}}}]
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


def states(n_members: int = 6) -> torch.Tensor:
    return Noise(3).normal("members", LAYOUT.state_shape, members=range(n_members), dtype=torch.float64)


@pytest.fixture(scope="module", params=["augmented", "dual_head"])
def trained(request, tmp_path_factory) -> tuple[str, TrainConfig]:
    folder = tmp_path_factory.mktemp(request.param)
    path = folder / "train.yaml"
    path.write_text(TRAINING.format(folder=folder, form=request.param))
    config = read_train_config(path)
    run_training(config)
    return request.param, config


def test_a_gaussian_learns_nothing_of_a_velocity_from_its_speed():
    """States come with their opposites, which have the same speed: regression on it tells the speed alone."""
    x = torch.cat([states(), -states()])
    fields = observed_fields([{"variable": "u", "operator": {"kind": "speed"}}], LAYOUT)
    seen = seen_everywhere(fields, x)
    z = longer_states(x, seen - seen.mean(dim=(0, 2, 3), keepdim=True), [0])
    mask = torch.zeros(3, 16, 16, dtype=torch.float64)
    mask[2, ::4, ::4] = 1.0
    known = cell_interpolation(spectral_from_blocks(blocks_from_residuals(z)), mask, noise_std=0.05).mean(z)
    torch.testing.assert_close(known[:, :2], torch.zeros_like(x), rtol=0, atol=1e-12)
    assert float((known - z)[:, 2, ::4, ::4].std()) < 0.5 * float(z[:, 2, ::4, ::4].std())


def test_one_value_stands_for_two_velocities_in_training_and_analysis(trained):
    form, config = trained
    weights = load_observed_bridge(Path(config.out), form=form, layout=LAYOUT)
    fields, x = config.data.fields(), states()
    longer = scaled_longer(weights, fields, x)
    assert longer.shape[1] == 3
    mean, std = weights.observed_scaling.mean[0], weights.observed_scaling.std[0]
    expected = (torch.sigmoid(x.square().sum(dim=1) - 3.0) - mean) / std
    torch.testing.assert_close(longer[:, 2], expected, rtol=0, atol=1e-12)

    operator = SpeedSpec(components=("u", "v")).build(LAYOUT)
    scheme = MasfTwoHeadsSpec(weights=config.out, form=form, steps=4).build(
        SchemeContext(LAYOUT, operators=(operator,))
    )
    members = Ensemble(x[:, None].to(torch.float32), TIME, tuple(range(len(x))), LAYOUT)
    cells = torch.tensor([(0.0, 4.0), (8.0, 8.0)], dtype=torch.float64)
    batch = ObsBatch(
        stream="speeds",
        operator=operator,
        where=Locations(cells * LAYOUT.grid.axes[0].spacing, torch.zeros(2, dtype=torch.int64)),
        values=torch.tensor([0.7, 0.1], dtype=torch.float64),
        error=torch.full((2,), 0.1, dtype=torch.float64),
        times=np.repeat(TIME, 2),
        ids=np.array(["a", "b"]),
        flags=torch.zeros(2, dtype=torch.int32),
    )
    with torch.inference_mode():
        found = scheme.analyse(Prior(members), Observations((batch,), LAYOUT), noise=Noise(1), carry={})
    moved = found.ensemble.latest - members.latest
    assert bool(torch.isfinite(moved).all()) and all(bool(moved[:, channel].any()) for channel in (0, 1))


def test_weights_of_the_speed_are_for_the_speed_alone(trained):
    form, config = trained
    spec = MasfTwoHeadsSpec(weights=config.out, form=form)
    for other in (CellSpec().build(LAYOUT), SpeedSpec(threshold=2.0, components=("u", "v")).build(LAYOUT)):
        with pytest.raises(ConfigError, match=r"they know speed \(threshold 3, scale 1\) of u"):
            spec.build(SchemeContext(LAYOUT, operators=(other,)))
