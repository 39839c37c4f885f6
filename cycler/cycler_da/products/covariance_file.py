"""The file of a background-error covariance B: its statistics, what they look like, and what they were made from.

Written by `cycler calibrate-b`, read by `var3d` and `envar` (`b: path`). What B is built from, by `cycler_shape`:
    isotropic     shell_covariance (shell, variable, other_variable), of errors divided by their standard deviation
    homogeneous   block_real, block_imag (wavenumber_y, wavenumber_x, variable, other_variable), the same
    local         correlation_weight, correlation_length (part), and <variable>_error_std (y, x)
Beside them, for people and plots: correlation_along_y, correlation_along_x (variable, other_variable, separation),
cross_correlation at one place, and <variable>_length_scale. docs/products.md lists every variable.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
import torch

from cycler_da.errors import DataError, WeightsMismatch
from cycler_da.generative.background_error import SHAPES, BackgroundError, correlation_along, length_scale
from cycler_da.generative.climatology import StateCovariance
from cycler_da.layout import Layout, layout_from_description
from cycler_da.products.atomic import write_atomically
from cycler_da.products.conventions import FileFacts, global_attributes
from cycler_da.products.gridfile import STORAGE, create_file, define_grid, dimension_names, open_file, read_part
from cycler_da.products.provenance import sha256_file
from cycler_da.trial_read import require_harmless

if TYPE_CHECKING:
    from torch import Tensor

KIND = "covariance"
_PAIR = ("variable", "other_variable")


def write_covariance(
    path: Path, error: BackgroundError, layout: Layout, *, valid_times: np.ndarray, facts: FileFacts
) -> None:
    """Write B; `valid_times` are those of the samples. Raises CannotWrite; then `path` stays as it was."""

    def write(private: Path) -> None:
        with create_file(private) as dataset:
            dataset.setncatts(global_attributes(facts, layout, valid_times))
            dataset.setncatts({"cycler_shape": error.shape, "cycler_n_samples": np.int32(error.n_samples)})
            define_grid(dataset, layout)
            _define_variables(dataset, layout)
            _write_std(dataset, error, layout)
            _write_statistics(dataset, error)
            _write_correlations(dataset, error, layout)

    write_atomically(Path(path), write)


def read_covariance(path: str | Path, layout: Layout, sha256: str | None = None) -> tuple[StateCovariance, str]:
    """B of a file on a layout, and the first 16 digits of the file's sha256.

    Raises MissingInput or DataError for a file that cannot be read or holds no valid B, LayoutMismatch for a B of
    another layout, WeightsMismatch when the sha256 is not the expected one.
    """
    error, stored = read_background_error(Path(path))
    found = sha256_file(path)
    if sha256 is not None and (len(sha256) < 8 or not found.startswith(sha256.lower())):
        raise WeightsMismatch(
            f"B file {path}: sha256 is {found}, expected {sha256} (8 digits or more); the config was written for "
            "another B: check the path, or change b_sha256 on purpose"
        )
    layout.require_same(stored, what=f"B file {path}")
    return error.covariance(layout), found[:16]


def read_background_error(path: Path) -> tuple[BackgroundError, Layout]:
    """The statistics of a B file and the layout they are of; errors as in `read_covariance`."""
    require_harmless(path, what="B file")
    with open_file(path, what="B file") as dataset:
        kind = getattr(dataset, "cycler_kind", None)
        shape = getattr(dataset, "cycler_shape", None)
        if kind != KIND or shape not in SHAPES:
            raise DataError(
                f"{path} is no B file: its kind is {kind!r} and its shape {shape!r}; expected kind {KIND!r} and shape "
                f"{' or '.join(SHAPES)}. Make one with `cycler calibrate-b CONFIG --output B.nc`"
            )
        layout = layout_from_description(json.loads(dataset.cycler_layout))
        try:
            error = _read(dataset, path, shape, layout)
        except KeyError as absent:
            raise DataError(f"{path}: a B file of shape {shape} holds {absent}; make it again") from absent
    _require_valid(error, path)
    return error, layout


def _define_variables(dataset: netCDF4.Dataset, layout: Layout) -> None:
    for name, long_name in zip(_PAIR, ("variable", "the other variable of a pair"), strict=True):
        dataset.createDimension(name, len(layout.channels))
        stored = dataset.createVariable(f"{name}_name", str, (name,))
        stored.setncatts({"long_name": long_name, "coverage_content_type": "coordinate"})
        stored[:] = np.array(layout.channels, dtype=object)


def _write_std(dataset: netCDF4.Dataset, error: BackgroundError, layout: Layout) -> None:
    dims = dimension_names(layout) if error.std.ndim > 1 else ()
    on_map = {"coordinates": "lat lon", "grid_mapping": "crs"} if dims and layout.grid.grid_mapping else {}
    for variable, values in zip(layout.variables, error.std, strict=True):
        text = f"standard deviation of the background error of {variable.long_name or variable.name}"
        _put(dataset, f"{variable.name}_error_std", dims, values.numpy(), text, units=variable.units or "1")
        dataset.variables[f"{variable.name}_error_std"].setncatts(on_map)


def _write_statistics(dataset: netCDF4.Dataset, error: BackgroundError) -> None:
    if error.shells is not None:
        _index(dataset, "shell", len(error.shells), "whole number of the wave vector's length, in cycles per domain")
        text = "mean covariance of Fourier coefficients (orthonormal) of errors over their standard deviation"
        _put(dataset, "shell_covariance", ("shell", *_PAIR), error.shells.numpy(), text)
    if error.blocks is not None:
        n_y, n_x = error.blocks.shape[:2]
        _index(dataset, "wavenumber_y", n_y, "cycles per domain along y", np.fft.fftfreq(n_y, 1 / n_y).astype("i4"))
        _index(dataset, "wavenumber_x", n_x, "cycles per domain along x")
        for part, values in (("real", error.blocks.real), ("imag", error.blocks.imag)):
            text = f"covariance of Fourier coefficients of errors over their standard deviation, {part} part"
            _put(dataset, f"block_{part}", ("wavenumber_y", "wavenumber_x", *_PAIR), values.numpy(), text)
    if error.parts:
        _index(dataset, "part", len(error.parts), "exponential of the correlation")
        weight, length = np.array(error.parts).T
        _put(dataset, "correlation_weight", ("part",), weight, "weight of an exponential in the correlation")
        _put(dataset, "correlation_length", ("part",), length, "length of an exponential, in cells; 0: white")


def _write_correlations(dataset: netCDF4.Dataset, error: BackgroundError, layout: Layout) -> None:
    along = [correlation_along(error, layout, axis=axis) for axis in (0, 1)]
    for axis, dim, values in zip(layout.grid.axes, ("y", "x"), along, strict=True):
        cells = np.arange(axis.size) - axis.size // 2
        name = f"separation_{dim}"
        _index(dataset, name, axis.size, f"distance along {axis.name}", cells * axis.spacing, units=axis.units or "1")
        text = f"correlation of a variable with another one that lies further along {axis.name}"
        _put(dataset, f"correlation_along_{dim}", (*_PAIR, name), values.numpy(), text)
    middle = along[1][:, :, layout.grid.axes[1].size // 2]
    _put(dataset, "cross_correlation", _PAIR, middle.numpy(), "correlation of variables in one place")
    for channel, variable in enumerate(layout.variables):
        scales = [
            length_scale(values[channel, channel], axis.spacing)
            for values, axis in zip(along, layout.grid.axes, strict=True)
        ]
        text = f"distance at which the correlation of {variable.name} falls to exp(-1/2), mean of the axes"
        units = layout.grid.axes[1].units or "1"
        _put(dataset, f"{variable.name}_length_scale", (), np.mean(scales), text, units=units)


def _index(dataset: netCDF4.Dataset, name: str, size: int, text: str, values: Any = None, *, units: str = "1") -> None:
    dataset.createDimension(name, size)
    values = np.arange(size, dtype="i4") if values is None else values
    stored = dataset.createVariable(name, values.dtype, (name,), fletcher32=True)
    stored.setncatts({"long_name": text, "units": units, "coverage_content_type": "coordinate"})
    stored[:] = values


def _put(
    dataset: netCDF4.Dataset, name: str, dims: tuple[str, ...], values: Any, text: str, *, units: str = "1"
) -> None:
    stored = dataset.createVariable(name, "f8", dims, **(STORAGE if dims else {}))
    stored.setncatts({"long_name": text, "units": units, "coverage_content_type": "modelResult"})
    stored[...] = values


def _read(dataset: netCDF4.Dataset, path: Path, shape: str, layout: Layout) -> BackgroundError:
    def read(name: str) -> Tensor:
        return torch.from_numpy(np.array(read_part(path, dataset.variables[name]), dtype=np.float64))

    std = torch.stack([read(f"{name}_error_std") for name in layout.channels])
    n_samples = int(dataset.cycler_n_samples)
    if shape == "isotropic":
        return BackgroundError(shape, std, n_samples, shells=read("shell_covariance"))
    if shape == "homogeneous":
        return BackgroundError(shape, std, n_samples, blocks=torch.complex(read("block_real"), read("block_imag")))
    pairs = zip(read("correlation_weight").tolist(), read("correlation_length").tolist(), strict=True)
    return BackgroundError(shape, std, n_samples, parts=tuple(pairs))


def _require_valid(error: BackgroundError, path: Path) -> None:
    spectrum = error.shells if error.shells is not None else error.blocks
    numbers = [error.std.flatten(), torch.tensor(error.parts).flatten().to(torch.float64)]
    if spectrum is not None:
        numbers.append(torch.view_as_real(spectrum.to(torch.complex128)).flatten())
    n_bad = sum(int((~part.isfinite()).sum()) for part in numbers)
    if n_bad or not bool((error.std > 0).all()):
        raise DataError(
            f"B file {path}: {n_bad} numbers are not finite, {int((~(error.std > 0)).sum())} standard deviations are "
            "not positive; expected a covariance. Make it again with `cycler calibrate-b`"
        )
    if spectrum is not None and float(torch.linalg.eigvalsh(spectrum).min()) < -1e-6 * float(spectrum.abs().max()):
        raise DataError(f"B file {path}: its spectra are not positive; expected a covariance. Make it again")
