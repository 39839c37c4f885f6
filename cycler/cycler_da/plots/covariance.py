"""Picture of a B file: correlation functions along both axes, and spectra or the map of local standard deviations.

A column for each variable: its correlation with itself and with the others along x (lines) and along y (dashes), with
the length scale marked; below, the variance in each shell of wave numbers, or the standard deviation of every cell.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cycler_da.errors import DataError
from cycler_da.layout import Layout, layout_from_description
from cycler_da.plots import style
from cycler_da.plots.png import write_png
from cycler_da.products.gridfile import open_file, read_part

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT = 5.2


@dataclass(frozen=True)
class _Picture:
    """What is drawn of a file."""

    layout: Layout
    summary: str
    along: dict[str, tuple[np.ndarray, np.ndarray]]  # separations, correlations (variable, other, separation)
    length_scales: tuple[float, ...]
    std: tuple[np.ndarray, ...]
    spectra: np.ndarray | None  # (shell, variable)


def plot_covariance(path: Path, out: Path) -> Path:
    """Draw a B file into the PNG file `out`; raises DataError when the file lacks what is drawn."""
    picture = _read(path)
    with matplotlib.rc_context(style.RC):
        figure = Figure(figsize=(style.WIDTH_INCHES, _HEIGHT), dpi=style.DPI)
        title = f"{picture.layout.system}: background-error covariance"
        figure.text(0.018, 1 - 0.2 / _HEIGHT, title, fontsize=11, fontweight="bold", va="center")
        figure.text(0.018, 1 - 0.42 / _HEIGHT, picture.summary, fontsize=8, color=style.MUTED, va="center")
        n = len(picture.layout.channels)
        width = 0.9 / n
        for index in range(n):
            left = 0.075 + index * width
            _draw_correlations(figure.add_axes((left, 0.53, width - 0.075, 0.31)), picture, index)
            lower = (left, 0.095, width - 0.075, 0.31)
            if picture.spectra is None:
                _draw_std(figure.add_axes(lower), figure, picture, index)
            else:
                _draw_spectrum(figure.add_axes(lower), picture, index)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_png(figure, out, title=title, text=picture.summary)
    return out


def _read(path: Path) -> _Picture:
    with open_file(path, what="B file") as dataset:
        try:
            layout = layout_from_description(json.loads(dataset.cycler_layout))

            def read(name: str) -> np.ndarray:
                return np.asarray(read_part(path, dataset.variables[name]), dtype=float)

            return _Picture(
                layout=layout,
                summary=f"{dataset.cycler_shape}, method {dataset.cycler_method}, lead {dataset.cycler_lead}, "
                f"{int(dataset.cycler_n_samples)} samples of {dataset.cycler_samples_of}",
                along={dim: (read(f"separation_{dim}"), read(f"correlation_along_{dim}")) for dim in ("x", "y")},
                length_scales=tuple(float(read(f"{name}_length_scale")) for name in layout.channels),
                std=tuple(read(f"{name}_error_std") for name in layout.channels),
                spectra=_spectra(dataset.variables, read),
            )
        except (AttributeError, KeyError) as absent:
            raise DataError(f"{path} is no B file of `cycler calibrate-b`: it lacks {absent}") from absent


def _spectra(variables, read) -> np.ndarray | None:  # type: ignore[no-untyped-def]  # netCDF4 has no types
    if "shell_covariance" in variables:
        return np.diagonal(read("shell_covariance"), axis1=1, axis2=2)
    if "block_real" not in variables:
        return None
    l, k = np.meshgrid(read("wavenumber_y"), read("wavenumber_x"), indexing="ij")
    shell = np.hypot(l, k).round().astype(int).ravel()
    power = np.diagonal(read("block_real"), axis1=2, axis2=3).reshape(shell.size, -1)
    weight = np.where((k == 0) | (k == k.max()), 1.0, 2.0).ravel()
    total = np.bincount(shell, weights=weight)
    sums = [np.bincount(shell, weights=weight * column) for column in power.T]
    return np.stack(sums, axis=1) / np.maximum(total, 1.0)[:, None]


def _draw_correlations(axes: Axes, picture: _Picture, index: int) -> None:
    names = picture.layout.channels
    unit, factor = (
        ("km", 1e-3) if picture.layout.grid.axes[0].units == "m" else (picture.layout.grid.axes[0].units, 1.0)
    )
    for other, name in enumerate(names):
        for dim, dash in (("x", ()), ("y", (4, 2))):
            separation, values = picture.along[dim]
            colour = style.SERIES_COLOURS[other % len(style.SERIES_COLOURS)]
            label = f"{names[index]} with {name}, along {dim}"
            axes.plot(separation * factor, values[index, other], color=colour, linewidth=1.2, dashes=dash, label=label)
    scale = picture.length_scales[index] * factor
    axes.axvline(scale, color=style.MUTED, linewidth=0.8)
    axes.annotate(
        f"{style.number_text(scale)} {unit}", (scale, 0.97), xytext=(3, 0), textcoords="offset points", va="top"
    )
    axes.axhline(0.0, color=style.LINE, linewidth=0.8, zorder=0)
    reach = 12 * max(picture.length_scales) * factor
    furthest = float(np.abs(picture.along["x"][0]).max()) * factor
    axes.set_xlim(-min(reach, furthest), min(reach, furthest))
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlabel(f"separation ({unit})", labelpad=1.5)
    axes.set_ylabel("correlation" if index == 0 else "", labelpad=1.5)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, 1.22), ncols=2, frameon=False, handlelength=2.2, fontsize=6.5)
    _plain(axes)


def _draw_spectrum(axes: Axes, picture: _Picture, index: int) -> None:
    assert picture.spectra is not None
    variable = picture.layout.variables[index]
    variance = picture.spectra[1:, index] * picture.std[index] ** 2
    shell = np.arange(1, len(variance) + 1)
    axes.loglog(shell[variance > 0], variance[variance > 0], color=style.SERIES_COLOURS[index], linewidth=1.4)
    axes.set_xlabel("wave number (cycles per domain)", labelpad=1.5)
    std = f"{style.number_text(float(picture.std[index]))} {style.unit_text(variable.units)}"
    axes.set_title(f"mean variance of a mode; standard deviation of {variable.name} {std}", loc="left", fontsize=7.5)
    _plain(axes)


def _draw_std(axes: Axes, figure: Figure, picture: _Picture, index: int) -> None:
    variable = picture.layout.variables[index]
    shown = axes.imshow(picture.std[index], origin="lower", cmap="viridis", vmin=0.0)
    axes.set_title(f"standard deviation of {variable.name} {style.unit_text(variable.units)}", loc="left", fontsize=7.5)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.colorbar(shown, ax=axes, fraction=0.05, anchor=(0.0, 0.5))
    axes.set_anchor("W")


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
