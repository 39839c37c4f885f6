"""Training of windows that a learned transition smooths, from config to a denoiser."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.schedule import COSINE_SQUARED
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.weights import WeightCard, save_weights
from cycler_da.generative.window_weights import load_window
from cycler_da.noise import Noise
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec
from cycler_da.training_run import read_train_config, run_training

SCALING, SIZE = {"mean": [0.0, 0.0], "std": [8.2e-6, 1.06e-6]}, 16
NETWORK = {"size": SIZE, "channels": 2, "products": 2, "stages": 1}


def config(folder: Path, **changed: object) -> Path:
    layout = TwoLayerQGSpec(size=SIZE).layout()
    spec = NetworkSpec("quadratic_spectral", NETWORK)
    scaling = Scaling(tuple(SCALING["mean"]), tuple(SCALING["std"]))
    card = WeightCard(name="step", layout=layout, network=spec, scaling=scaling, history=1)
    save_weights(folder / "step", card, state=build_network(spec).state_dict(), measured={})
    blocks = {
        "name": "test/window",
        "out": str(folder / "window"),
        "run_folder": str(folder / "run"),
        "data": {
            "kind": "simulated_windows",
            "system": {"kind": "two_layer_qg", "size": SIZE, "step": "24h"},
            "seed": 1,
            "trajectories": 4,
            "steps": 12,
            "held_out": 1,
            "spin_up_years": 0.02,
            "lags": 6,
            "mirror": True,
            "transition": str(folder / "step"),
            "inner": 12,
            "observed": [{"variable": "q1", "operator": {"kind": "arctan", "scale": 2.7e-6}}],
        },
        "scaling": SCALING,
        "network": {"kind": "quadratic_spectral", **NETWORK},
        "fit": {"steps": 8, "batch": 4},
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump({**blocks, **changed}))
    return path


def test_trained_windows_are_smoothed_with_and_without_observed_fields(tmp_path):
    run_training(read_train_config(config(tmp_path)))
    known = load_window(tmp_path / "window", layout=TwoLayerQGSpec(size=SIZE).layout())
    assert (known.frames, known.longest, known.seen, known.is_rigid) == (5, 6, 6, False)
    t = COSINE_SQUARED.time_of(0.5)
    clean = known.scaling.to_scaled(TwoLayerQGSpec(size=SIZE).spun_up(Noise(9), members=range(2), years=0.02))
    clean = torch.cat([clean, torch.atan(3 * clean[:, :1])], dim=1)[:, None].float().expand(-1, 6, -1, -1, -1)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    z = COSINE_SQUARED.mu(t) * clean + COSINE_SQUARED.sigma(t) * noise
    with torch.no_grad():
        states = known.denoiser(COSINE_SQUARED, 6)(z[:, :, :2], t)
        both = known.denoiser(COSINE_SQUARED, 6, observed=(0,), maps=lambda x: torch.atan(3 * x[:, :1]))(z, t)
        rest = known.denoiser(COSINE_SQUARED, 6).given(z[:, :1, :2])(z[:, 1:, :2], t)
    assert states.shape == (2, 6, 2, SIZE, SIZE) and both.shape == z.shape and rest.shape[1] == 5
    gaussian = known.denoiser(COSINE_SQUARED, 6).gaussian.denoise(z[:, :, :2] / COSINE_SQUARED.mu(t), 0.5)
    assert not torch.equal(states, gaussian)
    assert (states - gaussian).abs().max() < 3 * gaussian.abs().max()


def test_a_network_that_is_not_that_of_the_transition_is_refused(tmp_path):
    other = config(tmp_path, network={"kind": "quadratic_spectral", **NETWORK, "stages": 2})
    with pytest.raises(ConfigError, match=r"that of data.transition .* is "):
        run_training(read_train_config(other))


def test_tasks_that_were_fitted_are_not_fitted_again(tmp_path):
    path = config(tmp_path)
    first = run_training(read_train_config(path))
    kept = sorted((tmp_path / "run").glob("gains.*.safetensors"))
    times = [part.stat().st_mtime_ns for part in kept]
    assert len(kept) == 5  # states and states with arctan, of 5 and 6 frames each; the first frame given
    kept[0].unlink()
    again = run_training(read_train_config(path))
    assert again.sha256 == first.sha256
    assert [part.stat().st_mtime_ns == before for part, before in zip(kept, times, strict=True)] == [False] + 4 * [True]
