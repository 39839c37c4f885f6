"""The network of whole windows: published size, what it sees, and that windows are denoised with it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
import yaml

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.generative.diffusion.schedule import COSINE_SQUARED
from cycler_da.generative.diffusion.window_gaussian import measure_lags
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.networks.window_temporal import TemporalUNet, WindowTemporal
from cycler_da.generative.training import TrainSettings
from cycler_da.generative.window_training import WindowData, WindowFit
from cycler_da.generative.window_weights import load_window
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec
from cycler_da.training_run import read_train_config, run_training

SMALL = {"frames": 11, "channels": 1, "widths": [2, 3, 4], "blocks": 1, "kernel": 3}


def small() -> WindowTemporal:
    """A network with weights at random everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WindowTemporal(**SMALL)


def level(n: int) -> torch.Tensor:
    return torch.ones(n, 1 + 1 + 11) * 0.3


@pytest.mark.parametrize(("channels", "count"), [(2, 3_722_658), (4, 3_724_260), (6, 3_725_862), (10, 3_729_066)])
def test_at_the_published_size_it_has_the_published_number_of_parameters(channels, count):
    network = TemporalUNet(
        frames=9, inputs=channels, outputs=channels, levels=32, widths=(16, 32, 64), blocks=3, kernel=5
    )
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_a_frame_sees_four_frames_each_way_and_no_more():
    network, fields = small(), torch.randn(1, 22, 8, 8)
    moved = fields.clone()
    moved[:, 0] += 1.0  # the noisy field of the first frame
    change = (network(moved, level(1)) - network(fields, level(1)))[0].abs().amax(dim=(1, 2))
    assert bool((change[:5] > 0).all()) and bool((change[5:] == 0).all())


def test_shifts_by_cells_of_the_coarsest_grid_commute_with_it():
    network, fields = small(), torch.randn(2, 22, 8, 12)
    shifted = network(fields.roll((4, 8), (2, 3)), level(2))
    torch.testing.assert_close(shifted, network(fields, level(2)).roll((4, 8), (2, 3)), rtol=0, atol=1e-5)


def test_windows_of_a_batch_do_not_know_each_other():
    network, generator = small().double(), torch.Generator().manual_seed(0)
    fields = torch.randn(3, 22, 8, 8, generator=generator, dtype=torch.float64)
    together, alone = (network(some, level(len(some)).double()) for some in (fields, fields[1:2]))
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-12)


def test_untrained_it_corrects_nothing():
    network = build_network(NetworkSpec("window_temporal", SMALL))
    assert torch.equal(network(torch.randn(1, 22, 8, 8), level(1)), torch.zeros(1, 11, 8, 8))


def test_sizes_and_grids_that_cannot_be_are_refused():
    for changed in ({"kernel": 4}, {"blocks": 0}, {"widths": []}, {"frames": 0}):
        with pytest.raises(ConfigError, match="window_temporal"):
            WindowTemporal(**{**SMALL, **changed})
    with pytest.raises(LayoutMismatch, match=r"\(6, 8\), each side must be a multiple of 4"):
        small()(torch.randn(1, 22, 6, 8), level(1))


def test_windows_of_qg_are_trained_and_denoised_with_it(tmp_path):
    layout = TwoLayerQGSpec(size=16).layout()
    path = tmp_path / "train.yaml"
    blocks = {
        "name": "test/window",
        "out": str(tmp_path / "window"),
        "run_folder": str(tmp_path / "run"),
        "data": {
            "kind": "simulated_windows",
            "system": {"kind": "two_layer_qg", "size": 16, "step": "24h"},
            "seed": 1,
            "trajectories": 2,
            "steps": 8,
            "held_out": 1,
            "spin_up_years": 0.02,
            "lags": 5,
            "mirror": True,
        },
        "scaling": {"mean": [0.0, 0.0], "std": [8.2e-6, 1.06e-6]},
        "network": {"kind": "window_temporal", "frames": 3, "channels": 2, "widths": [4, 4], "blocks": 1, "kernel": 3},
        "fit": {"steps": 3, "batch": 2, "learning_rate": 1.0e-3, "warm_up": 1, "checkpoint_every": 3},
    }
    path.write_text(yaml.safe_dump(blocks))
    run_training(read_train_config(path))
    known = load_window(tmp_path / "window", layout=layout)
    denoiser = known.denoiser(COSINE_SQUARED, 5)  # composed of windows of three frames
    z, t = torch.randn(2, 5, 2, 16, 16), COSINE_SQUARED.time_of(1.0)
    with torch.no_grad():
        answer, gaussian = denoiser(z, t), replace(denoiser, network=None)(z, t)
    # Three small steps from a network that corrects nothing: a correction there is, and a small one.
    assert 0 < float((answer - gaussian).norm()) < 0.1 * float(gaussian.norm())


def test_a_step_of_training_stays_on_the_device_of_the_network():
    # Tensors on "meta" refuse to be mixed with those of the processor, as those of a GPU do.
    spec = NetworkSpec("window_temporal", {**SMALL, "channels": 2, "frames": 3})
    fields = torch.randn(2, 8, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    data = WindowData(fields, fields, measure_lags(fields, 5, mirror=True), n_states=2, mirror=True)
    fit, network = WindowFit(data, TrainSettings(network=spec, steps=8, batch=2)), build_network(spec)
    at_home, away = copy.deepcopy(network), network.to("meta")
    for step in range(8):
        fit.loss(away, step).backward()
        assert math.isfinite(float(fit.loss(at_home, step).detach()))
    drawn = {fit.draw_task(torch.Generator().manual_seed(step)) for step in range(8)}
    assert len({(task.frames, task.n_given) for task in drawn}) > 2  # long, short and given ones
    assert all(weight.grad is not None and weight.grad.is_meta for weight in away.parameters())
