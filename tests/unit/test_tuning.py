"""Tuning: what is chosen on the training period is reported on another one, and a search goes on where it stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cycler_da import tuning
from cycler_da.cli import app
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.products.feedback import read_feedback
from cycler_da.tuning import Search, parse_option

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import fault_system as tiny


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cycles of the tiny system on a nature run of its own, both streams drawn."""
    folder = tmp_path_factory.mktemp("tuning")
    system = tiny.make_system(folder)
    content = yaml.safe_load((folder / "drawing.yaml").read_text())
    content["nature"] |= {"path": str(folder / "long.nc"), "steps": 6}
    content["cycles"]["count"] = 6
    for stream in content["observations"]:
        stream |= {"folder": str(folder / "long"), "qc": {"withheld_fraction": 0.4}}
    path = system.folder / "long.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def searched(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("search")
    tune(config, out, "--over", "inflation=1.0,1.1", "--keep")
    return out


def tune(config: Path, out: Path, *options: str, code: int = 0, chain: str = "letkf", cycles: int = 3) -> str:
    words = ["tune", str(config), "--chain", chain, "--training-cycles", str(cycles), "--out", str(out), *options]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "300"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_the_best_candidate_is_the_one_with_the_smallest_score(searched):
    result = json.loads((searched / "tune.json").read_text())
    training = [outcome for outcome in result["outcomes"] if outcome["period"] == "training"]
    best = min(training, key=lambda outcome: outcome["scores"][result["compared_by"]])
    assert [outcome["options"]["inflation"] for outcome in training] == [1.0, 1.1]
    assert result["best"]["inflation"] == best["options"]["inflation"]
    assert result["best"]["localization_radius_cells"] == 3  # of the config, untouched
    assert f"inflation: {result['best']['inflation']}" in (searched / "tune.md").read_text()


def test_the_report_is_of_cycles_that_did_not_choose(searched):
    def cycles(period):
        return {path.name for path in (searched / period).glob("*/letkf/cycles/*")}

    assert cycles("training") == {f"2020010{day}T0000Z" for day in (1, 2, 3, 4)}
    assert cycles("report") == {f"2020010{day}T0000Z" for day in (4, 5, 6, 7)}  # the start, then three cycles


def test_a_search_that_is_run_again_runs_no_cycle_again(searched, config, monkeypatch):
    text = (searched / "tune.md").read_text()
    monkeypatch.setattr(tuning, "run_plan", lambda *plan, **how: pytest.fail("a cycle was run again"))
    tune(config, searched, "--over", "inflation=1.0,1.1")
    assert (searched / "tune.md").read_text() == text


def test_another_period_does_not_find_the_scores_of_this_one(config, tmp_path):
    def names(cycles):
        search = Search(config, "letkf", {"inflation": (1.0,)}, cycles, tmp_path)
        return {tuning.candidate(search, {"inflation": 1.0}, period).config.name for period in ("training", "report")}

    assert len(names(2) | names(3)) == 4


def test_a_candidate_whose_analysis_fails_is_listed_and_never_the_best(config, tmp_path, monkeypatch):
    def failing(experiment, **how):
        if experiment.setting.chains[0].scheme.settings.inflation == 1.1:
            raise AnalysisFailed("letkf: the analysis of q1 is not finite")

    monkeypatch.setattr(tuning, "run_plan", failing)
    monkeypatch.setattr(tuning, "_scores", lambda *chain: [("analysis rmse", 0.2)])
    said = tune(config, tmp_path, "--over", "inflation=1.1,1.0")
    assert "inflation 1.1: failed: letkf: the analysis of q1 is not finite" in said
    assert json.loads((tmp_path / "tune.json").read_text())["best"]["inflation"] == 1.0


def test_a_best_value_at_the_end_of_what_was_tried_is_pointed_out(config, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "run_plan", lambda *plan, **how: None)
    monkeypatch.setattr(
        tuning,
        "_scores",
        lambda experiment, chain: [("analysis rmse", 2 - experiment.setting.chains[0].scheme.settings.inflation)],
    )
    assert "inflation is at the end" in tune(config, tmp_path, "--over", "inflation=1.0,1.1,1.2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--over", "inflatoin=1,2"), "Did you mean 'inflation'"),
        (("--over", "inflation=-1,1"), "while building the candidate inflation -1"),
        (("--over", "inflation"), "write OPTION=VALUE"),
        (("--over", "inflation=1,1"), "stands twice"),
        (("--over", "inflation=1", "--metric", "rms"), "valid: rmse, fair_crps, innovation"),
        (("--over", "inflation=1", "--set", "cycles.count=4"), "leave 3 and 1"),
    ],
)
def test_a_search_that_cannot_be_right_ends_before_any_cycle(config, tmp_path, options, message):
    assert message in tune(config, tmp_path, *options, code=78)
    assert not list(tmp_path.glob("*/*"))


def test_a_chain_that_does_not_exist_is_refused_with_the_valid_ones(config, tmp_path):
    assert "valid: letkf" in tune(config, tmp_path, "--over", "inflation=1", chain="enkf", code=78)


def test_values_are_read_as_yaml():
    assert parse_option("localization_radius_cells=3,4.5,null") == ("localization_radius_cells", (3, 4.5, None))


def test_candidates_are_all_combinations():
    search = Search(Path("x"), "letkf", {"a": (1, 2), "b": (3, 4)}, 10, Path("out"))
    assert search.candidates() == [{"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4}]


def test_an_empty_search_is_refused():
    with pytest.raises(ConfigError, match="--over"):
        Search(Path("x"), "letkf", {}, 10, Path("out"))


def test_innovation_statistics_are_those_of_the_feedback_files(searched):
    experiment = next((searched / "report").iterdir())
    said = CliRunner().invoke(app, ["innovations", str(experiment)]).stdout
    lines = [line.split(" | ") for line in said.splitlines() if "insitu/q1" in line]
    columns = said.splitlines()[0].strip("| ").split(" | ")
    ombg, error, spread = [], [], []
    for path in sorted((experiment / "letkf" / "cycles").glob("*/feedback/insitu.nc")):
        feedback = read_feedback(path)
        used = feedback["EffectiveQC"]["q1"] == 0
        ombg += feedback["ombg"]["q1"][used].tolist()
        error += feedback["EffectiveError"]["q1"][used].tolist()
        spread += feedback["hofx_spread"]["q1"][used].tolist()
    terms = [d**2 / (7 / 6 * s**2 + e**2) for d, e, s in zip(ombg, error, spread, strict=True)]
    found = dict(zip(columns, (cell.strip("| ") for cell in lines[0]), strict=True))
    assert float(found["chi_square"]) == pytest.approx(sum(terms) / len(terms), rel=1e-3)  # four digits are shown
    assert int(found["n"]) == len(terms)
    assert (experiment / "innovations.md").read_text().strip() == said.strip()


def test_withheld_observations_stand_apart_and_have_no_estimates(searched):
    text = next((searched / "report").iterdir()).joinpath("innovations.md").read_text()
    line = next(line for line in text.splitlines() if "insitu/q1, withheld" in line)
    assert line.count("| - ") == 3  # the estimates of observation, background and analysis error
