"""An analysis, a forecast or a figure that fails: nothing wrong is published, and what is published says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import fault_system as tiny
import netCDF4
import pytest
import torch
from typer.testing import CliRunner

from cycler_da.cli import app
from cycler_da.cycle.stages import plot
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast import interpolant
from cycler_da.schemes.base import Analysis
from cycler_da.schemes.letkf import Letkf

pytestmark = pytest.mark.faults


def _run(drill: tiny.Drill, *settings: str) -> tiny.Result:
    """Run in this process, where a scheme can be broken."""
    done = CliRunner().invoke(app, drill.arguments(*settings), env={"COLUMNS": "400"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return tiny.Result(done.exit_code, done.output)


def _spoil(ensemble: Ensemble, value: float) -> Ensemble:
    """One value of one member."""
    values = ensemble.values.clone()
    values[2, -1, 0, 3, 4] = value
    return ensemble.with_values(values)


def _break_letkf(monkeypatch: pytest.MonkeyPatch, change: Callable[[Analysis], Analysis]) -> None:
    analyse = Letkf.analyse
    monkeypatch.setattr(Letkf, "analyse", lambda self, *args, **named: change(analyse(self, *args, **named)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_analysis_that_is_not_finite_is_not_published(
    drill: tiny.Drill, undisturbed: tiny.Hashes, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    with monkeypatch.context() as patch:
        _break_letkf(patch, lambda analysis: replace(analysis, ensemble=_spoil(analysis.ensemble, value)))
        result = _run(drill)
    assert result.code == AnalysisFailed.exit_code, result.output
    assert "letkf: the analysis of q1 is not finite" in result.output
    assert drill.store().complete_cycles() == [tiny.START]
    assert drill.run().code == 0  # with the scheme repaired
    assert drill.hashes() == undisturbed


def test_the_background_stands_in_where_the_config_says_so(drill: tiny.Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    _break_letkf(monkeypatch, lambda analysis: replace(analysis, ensemble=_spoil(analysis.ensemble, float("nan"))))
    result = _run(drill, "cycles.count=1", "on_failed_analysis=use_background")
    assert result.code == 3, result.output
    hashes = drill.hashes()[tiny.time_stamp(tiny.CYCLES[0])]
    assert hashes["analysis.nc"] == hashes["background.nc"]
    (reason,) = drill.summary()["degraded"]
    assert reason.startswith("analysis failed, the background stands in")
    assert reason in result.output
    with netCDF4.Dataset(drill.store().cycle_folder(tiny.CYCLES[0]) / "analysis.nc") as file:
        assert file.cycler_degraded and "FAILED" in file.title


def test_a_scheme_that_gives_up_is_heard(drill: tiny.Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(self: Letkf, *args: object, **named: object) -> Analysis:
        raise AnalysisFailed("letkf: the ensemble has no spread")

    monkeypatch.setattr(Letkf, "analyse", give_up)
    result = _run(drill)
    assert result.code == AnalysisFailed.exit_code
    assert "the ensemble has no spread" in result.output
    assert drill.store().complete_cycles() == [tiny.START]


def test_a_forecast_that_is_not_finite_is_not_published(
    drill: tiny.Drill, undisturbed: tiny.Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast = interpolant.InterpolantForecast.forecast
    with monkeypatch.context() as patch:
        patch.setattr(
            interpolant.InterpolantForecast,
            "forecast",
            lambda self, start, times, *, noise: (
                _spoil(forecast(self, start, times, noise=noise), float("nan"))
                if start.n_members > 2
                else forecast(self, start, times, noise=noise)
            ),
        )
        result = _run(drill, "ensemble.batch=3")
    assert result.code != 0 and "Traceback" not in result.output
    assert "member 2: not finite: q1 in 1 of" in result.output
    assert drill.store().complete_cycles() == [tiny.START]
    assert undisturbed


def test_one_chain_that_fails_does_not_hold_up_the_other(drill: tiny.Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    _break_letkf(monkeypatch, lambda analysis: replace(analysis, ensemble=_spoil(analysis.ensemble, float("nan"))))
    result = _run(drill, f"chains={[tiny.LETKF, {'name': 'free_run', 'scheme': {'kind': 'free_run'}}]}")
    assert result.code == AnalysisFailed.exit_code
    assert drill.store("letkf").complete_cycles() == [tiny.START]
    assert drill.store("free_run").complete_cycles() == list(tiny.TIMES)


def test_a_map_that_fails_costs_the_map_and_nothing_else(
    drill: tiny.Drill, undisturbed: tiny.Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_fonts(cycle_folder: Path, out: Path) -> list[Path]:
        out.mkdir(exist_ok=True)
        (out / "half.png").write_bytes(b"half a map")
        raise RuntimeError("no font was found")

    monkeypatch.setattr(plot, "plot_cycle", no_fonts)
    result = _run(drill, "plots=true")
    assert result.code == 3, result.output
    assert drill.hashes() == undisturbed
    for time in tiny.TIMES:
        summary = drill.summary(time)
        assert summary["degraded"] == ["plots are missing: RuntimeError: no font was found"]
        assert summary["exit_code"] == 3 and summary["images"] == []
        assert not list(drill.store().cycle_folder(time).rglob("*.png"))
    assert drill.store().verify() == []


def test_a_page_that_fails_costs_the_page_and_nothing_else(
    drill: tiny.Drill, undisturbed: tiny.Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_template(folder: Path) -> Path:
        raise KeyError("template")

    with monkeypatch.context() as patch:
        patch.setattr("cycler_da.opened_cycle.write_page", no_template)
        result = _run(drill)
    assert result.code == 3, result.output
    assert drill.hashes() == undisturbed
    assert drill.run().code == 0
    assert (drill.store().experiment_folder / "index.html").is_file()


def test_what_a_scheme_carries_survives_a_kill(drill: tiny.Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inflation that a scheme adapts, say: saved with the cycle, verified, and given to the next one."""
    seen: list[Mapping[str, torch.Tensor]] = []
    analyse = Letkf.analyse

    def count(self: Letkf, *args: object, carry: Mapping[str, torch.Tensor], **named: object) -> Analysis:
        seen.append(carry)
        told = carry.get("count", torch.zeros(1)) + 1
        return replace(analyse(self, *args, carry=carry, **named), carry={"count": told})

    monkeypatch.setattr(Letkf, "analyse", count)
    assert _run(drill).code == 0
    assert [float(carry["count"]) if carry else 0.0 for carry in seen] == [0.0, 1.0]
    assert drill.store().verify() == []
