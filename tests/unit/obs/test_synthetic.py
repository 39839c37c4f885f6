"""Observations drawn from a nature run: right mean, right error, the same bytes every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.obs.files import find_obs_file, read_obs_file
from cycler_da.obs.identity import observation_ids, stations_of
from cycler_da.obs.networks import RandomFractionSpec, StationsSpec, StrideSpec
from cycler_da.obs.points import PointsSpec
from cycler_da.obs.synthetic import draw_observations, write_synthetic
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
