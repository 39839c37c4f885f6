"""Small experiments on disk for tests of figures and pages, written by the file contract with plain netCDF4."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np
from PIL import Image

from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.times import epoch_seconds, iso_time, time_stamp

START = np.datetime64("2020-03-01T00:00:00", "s")
FILL = -9999.0
LAEA = {
    "grid_mapping_name": "lambert_azimuthal_equal_area",
    "latitude_of_projection_origin": 38.0,
    "longitude_of_projection_origin": -98.0,
    "false_easting": 0.0,
    "false_northing": 0.0,
    "earth_radius": 6370997.0,
}


def qg_layout(size: int = 64) -> Layout:
    spacing = 1.0e6 / size
    axes = tuple(Axis(name, size, spacing, spacing / 2, "m", periodic=True) for name in ("y", "x"))
    variables = tuple(Variable(f"q{k}", "s-1", f"potential vorticity anomaly, layer {k}") for k in (1, 2))
    return Layout("two_layer_qg", variables, Grid(axes), np.timedelta64(86400, "s"))


def radar_layout(size: int = 128) -> Layout:
    spacing = 384e3 / size
    axes = (Axis("y", size, spacing, -120e3 + spacing / 2), Axis("x", size, spacing, 950e3 + spacing / 2))
    variable = Variable("vil", "kg m-2", "vertically integrated liquid", 0.0, 80.0)
    return Layout("sevir", (variable,), Grid(axes, LAEA), np.timedelta64(300, "s"))


def lorenz_layout(size: int = 40) -> Layout:
    axes = (Axis("x", size, 1.0, 0.0, "1", periodic=True),)
    return Layout("lorenz96", (Variable("u", "1", "Lorenz 96 variable"),), Grid(axes), np.timedelta64(21600, "s"))


@dataclass(frozen=True)
class Fields:
    """Everything one cycle shows, `(variable, *space)`."""

    truth: np.ndarray
    background: np.ndarray
    background_spread: np.ndarray
    analysis: np.ndarray
    analysis_spread: np.ndarray


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], *, n_waves: int = 4, slope: float = 1.5
) -> np.ndarray:
    """A periodic random field of unit variance with wavenumbers up to a few times `n_waves`."""
    waves = np.sqrt(sum(np.square(np.fft.fftfreq(n) * n).reshape([-1 if i == j else 1 for j in range(len(shape))])
                        for i, n in enumerate(shape)))  # fmt: skip
    amplitude = (1 + (waves / n_waves) ** 2) ** (-slope)
    amplitude.flat[0] = 0
    field = np.fft.ifftn(np.fft.fftn(rng.standard_normal(shape)) * amplitude).real
    return field / field.std()


def qg_fields(layout: Layout, step: int, *, error: float = 0.08, seed: int = 3) -> Fields:
    rng = np.random.default_rng([seed, step])
    base = np.random.default_rng(seed)
    scale = np.array([8.2e-6, 1.06e-6])[:, None, None]
    shape = layout.grid.shape
    truth = np.stack([np.roll(smooth_noise(base, shape), 2 * step, axis=1) for _ in range(2)]) * scale
    wrong = np.stack([smooth_noise(rng, shape, n_waves=7) for _ in range(2)]) * scale
    other = np.stack([smooth_noise(rng, shape, n_waves=7) for _ in range(2)]) * scale
    texture = 1 + 0.4 * np.stack([smooth_noise(rng, shape) for _ in range(2)])
    growth = 1.6 * error
    return Fields(
        truth=truth,
        background=truth + growth * wrong,
        background_spread=np.abs(growth * scale * texture),
        analysis=truth + error * (0.6 * wrong + 0.8 * other),
        analysis_spread=np.abs(error * scale * texture),
    )


def radar_fields(layout: Layout, step: int, *, seed: int = 5) -> Fields:
    rng = np.random.default_rng([seed, step])
    base = np.random.default_rng(seed)
    shape = layout.grid.shape
    rough = np.roll(smooth_noise(base, shape, n_waves=6, slope=1.1), 2 * step, axis=1)
    truth = np.where(rough > 0.4, np.exp(1.9 * (rough - 0.4)) * 0.4 - 0.4, 0.0)
    factor = np.exp(0.35 * smooth_noise(rng, shape, n_waves=8))
    spread = 0.35 * truth * (1 + 0.3 * smooth_noise(rng, shape)) + 0.02
    background, analysis = np.maximum(truth * factor, 0), np.maximum(truth * factor**0.4, 0)
    analysis[:, :6] = np.nan  # a strip that no radar sees
    return Fields(*(one[None] for one in (truth, background, np.abs(spread), analysis, np.abs(spread) * 0.6)))


def lorenz_fields(layout: Layout, step: int, *, seed: int = 7) -> Fields:
    rng = np.random.default_rng([seed, step])
    truth = 2.4 + 3.6 * smooth_noise(rng, layout.grid.shape, n_waves=6)[None]
    noise = smooth_noise(rng, layout.grid.shape, n_waves=9)[None]
    ones = np.ones_like(truth)
    return Fields(truth, truth + 0.6 * noise, 0.6 * ones, truth + 0.3 * noise, 0.3 * ones)


def write_cycle(
    folder: Path,
    layout: Layout,
    fields: Fields,
    *,
    step: int = 1,
    chain: str = "letkf",
    with_background: bool = True,
    with_truth: bool = True,
    n_obs: int | None = 400,
) -> Path:
    """Write a cycle folder: fields, feedback of one stream, statistics and summary."""
    valid = START + step * layout.step
    (folder / "diag").mkdir(parents=True, exist_ok=True)
    facts = {"experiment": "sample", "chain": chain, "scheme": chain, "n_members": 20, "init": valid - layout.step}
    if with_background:
        layers = {"_mean": fields.background, "_spread": fields.background_spread}
        _write_fields(folder / "background.nc", layout, layers, valid=valid, kind="background", **facts)
        increment = {"": fields.analysis - fields.background}
        _write_fields(folder / "increment.nc", layout, increment, valid=valid, kind="increment", **facts)
    layers = {"_mean": fields.analysis, "_spread": fields.analysis_spread}
    _write_fields(folder / "analysis.nc", layout, layers, valid=valid, kind="analysis", **{**facts, "init": valid})
    if with_truth:
        _write_fields(folder / "diag" / "truth.nc", layout, {"": fields.truth}, valid=valid, kind="truth", **facts)
    if n_obs is not None and with_background:
        (folder / "feedback").mkdir(exist_ok=True)
        write_feedback(folder / "feedback" / "stations.nc", layout, fields, n_obs=n_obs, step=step)
    return folder


def _write_fields(path: Path, layout: Layout, layers: dict[str, np.ndarray], *, valid: np.datetime64, **facts) -> None:
    with netCDF4.Dataset(path, "w") as target:
        target.createDimension("time", 1)
        for axis in layout.grid.axes:
            target.createDimension(axis.name, axis.size)
            target.createVariable(axis.name, "f8", (axis.name,))[:] = axis.centres()
        for name, time in (("time", valid), ("forecast_reference_time", facts.pop("init"))):
            variable = target.createVariable(name, "i8", ("time",) if name == "time" else ())
            variable.units = "seconds since 1970-01-01T00:00:00"
            variable.calendar = "standard"
            variable[...] = epoch_seconds(time)
        for suffix, values in layers.items():
            for i_variable, described in enumerate(layout.variables):
                dims = ("time", *layout.grid.names)
                variable = target.createVariable(described.name + suffix, "f4", dims, fill_value=FILL)
                variable.units = described.units
                variable[0] = np.ma.masked_invalid(values[i_variable])
        attributes = {"layout": json.dumps(layout.describe()), "model_digest": "3fa9c1d27b", "degraded": "", **facts}
        target.setncatts({f"cycler_{name}": value for name, value in attributes.items()})


def write_feedback(path: Path, layout: Layout, fields: Fields, *, n_obs: int, step: int = 1) -> None:
    """Observations at random cells, one in twenty withheld, one in thirty rejected; each sees one variable."""
    rng = np.random.default_rng([11, step])
    shape, n_variables = layout.grid.shape, len(layout.variables)
    cells = tuple(rng.integers(0, size, n_obs) for size in shape)
    sees = rng.integers(0, n_variables, n_obs)
    qc = np.where(rng.random(n_obs) < 0.05, 1, np.where(rng.random(n_obs) < 0.035, 19, 0))
    with netCDF4.Dataset(path, "w") as target:
        target.createDimension("Location", n_obs)
        place = target.createGroup("MetaData")
        for axis, index in zip(layout.grid.axes, cells, strict=True):
            place.createVariable(axis.name, "f8", ("Location",))[:] = axis.centres()[index]
        groups = {
            name: target.createGroup(name) for name in ("ObsValue", "ObsError", "EffectiveQC", "hofx", "ombg", "oman")
        }
        for i_variable, described in enumerate(layout.variables):
            at = (i_variable, *cells)
            error = 0.1 * np.nanstd(fields.truth[i_variable])
            value = np.nan_to_num(fields.truth[at]) + error * rng.standard_normal(n_obs) + 30 * error * (qc == 19)
            columns = {
                "ObsValue": value,
                "ObsError": np.full(n_obs, error),
                "hofx": fields.background[at],
                "ombg": value - fields.background[at],
                "oman": value - fields.analysis[at],
            }
            is_mine = sees == i_variable
            for name, column in columns.items():
                variable = groups[name].createVariable(described.name, "f4", ("Location",), fill_value=FILL)
                variable[:] = np.ma.masked_where(~is_mine | ~np.isfinite(column), np.nan_to_num(column))
            flags = groups["EffectiveQC"].createVariable(described.name, "i4", ("Location",), fill_value=-1)
            flags[:] = np.ma.masked_where(~is_mine, qc)


def write_summary(folder: Path, layout: Layout, *, step: int, error: float, degraded: tuple[str, ...] = ()) -> None:
    """`diag/summary.json` with scores that shrink to `error` within a few cycles."""
    rng = np.random.default_rng([13, step, int(1e4 * error)])

    def scores(size: float) -> dict[str, dict[str, float]]:
        size *= 1 + 0.08 * rng.standard_normal()
        spread = 0.9 * size
        one = {"rmse": size, "fair_crps": 0.55 * size, "spread": spread, "spread_skill": 1.0247 * spread / size}
        scaled = {v.name: {k: n * s if k != "spread_skill" else n for k, n in one.items()}
                  for v, s in zip(layout.variables, (8.2e-6, 1.06e-6), strict=False)}  # fmt: skip
        return {"all": one, **scaled}

    size = error + 0.9 * np.exp(-0.9 * step)
    content = {
        "valid_time": iso_time(START + step * layout.step),
        "scores": {
            "background": scores(1.5 * size),
            "analysis": scores(size),
            "persistence": {"all": {"rmse": 0.7, "fair_crps": 0.5}},
        },
        "counts": {"used": 366 + int(rng.integers(20)), "passive": 20, "first_guess": int(rng.integers(15))},
        "seconds": {"make_background": 2.1, "assimilate": 0.8, "write_products": 0.3, "plot": 1.1},
        "degraded": list(degraded),
        "calibration": {"background": {"stations/q1": {"coverage_90": 0.9, "chi_square": 1.1}}},
        "fallback": {"rung": "fewer_members", "level": 1} if degraded else {"rung": "full", "level": 0},
        "delivery": "early" if degraded else "final",
    }
    if step == 0:
        content["scores"] = {"analysis": scores(1.0)}
        content["counts"] = {}
    (folder / "diag").mkdir(parents=True, exist_ok=True)
    (folder / "diag" / "summary.json").write_text(json.dumps(content))


def write_calibration(folder: Path, *, alerts: tuple[str, ...] = ()) -> None:
    """`diag/calibration.json` of a stream of two variables, as `cycle.calibrating` writes it."""
    votes = [40.0, 30.0, 20.0, 10.0]

    def group(name: str, wide: float) -> dict:
        coverage = [[0.5 * wide, 0.5 * wide - 0.02, 0.5 * wide + 0.02], [0.8 * wide, None, None], [None, None, None]]
        return {
            "name": name, "units": "s-1", "n_obs": 1200, "n_cycles": 3, "coverage": coverage,
            "rank_histogram": [30.0, 20.0, 20.0, 30.0], "fair_crps": [4.2e-7, 4.0e-7, 4.4e-7],
            "chi_square": [1.1, 1.0, 1.2], "thresholds": [0.0], "reliability": [[votes, [0.0, 8.0, 13.0, 10.0]]],
        }  # fmt: skip

    kinds = {
        kind: [group(f"stations/q{k}", wide) for k in (1, 2)] for kind, wide in (("background", 1.0), ("analysis", 0.9))
    }
    content = {"first": "20200302T0000Z", "last": "20200304T0000Z", "n_cycles": 3, "alerts": list(alerts), **kinds}
    (folder / "diag" / "calibration.json").write_text(json.dumps(content))


def cycle_folder(root: Path, chain: str, layout: Layout, step: int) -> Path:
    return root / "sample" / chain / "cycles" / time_stamp(START + step * layout.step)


def write_experiment(
    root: Path,
    layout: Layout,
    *,
    n_cycles: int,
    chains: dict[str, float] | None = None,
    draw: Callable[[Path, Path], object] | None = None,
) -> Path:
    """Write complete cycles of several chains (name: final error) and their config; returns the experiment."""
    chains = chains or {"letkf": 0.07, "interpolant_filter": 0.05}
    make = radar_fields if layout.system == "sevir" else qg_fields
    for chain, error in chains.items():
        for step in range(n_cycles):
            folder = cycle_folder(root, chain, layout, step)
            write_cycle(folder, layout, make(layout, step), step=step, chain=chain, with_background=step > 0)
            is_degraded = chain == "letkf" and step == n_cycles - 1
            reasons = ("stream stations: no file by the cut-off",) if is_degraded else ()
            write_summary(folder, layout, step=step, error=error, degraded=reasons)
            if step:
                write_calibration(folder, alerts=("calibration of stations has changed",) if chain == "letkf" else ())
            if draw:
                draw(folder, folder / "plots")
            (folder / "_SUCCESS").touch()
    config = "summary: A sample </script> with <b>marks</b>.\nchains:\n"
    config += "".join(f"- {{name: {chain}}}\n" for chain in reversed(list(chains)))
    (root / "sample" / "experiment.yaml").write_text(config + "verification: {spin_up: 1}\n")
    return root / "sample"


def draw_stubs(folder: Path, out: Path) -> None:
    """Stand-ins for figures: flat pictures with captions, made in a millisecond."""
    out.mkdir(parents=True)
    figures = []
    for name, safe in (("map.q1", "map.q1.safe.png"), ("map.q2", ""), ("departures", "")):
        shade = (hash((folder.name, name)) % 100 + 120, 160, 190)
        for file in (f"{name}.png", safe):
            if file:
                Image.new("RGB", (160, 100), shade).save(out / file)
        caption = {"file": f"{name}.png", "kind": name.split(".")[0], "title": name, "width": 160, "height": 100}
        words = f"{name} of {folder.parts[-3]} at {folder.name}"
        figures.append({**caption, "alt": words, "variable": name[4:], "safe_file": safe})
    if folder.name.endswith("01T0000Z"):
        figures = figures[:2]  # nothing is observed at the start
    variables = [{"name": name, "units": "s⁻¹", "long_name": f"vorticity {name}"} for name in ("q1", "q2")]
    (out / "captions.json").write_text(json.dumps({"variables": variables, "figures": figures}))
