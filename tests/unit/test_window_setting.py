"""Experiments that window schemes or gradients make impossible are refused when they are read."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError, LayoutMismatch, WeightsMismatch
from cycler_da.generative.diffusion.window_gaussian import persistent_lags
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.weights import WeightCard, save_weights
from cycler_da.generative.window_weights import GAMMA, load_window, pack_lags
from cycler_da.setting import load_setting
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

NETWORK = NetworkSpec("window_unet", {"frames": 3, "channels": 3, "widths": [4, 4], "patch": 2})
OBSERVED = [{"variable": "q1", "operator": {"kind": "arctan", "scale": 2.0e-6}}]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Untrained weights of windows of three to five frames that know one arctangent."""
    return saved(tmp_path_factory.mktemp("window"), OBSERVED)


def saved(folder, observed):
    eye = torch.eye(3, dtype=torch.complex128)
    lags = persistent_lags(eye.expand(64, 33, 3, 3), 0.9, 5)
    card = WeightCard(
        name="test",
        layout=TwoLayerQGSpec().layout(),
        network=NETWORK,
        scaling=Scaling((0.0, 0.0), (8.2e-6, 1.06e-6)),
        history=1,
        transition={
            "kind": "window",
            "frames": 3,
            "mirror": True,
            "observed": observed,
            "observed_mean": [0.0],
            "observed_std": [0.8],
        },
    )
    state = build_network(NETWORK).state_dict()
    save_weights(folder, card, state=state, measured={GAMMA: pack_lags(lags, mirror=True)})
    return folder


def setting(repository, monkeypatch, scheme, *more):
    monkeypatch.chdir(repository)
    chains = f"chains=[{{name: it, scheme: {scheme}}}]"
    return load_setting(repository / "config/experiments/qg_sda.yaml", [chains, *more])


@pytest.mark.parametrize(("kind", "longest"), [("sda", 5), ("pdediff", None), ("soad", 5)])
def test_window_weights_serve_the_scheme_and_say_how_long_windows_are(repository, monkeypatch, weights, kind, longest):
    (chain,) = setting(repository, monkeypatch, f"{{kind: {kind}, weights: {weights}}}").chains
    assert (chain.scheme.needs.window, chain.scheme.needs.longest_window) == (3, longest)


def test_pdediff_goes_on_for_as_long_as_a_cycle_lasts(repository, monkeypatch, weights):
    (chain,) = setting(repository, monkeypatch, f"{{kind: pdediff, weights: {weights}}}", "cycles.every=960h").chains
    assert chain.scheme.needs.longest_window is None


def test_a_smoother_in_a_window_of_one_step_is_refused(repository, monkeypatch, weights):
    with pytest.raises(ConfigError, match=r"3 frames or more.* cycles.every of 24h gives 2. Set cycles.every to 48h"):
        setting(repository, monkeypatch, f"{{kind: sda, weights: {weights}}}", "cycles.every=24h")


@pytest.mark.parametrize("kind", ["sda", "pdediff", "soad"])
def test_observations_before_the_first_frame_are_refused(repository, monkeypatch, weights, kind):
    scheme, longer = f"{{kind: {kind}, weights: {weights}}}", ["cycles.frames=null", "cycles.window=192h"]
    with pytest.raises(
        ConfigError, match=r"chains.it: .* cycles.window of 192h begins before .* Set cycles.window to 96h"
    ):
        setting(repository, monkeypatch, scheme, *longer)
    assert setting(repository, monkeypatch, scheme, "cycles.frames=null", "cycles.window=96h").chains
    assert setting(repository, monkeypatch, "{kind: letkf}", *longer).chains


def test_observations_inside_a_window_without_frames_are_noted(repository, monkeypatch, weights):
    scheme = f"{{kind: sda, weights: {weights}}}"
    assert setting(repository, monkeypatch, scheme).notes == ()
    (note,) = setting(repository, monkeypatch, scheme, "cycles.frames=null").notes
    assert "observes every 24h in windows of 96h" in note and "(chains it). Set cycles.frames to 24h" in note
    # A scheme that takes everything at the end of the window says so by itself: frames are refused there.
    assert setting(repository, monkeypatch, "{kind: enkf}", "cycles.frames=null", "cycles.every=24h").notes == ()


def test_weights_that_are_refused_name_their_chain_and_a_way_out(repository, monkeypatch, weights):
    with pytest.raises(
        WeightsMismatch, match=r"^chains.it: weights .* the config says 0123.*set sha256 to [0-9a-f]{16}"
    ):
        setting(repository, monkeypatch, f"{{kind: sda, weights: {weights}, sha256: '0123456789abcdef'}}")
    with pytest.raises(LayoutMismatch, match=r"^chains.it: layout of weights"):
        setting(repository, monkeypatch, "{kind: masf, weights: data/weights/kolmogorov/masf}")


