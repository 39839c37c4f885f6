"""B files: what is written is read back to the same covariance; what does not fit is refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch

from cycler_da.errors import DataError, LayoutMismatch, MissingInput, WeightsMismatch
from cycler_da.generative.background_error import estimate
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.products.conventions import FileFacts
from cycler_da.products.covariance_file import read_covariance, write_covariance
from cycler_da.products.provenance import sha256_file

TIMES = np.datetime64("2020-01-01T00:00:00", "s") + np.timedelta64(3600, "s") * np.arange(50)


def layout_of(shape: str, *, n: int = 12) -> Layout:
    axes = tuple(Axis(name, n, 1000.0, 500.0, "m", periodic=shape != "local") for name in ("y", "x"))
    variables = (Variable("q1", "s-1", "upper"), Variable("q2", "s-1", "lower"))
    return Layout("toy", variables, Grid(axes), np.timedelta64(3600, "s"))


def written(folder: Path, shape: str) -> Path:
    generator = torch.Generator().manual_seed(1)
    errors = 1e-6 * torch.randn((50, 2, 12, 12), generator=generator, dtype=torch.float64)
    errors[:, 1] += 0.5 * errors[:, 0].roll(1, dims=-1)
    facts = FileFacts(
        "covariance",
        TIMES[-1],
        "toy",
        attributes={"method": "errors", "lead": "1h", "samples_of": "draws", "model_digest": "0" * 16},
    )
    path = folder / f"{shape}.nc"
    layout = layout_of(shape)
    write_covariance(path, estimate(errors, layout, shape=shape), layout, valid_times=TIMES, facts=facts)
    return path


@pytest.mark.parametrize("shape", ["isotropic", "homogeneous", "local"])
def test_what_is_read_is_the_covariance_that_was_estimated(shape, tmp_path):
    path, layout = written(tmp_path, shape), layout_of(shape)
    read, digest = read_covariance(path, layout)
    generator = torch.Generator().manual_seed(1)
    errors = 1e-6 * torch.randn((50, 2, 12, 12), generator=generator, dtype=torch.float64)
    errors[:, 1] += 0.5 * errors[:, 0].roll(1, dims=-1)
    x = torch.randn((3, 2, 12, 12), generator=generator, dtype=torch.float64)
    expected = estimate(errors, layout, shape=shape).covariance(layout).apply(x)
    torch.testing.assert_close(read.apply(x), expected, rtol=1e-12, atol=0)
    assert digest == sha256_file(path)[:16]
    assert read_covariance(path, layout, digest[:8])[1] == digest


def test_another_layout_is_refused(tmp_path):
    path = written(tmp_path, "isotropic")
    with pytest.raises(LayoutMismatch, match=r"B file .*isotropic.nc differs at axes\[0\].size: got 12, expected 16"):
        read_covariance(path, layout_of("isotropic", n=16))
    other = layout_of("isotropic")
    with pytest.raises(LayoutMismatch, match="units"):
        read_covariance(path, replace(other, variables=(replace(other.variables[0], units="1"), other.variables[1])))


def test_another_file_than_the_named_one_is_refused(tmp_path):
    path = written(tmp_path, "isotropic")
    for digest in ("0" * 64, sha256_file(path)[:7]):
        with pytest.raises(WeightsMismatch, match="8 digits or more"):
            read_covariance(path, layout_of("isotropic"), digest)


def test_files_that_hold_no_covariance_are_refused(tmp_path):
    layout = layout_of("isotropic")
    with pytest.raises(MissingInput, match=r"B file .*absent.nc does not exist"):
        read_covariance(tmp_path / "absent.nc", layout)
    torn = tmp_path / "torn.nc"
    torn.write_bytes(written(tmp_path, "isotropic").read_bytes()[:2000])
    with pytest.raises(DataError):
        read_covariance(torn, layout)
    for change, said in (
        (lambda file: file.setncattr("cycler_kind", "analysis"), "is no B file"),
        (lambda file: file.variables["q1_error_std"].assignValue(np.nan), "not positive"),
        (lambda file: file.renameVariable("shell_covariance", "other"), "shell_covariance"),
        (lambda file: file.variables["shell_covariance"].__setitem__((2, 0, 0), -5.0), "not positive"),
    ):
        path = written(tmp_path, "isotropic")
        with netCDF4.Dataset(path, "a") as file:
            change(file)
        with pytest.raises(DataError, match=said):
            read_covariance(path, layout)
        path.unlink()
