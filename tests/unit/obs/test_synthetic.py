"""Observations drawn from a nature run: right mean, right error, the same bytes every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.config import load_config
from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.obs.error_laws import ErrorLaw
from cycler_da.obs.files import find_obs_file, read_obs_file
from cycler_da.obs.identity import observation_ids, stations_of
from cycler_da.obs.networks import RandomFractionSpec, StationsSpec, StrideSpec
from cycler_da.obs.points import PointsSpec
from cycler_da.obs.synthetic import draw_observations, write_synthetic
from cycler_da.setting import build_setting
from cycler_da.times import time_stamp

ERROR = {"q1": 0.5, "q2": 0.01}
HOUR = np.timedelta64(3600, "s")


def _truth(layout):
    return torch.randn(*layout.state_shape, generator=torch.Generator().manual_seed(9))


def _draw(layout, time, *, seed=1, network=None, stream="net", error=None):
    return draw_observations(
        _truth(layout),
        layout,
        time,
        network=(network or StationsSpec(count=30)).build(layout),
        error=error or ERROR,
        noise=Noise.of_cycle(seed, time),
        stream=stream,
    )


def test_errors_have_mean_zero_and_the_given_standard_deviation(torus, valid_time):
    batch = _draw(torus, valid_time, network=StationsSpec(count=20000))
    hx = batch.hx(_truth(torus)[None].to(torch.float64), torus)[0]
    for channel, std in enumerate(ERROR.values()):
        departures = (batch.values - hx)[batch.where.channel == channel] / std
        # 20000 normal draws: the mean is within 4 / sqrt(n), the deviation within 4 / sqrt(2 n), fixed seed.
        assert abs(float(departures.mean())) < 0.028
        assert float(departures.std()) == pytest.approx(1.0, abs=0.02)
    assert sorted(set(batch.error.tolist())) == [0.01, 0.5]


def test_an_observation_with_hardly_any_error_is_the_truth(torus, valid_time):
    batch = _draw(torus, valid_time, network=StrideSpec(stride=1), error={"q1": 1e-12, "q2": 1e-12})
    torch.testing.assert_close(batch.values, _truth(torus).flatten().to(torch.float64), rtol=0, atol=1e-11)


def test_draws_are_keyed_by_seed_time_stream_and_variable(torus, valid_time):
    base = _draw(torus, valid_time).values.tolist()
    assert _draw(torus, valid_time).values.tolist() == base
    fixed = {"network": StrideSpec(stride=2)}
    place = _draw(torus, valid_time, **fixed).values
    for change in ({"seed": 2}, {"stream": "other"}):
        assert not bool((_draw(torus, valid_time, **fixed, **change).values == place).any())
    assert not bool((_draw(torus, valid_time + HOUR, **fixed).values == place).any())
    alone = _draw(torus, valid_time, network=StrideSpec(stride=2, variables=("q2",)))
    assert torch.equal(alone.values, place[-len(alone) :])


def test_files_of_two_runs_are_equal_byte_for_byte(torus, valid_time, tmp_path):
    times = [valid_time + i * HOUR for i in range(3)]
    written = []
    paths = [
        write_synthetic(
            lambda time: _truth(torus),
            tmp_path / run,
            layout=torus,
            times=chosen,
            stream="net",
            network=RandomFractionSpec(fraction=0.2).build(torus),
            error=ERROR,
            seed=4,
            on_written=written.append,
        )
        for run, chosen in (("a", times), ("b", times[::-1]))
    ]
    assert written == [*paths[0], *paths[1]]
    assert [path.name for path in paths[0]] == [f"net_{time_stamp(time)}.nc" for time in times]
    for first, second in zip(paths[0], reversed(paths[1]), strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert paths[0][0].read_bytes() != paths[0][1].read_bytes()


def test_a_written_window_is_read_as_it_was_drawn(torus, valid_time, tmp_path):
    network = StationsSpec(count=30).build(torus)
    write_synthetic(
        lambda time: _truth(torus), tmp_path, layout=torus, times=[valid_time], stream="net", network=network,
        error=ERROR, seed=1,
    )  # fmt: skip
    path = find_obs_file(tmp_path, "net", time_stamp(valid_time))
    operator = PointsSpec().build(torus)
    (read,) = read_obs_file(path, torus, stream="net", operators={"q1": operator, "q2": operator})
    drawn = _draw(torus, valid_time)
    expected = dict(zip(drawn.ids.tolist(), drawn.values.tolist(), strict=True))
    assert dict(zip(read.ids.tolist(), read.values.tolist(), strict=True)) == expected
    assert set(read.times.tolist()) == {valid_time.astype(object)}


@pytest.mark.parametrize(
    ("error", "text"),
    [({"q1": 1.0}, "no error for q2; got errors for q1"), ({"q1": 1.0, "q2": 0.0}, "got error 0.0 for q2")],
)
def test_errors_that_cannot_be_used_are_refused(torus, valid_time, error, text):
    with pytest.raises(ConfigError, match=text):
        _draw(torus, valid_time, error=error)


def test_an_id_names_station_variable_time_and_place_but_not_the_value(valid_time):
    def one(station="s/1", variable="q1", time=valid_time, place=(1.0, 2.0)):
        (found,) = observation_ids(
            [station], variables=[variable], times=np.asarray([time]), position=np.asarray([place])
        )
        return found

    assert one() == one(place=(1.0 + 1e-12, 2.0))
    others = [one(station="s/2"), one(variable="q2"), one(time=valid_time + HOUR), one(place=(1.1, 2.0))]
    assert len({one(), *others}) == 5
    assert one(place=(0.0, 2.0)) == one(place=(-0.0, 2.0))
    assert stations_of(np.asarray([one(), one(station="")])).tolist() == ["s/1", ""]
    # A stored id must never change: files and feedback of earlier runs are compared by it.
    assert one() == "s/1/7bb05f25e1d5e8f7"


LAWS = [
    ErrorLaw(),
    ErrorLaw("laplace"),
    ErrorLaw("uniform"),
    *(ErrorLaw("lognormal", s) for s in (0.1, 0.2, 0.5, 1.0)),
]


def _moments(law):
    """Skewness and excess kurtosis."""
    if law.name != "lognormal":
        return 0.0, {"gaussian": 0.0, "laplace": 3.0, "uniform": -1.2}[law.name]
    w = np.exp(law.shape**2)
    return (w + 2) * np.sqrt(w - 1), w**4 + 2 * w**3 + 3 * w**2 - 6


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.words)
def test_errors_of_every_law_have_mean_zero_and_variance_one_and_their_own_shape(law):
    n = 400_000
    drawn = law.draw(Noise(3).generator("law"), n)
    skewness, kurtosis = _moments(law)
    # Five deviations of the mean and of the variance of n draws.
    assert abs(drawn.mean()) < 5 / np.sqrt(n)
    assert abs(drawn.var() - 1.0) < 5 * np.sqrt((kurtosis + 2.0) / n)
    # The densities' medians are known as well; theirs is 1.25 / sqrt(n) for the Gaussian, less for the others.
    s = law.shape or 0.0
    median = (1.0 - np.exp(s**2 / 2)) / np.sqrt(np.expm1(s**2) * np.exp(s**2)) if s else 0.0
    assert np.median(drawn) == pytest.approx(median, abs=5 * 1.75 / np.sqrt(n))
    if kurtosis < 10:  # beyond, the sixth and eighth moments say that n draws do not know them
        assert (drawn**3).mean() == pytest.approx(skewness, abs=0.1)
        assert (drawn**4).mean() - 3.0 == pytest.approx(kurtosis, abs=0.5)


def test_drawn_observations_have_the_law_and_the_deviation_that_are_asked_for(torus, valid_time):
    options = {"network": StationsSpec(count=20000).build(torus), "error": ERROR, "stream": "net"}
    noise = Noise.of_cycle(1, valid_time)
    batch = draw_observations(_truth(torus), torus, valid_time, noise=noise, law=ErrorLaw("uniform"), **options)
    hx = batch.hx(_truth(torus)[None].to(torch.float64), torus)[0]
    departures = (batch.values - hx) / batch.error
    assert float(departures.abs().max()) == pytest.approx(np.sqrt(3.0), rel=1e-3)  # of 40000
    assert float(departures.std()) == pytest.approx(1.0, abs=0.02)
    again = draw_observations(_truth(torus), torus, valid_time, noise=noise, law=ErrorLaw("uniform"), **options)
    assert torch.equal(batch.values, again.values)


@pytest.mark.parametrize("error", ["0.0", "-0.1", ".nan", ".inf"])
def test_a_drawn_error_that_is_no_deviation_is_refused_when_the_config_is_read(error):
    path = "config/experiments/lorenz96_half_observed.yaml"
    key = f"observations.{load_config(path).observations[0].stream}.draw.error"
    with pytest.raises(ConfigError, match=r"draw: the error of u is .*; expected a standard deviation above 0"):
        build_setting(load_config(path, [f"{key}={{u: {error}}}"]))


@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [
        ("cauchy", None, "law is 'cauchy'; valid: gaussian, laplace, uniform, lognormal"),
        ("uniform", 0.5, "law_shape is 0.5, and law uniform has no shape"),
        ("lognormal", 0.0, "law_shape is 0.0; expected s of the log-normal"),
        ("lognormal", float("nan"), "law_shape is nan"),
        ("lognormal", 3.0, "law_shape is 3.0"),
    ],
)
def test_a_law_that_cannot_be_drawn_is_refused(name, shape, text):
    with pytest.raises(ConfigError, match=text):
        ErrorLaw(name, shape)


def test_a_config_gives_its_streams_their_law_and_keeps_its_digest_without_one():
    path = "config/experiments/lorenz96_half_observed.yaml"
    plain = load_config(path)
    (stream,) = plain.observations
    key = f"observations.{stream.stream}.draw"
    changed = load_config(path, [f"{key}.law=lognormal", f"{key}.law_shape=1.0"])
    assert build_setting(changed).streams[0].law == ErrorLaw("lognormal", 1.0)
    assert load_config(path, [f"{key}.law=gaussian"]).digest == plain.digest != changed.digest
    with pytest.raises(ConfigError, match=rf"{key}: law is 'cauchy'"):
        build_setting(load_config(path, [f"{key}.law=cauchy"]))
    with pytest.raises(ConfigError, match=r"draw.law is laplace with error_scale control"):
        build_setting(load_config(path, [f"{key}.law=laplace", f"{key}.error_scale=control"]))
