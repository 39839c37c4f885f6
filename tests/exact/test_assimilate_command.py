"""`cycler assimilate` on files of a user equals the Kalman analysis of the sample statistics.

With a linear H and no localization the LETKF's analysis mean and covariance are those of the Kalman filter whose
background mean and covariance are the sample statistics of the members (Hunt et al. 2007, Physica D 230, section 2.2),
and increments of members follow from the same transform. The files are written with netCDF4 alone, float64.
"""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
from typer.testing import CliRunner

from cycler_da.cli import app

N_MEMBERS = 7
ERROR = (0.3, 0.8)
OBSERVED = (0, 2)  # which of the three variables
OBS = (1.4, -0.6)

#: Rounding of float64 through two eigen-decompositions; the analysis itself is exact.
TOLERANCE = 1e-8


def members() -> np.ndarray:
    """An ensemble (member, variable) of three correlated Gaussian variables of different size."""
    draws = np.random.default_rng(11).standard_normal((N_MEMBERS, 3))
    mixing = np.array([[1.0, 0.5, -0.3], [0.0, 0.8, 0.6], [0.0, 0.0, 2.0]])
    return draws @ mixing + np.array([0.2, 1.0, -2.0])


def kalman(background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Analysis mean and covariance for the sample mean and covariance of the members."""
    mean, covariance = background.mean(axis=0), np.cov(background.T)
    h = np.eye(3)[list(OBSERVED)]
    gain = covariance @ h.T @ np.linalg.inv(h @ covariance @ h.T + np.diag(np.square(ERROR)))
    return mean + gain @ (np.array(OBS) - h @ mean), (np.eye(3) - gain @ h) @ covariance


def write_line(folder: Path) -> tuple[Path, Path]:
    """(realization, x): the three variables are three points of one field."""
    background, observations = folder / "background.nc", folder / "observations.nc"
    with netCDF4.Dataset(background, "w") as file:
        file.createDimension("realization", N_MEMBERS)
        file.createDimension("x", 3)
        file.createVariable("u", "f8", ("realization", "x"))[:] = members()
    with netCDF4.Dataset(observations, "w") as file:
        positions = {"x": [float(index) for index in OBSERVED]}
        _write_observations(file, positions, {"u": (list(OBS), list(ERROR))})
    return background, observations


def write_channels(folder: Path) -> tuple[Path, Path]:
    """(realization, channel, y, x): three channels on one point; every channel has its own observations."""
    background, observations = folder / "background.nc", folder / "observations.nc"
    with netCDF4.Dataset(background, "w") as file:
        for name, size in (("realization", N_MEMBERS), ("channel", 3), ("y", 1), ("x", 1)):
            file.createDimension(name, size)
        file.createVariable("u", "f8", ("realization", "channel", "y", "x"))[:] = members()[:, :, None, None]
    with netCDF4.Dataset(observations, "w") as file:
        pairs = {f"u_{index + 1}": ([value], [error]) for index, value, error in zip(OBSERVED, OBS, ERROR, strict=True)}
        _write_observations(file, {"y": [0.0], "x": [0.0]}, pairs)
    return background, observations


def _write_observations(
    file: netCDF4.Dataset,
    positions: dict[str, list[float]],
    pairs: dict[str, tuple[list[float], list[float]]],
    *,
    seconds: tuple[int, ...] | int = 0,
) -> None:
    n_locations = len(next(iter(positions.values())))
    file.createDimension("Location", n_locations)
    metadata = file.createGroup("MetaData")
    times = metadata.createVariable("dateTime", "i8", ("Location",))
    times.units = "seconds since 1970-01-01T00:00:00Z"
    times[:] = seconds
    for name, along in positions.items():
        metadata.createVariable(name, "f8", ("Location",))[:] = along
    for position, group in enumerate(("ObsValue", "ObsError")):
        for name, columns in pairs.items():
            made = file.groups[group] if group in file.groups else file.createGroup(group)
            made.createVariable(name, "f8", ("Location",))[:] = columns[position]


def write_window(folder: Path) -> tuple[Path, Path, np.ndarray]:
    """(realization, time, x): three hourly frames, and observations at the first and half past the second hour."""
    background, observations = folder / "background.nc", folder / "observations.nc"
    last = members()
    frames = np.stack([np.tanh(last), 0.5 * last[:, ::-1], last], axis=1)
    with netCDF4.Dataset(background, "w") as file:
        for name, size in (("realization", N_MEMBERS), ("time", 3), ("x", 3)):
            file.createDimension(name, size)
        times = file.createVariable("time", "i8", ("time",))
        times.units = "seconds since 1970-01-01T00:00:00Z"
        times[:] = [0, 3600, 7200]
        file.createVariable("u", "f8", ("realization", "time", "x"))[:] = frames
    with netCDF4.Dataset(observations, "w") as file:
        positions = {"x": [float(index) for index in OBSERVED]}
        _write_observations(file, positions, {"u": (list(OBS), list(ERROR))}, seconds=(0, 5400))
    return background, observations, frames


def read_members(path: Path) -> np.ndarray:
    """Members (member, variable) of an analysis, read with netCDF4 alone."""
    with netCDF4.Dataset(path) as file:
        names = [name for name in ("u", "u_1", "u_2", "u_3") if name in file.variables]
        parts = [np.asarray(file.variables[name][:]).reshape(N_MEMBERS, -1) for name in names]
        assert all(part.dtype == np.float64 for part in parts)
        return np.concatenate(parts, axis=1)


def assimilate(background: Path, observations: Path, output: Path, *options: str) -> str:
    arguments = ["assimilate", "--background", str(background), "--observations", str(observations)]
    plain = ("localization_radius_cells=null", "inflation=1.0", "qc.background_check=null")
    settings = [word for setting in plain for word in ("--set", setting)]
    done = CliRunner().invoke(app, [*arguments, "--scheme", "letkf", *settings, "--output", str(output), *options])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("write", [write_line, write_channels])
def test_letkf_equals_the_kalman_analysis_of_the_sample_statistics(write, tmp_path):
    said = assimilate(*write(tmp_path), tmp_path / "analysis.nc")
    analysed = read_members(tmp_path / "analysis.nc")
    mean, covariance = kalman(members())
    np.testing.assert_allclose(analysed.mean(axis=0), mean, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(np.cov(analysed.T), covariance, rtol=0, atol=TOLERANCE)
    assert "2 USED" in said


@pytest.mark.parametrize("write", [write_line, write_channels])
def test_mean_and_spread_in_the_file_are_those_of_its_members(write, tmp_path):
    assimilate(*write(tmp_path), tmp_path / "analysis.nc")
    analysed = read_members(tmp_path / "analysis.nc")
    with netCDF4.Dataset(tmp_path / "analysis.nc") as file:
        names = sorted(name for name in file.variables if name.endswith(("_mean", "_spread")))
        statistics = {name: np.asarray(file.variables[name][:]).ravel() for name in names}
    means = np.concatenate([values for name, values in statistics.items() if name.endswith("_mean")])
    spreads = np.concatenate([values for name, values in statistics.items() if name.endswith("_spread")])
    np.testing.assert_allclose(means, analysed.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(spreads, analysed.std(axis=0, ddof=1), rtol=1e-13)


def test_feedback_holds_the_departures_of_both_sides(tmp_path):
    background, observations = write_line(tmp_path)
    assimilate(background, observations, tmp_path / "analysis.nc", "--feedback", str(tmp_path / "feedback"))
    mean, covariance = kalman(members())
    with netCDF4.Dataset(tmp_path / "feedback" / "observations.nc") as file:
        # Rows have an order of their own; positions tell which is which.
        order = np.argsort(np.asarray(file.groups["MetaData"].variables["x"][:]))
        ombg, oman, spread = (
            np.asarray(file.groups[name].variables["u"][:])[order] for name in ("ombg", "oman", "hofxa_spread")
        )
    h = list(OBSERVED)
    np.testing.assert_allclose(ombg, np.array(OBS) - members().mean(axis=0)[h], atol=TOLERANCE)
    np.testing.assert_allclose(oman, np.array(OBS) - mean[h], atol=TOLERANCE)
    np.testing.assert_allclose(spread, np.sqrt(np.diag(covariance)[h]), atol=TOLERANCE)


def test_observations_without_error_are_no_observations(tmp_path):
    background, observations = write_line(tmp_path)
    with netCDF4.Dataset(observations, "r+") as file:
        file.groups["ObsError"].variables["u"][:] = np.ma.masked
    assimilate(background, observations, tmp_path / "analysis.nc")
    np.testing.assert_array_equal(read_members(tmp_path / "analysis.nc"), members())


def test_the_order_of_settings_and_of_observations_does_not_matter(tmp_path):
    background, observations = write_line(tmp_path)
    assimilate(background, observations, tmp_path / "a.nc", "--seed", "3")
    with netCDF4.Dataset(observations, "r+") as file:
        for group in file.groups.values():
            for variable in group.variables.values():
                variable[:] = variable[::-1]
    assimilate(background, observations, tmp_path / "b.nc", "--seed", "3")
    np.testing.assert_array_equal(read_members(tmp_path / "a.nc"), read_members(tmp_path / "b.nc"))


@pytest.mark.parametrize(
    ("settings", "code", "text"),
    [
        (["inflaton=1.0"], 78, "Did you mean 'inflation'?"),
        (["qc.background_chek=1"], 78, "Did you mean 'background_check'?"),
        (["inflation"], 78, "write key=value"),
        (["operator.kind=point"], 78, "points"),
    ],
)
def test_a_wrong_setting_writes_nothing(tmp_path, settings, code, text):
    background, observations = write_line(tmp_path)
    output = tmp_path / "analysis.nc"
    words = [word for setting in settings for word in ("--set", setting)]
    arguments = ["--background", str(background), "--observations", str(observations), "--output", str(output), *words]
    done = CliRunner().invoke(app, ["assimilate", *arguments])
    assert done.exit_code == code
    assert text in done.output
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("background", lambda path: path.unlink(), 69),
        ("background", lambda path: path.write_bytes(b"not NetCDF"), 65),
        ("observations", lambda path: path.unlink(), 65),
        ("observations", lambda path: path.write_bytes(path.read_bytes()[:400]), 65),
    ],
    ids=["no background", "damaged background", "no observations", "damaged observations"],
)
def test_a_file_that_cannot_be_read_writes_nothing(tmp_path, name, change, code):
    paths = dict(zip(("background", "observations"), write_line(tmp_path), strict=True))
    change(paths[name])
    output = tmp_path / "analysis.nc"
    arguments = [word for key, path in paths.items() for word in (f"--{key}", str(path))]
    done = CliRunner().invoke(app, ["assimilate", *arguments, "--output", str(output)])
    assert done.exit_code == code, done.output
    assert str(paths[name]) in done.output
    assert not output.exists()


def test_observations_inside_the_window_are_compared_with_the_members_at_their_own_times(tmp_path):
    background, observations, frames = write_window(tmp_path)
    assimilate(background, observations, tmp_path / "analysis.nc")
    analysed, x = read_members(tmp_path / "analysis.nc"), frames[:, 2]
    seen = np.stack([frames[:, 0, OBSERVED[0]], frames[:, 1:, OBSERVED[1]].mean(axis=1)], axis=1)
    joint = np.cov(np.concatenate([x, seen], axis=1).T)
    p_xy, p_yy = joint[:3, 3:], joint[3:, 3:]
    gain = p_xy @ np.linalg.inv(p_yy + np.diag(np.square(ERROR)))
    mean = x.mean(axis=0) + gain @ (np.array(OBS) - seen.mean(axis=0))
    np.testing.assert_allclose(analysed.mean(axis=0), mean, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(np.cov(analysed.T), joint[:3, :3] - gain @ p_xy.T, rtol=0, atol=TOLERANCE)


def test_one_member_is_refused_before_any_product(tmp_path):
    _, observations = write_line(tmp_path)
    with netCDF4.Dataset(tmp_path / "one.nc", "w") as file:
        file.createDimension("realization", 1)
        file.createDimension("x", 3)
        file.createVariable("u", "f8", ("realization", "x"))[:] = members()[:1]
    output = tmp_path / "analysis.nc"
    arguments = ["--background", str(tmp_path / "one.nc"), "--observations", str(observations), "--output", str(output)]
    done = CliRunner().invoke(app, ["assimilate", *arguments, "--scheme", "letkf"])
    assert done.exit_code == 70
    assert "letkf: the background has 1 members; expected 2 or more" in " ".join(done.output.split())
    assert not output.exists()
