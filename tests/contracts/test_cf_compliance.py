"""Every file people open obeys CF-1.11 and ACDD-1.3: no error, no finding of high priority."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.generative.background_error import default_shape, estimate
from cycler_da.layout import Layout
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.identity import observation_ids
from cycler_da.products.conventions import FileFacts
from cycler_da.products.covariance_file import write_covariance
from cycler_da.products.dataset import write_ensemble, write_field
from cycler_da.products.feedback import write_feedback
from cycler_da.products.forecast_file import ForecastProducts, write_forecast_products
from cycler_da.systems.sevir_grid import corner_of_centre, sevir_layout
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

START = np.datetime64("2020-01-01T00:00:00", "s")
SUITES = ["cf:1.11", "acdd:1.3"]

#: Fails with KeyError('time') on every file with two groups (compliance-checker 6.1.0): it looks for `time` in each.
BROKEN_CHECK = "check_invalid_same_named_dimension_across_groups"
KINDS = ["background", "analysis", "increment", "nature", "truth", "feedback", "covariance", "forecast_products"]

#: Weight of an error (CF) and of a "highly recommended" finding (ACDD) in the checker.
HIGH = 3


def _layouts() -> dict[str, Layout]:
    corner = corner_of_centre((39.0, -97.0))
    return {
        "two-layer QG": TwoLayerQGSpec(size=16).layout(),
        "mapped radar": sevir_layout(128, np.timedelta64(300, "s"), corner=corner, georeference="config"),
    }


@pytest.fixture(scope="module", params=_layouts())
def layout(request: pytest.FixtureRequest) -> Layout:
    return _layouts()[request.param]


@pytest.fixture(scope="module")
def suite() -> Iterator[object]:
    checker = pytest.importorskip("compliance_checker.runner", reason="compliance-checker is not installed")
    checker.CheckSuite.load_all_available_checkers()
    yield checker.CheckSuite()


def _ensemble(layout: Layout, n_times: int) -> Ensemble:
    draws = np.random.default_rng(0).random((4, n_times, *layout.state_shape), dtype=np.float32)
    times = START + layout.step * np.arange(1, n_times + 1)
    return Ensemble(torch.from_numpy(draws), times, (0, 1, 2, 3), layout)


def _write(kind: str, folder: Path, layout: Layout) -> Path:
    facts = FileFacts(
        kind=kind,
        reference_time=START,
        experiment="experiment",
        chain="letkf",
        scheme="letkf",
        attributes={"seed": 1, "config_sha256": "0" * 64, "degraded": False, "model_digest": "0" * 16},
    )
    ensemble = _ensemble(layout, n_times=2 if kind in ("nature", "analysis") else 1)
    path = folder / f"{kind}.nc"
    if kind in ("background", "analysis"):
        write_ensemble(path, ensemble, facts=facts)
    elif kind == "forecast_products":
        thresholds = {name: (0.5, 0.9) for name in layout.channels}
        write_forecast_products(path, ensemble, ForecastProducts(thresholds, (8.0,), (10.0, 50.0)), facts=facts)
    elif kind == "covariance":
        error = estimate(torch.rand(9, *layout.state_shape), layout, shape=default_shape(layout))
        write_covariance(path, error, layout, valid_times=START + layout.step * np.arange(9), facts=facts)
    elif kind == "feedback":
        observations = Observations((_batch(layout, ensemble),), layout)
        (path,) = write_feedback(
            folder, observations, background_hx=torch.rand(4, 3), analysis_hx=torch.rand(4, 3), facts=facts
        )
    else:
        write_field(path, ensemble.values[0], ensemble.valid_times, layout, facts=facts)
    return path


def _batch(layout: Layout, ensemble: Ensemble) -> ObsBatch:
    position = np.asarray([[axis.centres()[k] for axis in layout.grid.axes] for k in (1, 4, 9)])
    times = np.repeat(ensemble.valid_times[-1:], 3)
    names = [layout.channels[0]] * 3
    return ObsBatch(
        stream="stations",
        operator=_NoOperator(),
        where=Locations(torch.from_numpy(position), torch.zeros(3, dtype=torch.int64)),
        values=torch.tensor([1.0, 2.0, torch.nan], dtype=torch.float64),
        error=torch.ones(3, dtype=torch.float64),
        times=times,
        ids=observation_ids(["a", "b", "c"], variables=names, times=times, position=position),
        flags=torch.tensor([0, 1, 10], dtype=torch.int32),
        reasons=("", "withheld", "missing"),
    )


class _NoOperator:
    name = "points"
    is_linear = True


def _findings(suite: Callable, path: Path) -> list[str]:
    dataset = suite.load_dataset(str(path))
    findings = []
    for checker, (groups, errors) in suite.run_all(dataset, SUITES, skip_checks=[BROKEN_CHECK]).items():
        findings += [f"{checker} {name} broke: {error}" for name, error in errors.items()]
        findings += _unfulfilled(checker, groups)
    dataset.close()
    return findings


def _unfulfilled(checker: str, results: list) -> list[str]:
    texts = []
    for result in results:
        achieved, possible = result.value if isinstance(result.value, tuple) else (int(bool(result.value)), 1)
        if result.weight >= HIGH and achieved < possible:
            inner = [message for child in result.children for message in child.msgs or []]
            texts.append(f"{checker} {result.name}: {'; '.join([*(result.msgs or []), *inner])}")
    return texts


@pytest.mark.parametrize("kind", KINDS)
def test_files_obey_cf_and_acdd(kind: str, layout: Layout, suite, tmp_path: Path) -> None:
    findings = _findings(suite, _write(kind, tmp_path, layout))
    if kind == "covariance":  # correlations and spectra have no names in the CF table
        findings = [finding for finding in findings if not finding.endswith("attributes:: standard_name")]
    if kind == "forecast_products":  # nor have probabilities of events
        named = [f"{name}_probability{where}" for name in layout.channels for where in ("", "_within")]
        unnamed = [f'variable "{name}" missing the following attributes:: standard_name' for name in named]
        findings = [finding for finding in findings if not finding.endswith(tuple(unnamed))]
    assert findings == []


def test_the_checker_finds_what_is_wrong(layout: Layout, suite, tmp_path: Path) -> None:
    # Without this the test above could pass because nothing was looked at.
    path = _write("analysis", tmp_path, layout)
    with netCDF4.Dataset(path, "a") as dataset:
        dataset.variables[layout.channels[0]].units = "furlong per fortnight"
        dataset.delncattr("title")
    findings = _findings(suite, path)
    assert any("furlong" in finding for finding in findings), findings
    assert any("title" in finding for finding in findings), findings