def test_weights_with_a_bend_that_is_too_steep_serve_a_learned_relation_alone(repository, monkeypatch, tmp_path):
    steep = {"kind": "arctan", "scale": 1.0e-6}  # 8.2 of them in a climatological deviation
    folder = saved(tmp_path, [{"variable": "q1", "operator": steep}])
    seen = ("observations.insitu.draw=null", "observations.insitu.operator={kind: points}")  # by streams of any day
    with pytest.raises(ConfigError, match=r"arctan has the scale 1e-06, 8.2 of which .* relation learned \(soad\)"):
        setting(repository, monkeypatch, f"{{kind: soad, weights: {folder}}}", *seen)
    assert setting(repository, monkeypatch, f"{{kind: soad, weights: {folder}, relation: learned}}", *seen).chains


def test_a_window_longer_than_the_covariances_is_refused(repository, monkeypatch, weights):
    with pytest.raises(ConfigError, match=r"5 frames at most; cycles.every of 120h gives 6. Set it to 96h or less"):
        setting(repository, monkeypatch, f"{{kind: sda, weights: {weights}}}", "cycles.every=120h")


@pytest.mark.parametrize(
    ("operator", "is_known"), [("{kind: arctan, scale: 2.0e-6}", True), ("{kind: arctan, scale: 3.0e-6}", False)]
)
def test_soad_takes_the_operator_of_its_weights_and_no_other(repository, monkeypatch, weights, operator, is_known):
    scheme, change = f"{{kind: soad, weights: {weights}}}", f"observations.insitu.operator={operator}"
    changes = (change, "observations.insitu.draw.network.variables=[q1]")
    if is_known:
        assert setting(repository, monkeypatch, scheme, *changes).chains
        return
    message = r"not made for the operator arctan \(scale 3e-06\); they know arctan \(scale 2e-06\) of q1"
    with pytest.raises(ConfigError, match=message):
        setting(repository, monkeypatch, scheme, *changes)


def test_soad_refuses_a_variable_that_its_weights_do_not_know_through_an_operator_that_they_do(
    repository, monkeypatch, weights
):
    scheme, operator = (
        f"{{kind: soad, weights: {weights}}}",
        "observations.insitu.operator={kind: arctan, scale: 2.0e-6}",
    )
    message = r"stream insitu observes q2 through arctan \(scale 2e-06\), .* they know arctan \(scale 2e-06\) of q1"
    with pytest.raises(ConfigError, match=message):
        setting(repository, monkeypatch, scheme, operator)


def test_soad_refuses_curves_of_stations_between_cells_and_takes_their_values(repository, monkeypatch, weights):
    scheme, stations = f"{{kind: soad, weights: {weights}}}", "{kind: stations, count: 30, variables: [q1]}"
    network = f"observations.insitu.draw.network={stations}"
    with pytest.raises(ConfigError, match=r"stream insitu observes between cells through arctan; .* or scheme sda"):
        setting(repository, monkeypatch, scheme, network, "observations.insitu.operator={kind: arctan, scale: 2.0e-6}")
    assert setting(repository, monkeypatch, scheme, network).chains


def test_what_files_will_say_is_left_to_the_analysis(repository, monkeypatch, weights):
    scheme = f"{{kind: soad, weights: {weights}}}"
    changes = ("observations.insitu.draw=null", "observations.insitu.operator={kind: arctan, scale: 2.0e-6}")
    assert setting(repository, monkeypatch, scheme, *changes).chains


@pytest.mark.parametrize("kind", ["sda", "pdediff", "soad"])
def test_an_operator_without_a_derivative_is_refused(repository, monkeypatch, kind):
    change = "observations.insitu.operator={kind: exceeds, threshold: 1.0e-6}"
    with pytest.raises(ConfigError, match=r"exceeds"):
        setting(repository, monkeypatch, f"{{kind: {kind}}}", change)


def test_a_filter_takes_such_an_operator(repository, monkeypatch):
    change = "observations.insitu.operator={kind: exceeds, threshold: 1.0e-6}"
    assert setting(repository, monkeypatch, "{kind: letkf}", change).chains


def test_weights_of_a_transition_are_no_weights_of_windows(repository, monkeypatch):
    with pytest.raises(WeightsMismatch, match="window schemes"):
        setting(repository, monkeypatch, "{kind: sda, weights: data/weights/two_layer_qg/quadratic_spectral}")


def test_weights_of_windows_are_no_forecast_model(repository, monkeypatch, weights):
    with pytest.raises(WeightsMismatch):
        setting(repository, monkeypatch, "{kind: letkf}", f"forecast.weights={weights}")


def test_what_is_saved_is_loaded(weights):
    known = load_window(weights, layout=TwoLayerQGSpec().layout())
    eye = torch.eye(3, dtype=torch.complex128)
    torch.testing.assert_close(known.lags, persistent_lags(eye.expand(64, 33, 3, 3), 0.9, 5), rtol=0, atol=1e-12)
    assert (known.frames, known.longest, known.n_states) == (3, 5, 2)
