"""The page: what stands on it is in the store, it needs nothing else, and nothing in the store breaks it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import sample_experiment as sample
from PIL import Image

from cycler_da.errors import MissingProduct
from cycler_da.plots import archive
from cycler_da.plots.page import write_page
from cycler_da.plots.series import draw_series


@pytest.fixture
def experiment(tmp_path):
    """Two chains of four cycles with stand-in figures."""
    return sample.write_experiment(tmp_path, sample.qg_layout(8), n_cycles=4, draw=sample.draw_stubs)


def content_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(data.group(1), parse_constant=refuse)


def newest(experiment: Path, chain: str = "letkf") -> Path:
    return sorted((experiment / chain / "cycles").iterdir())[-1]


def test_an_experiment_without_cycles_has_a_page_that_says_so(tmp_path):
    page = write_page(tmp_path)
    assert "No complete cycle yet" in page.read_text()
    assert content_of(page)["chains"] == []


def test_a_chain_whose_first_cycle_is_under_way_is_no_cycle(tmp_path):
    layout = sample.qg_layout(8)
    folder = sample.cycle_folder(tmp_path, "letkf", layout, 0)
    sample.write_cycle(folder, layout, sample.qg_fields(layout, 0))
    page = write_page(tmp_path / "sample")
    assert "No complete cycle yet" in page.read_text()


def test_the_rung_and_the_delivery_of_a_cycle_are_on_the_page(experiment):
    content = content_of(write_page(experiment))
    letkf = next(chain for chain in content["chains"] if chain["name"] == "letkf")
    assert [(one["fallback"], one["delivery"]) for one in letkf["cycles"][-2:]] == [
        ("full", "final"),
        ("fewer_members", "early"),
    ]


def test_only_a_served_experiment_says_from_when_on_its_data_are_stale(experiment):
    assert content_of(write_page(experiment))["stale_after"] is None
    (experiment / "status.json").write_text('{"max_age_seconds": 1800}')
    assert content_of(write_page(experiment))["stale_after"] == 1800.0
    (experiment / "status.json").write_text("half a fi")
    assert content_of(write_page(experiment))["stale_after"] is None


def test_only_complete_cycles_are_on_the_page(experiment):
    (newest(experiment) / "_SUCCESS").unlink()
    (experiment / "letkf" / "cycles" / "notes").mkdir()
    (experiment / "letkf" / "cycles" / "notes" / "_SUCCESS").touch()
    chains = {chain["name"]: chain["cycles"] for chain in content_of(write_page(experiment))["chains"]}
    assert {name: len(cycles) for name, cycles in chains.items()} == {"letkf": 3, "interpolant_filter": 4}
    assert chains["letkf"][-1]["time"] == "2020-03-03T00:00:00Z"


def test_everything_the_page_links_to_is_there(experiment):
    content = content_of(write_page(experiment))
    for chain in content["chains"]:
        for cycle in chain["cycles"]:
            files = cycle["files"] + [f"plots/{figure['file']}" for figure in cycle["figures"]]
            assert {"analysis.nc", "diag/summary.json"} <= set(files)
            for file in files:
                assert (experiment / cycle["folder"] / file).is_file()


def test_the_page_asks_nothing_of_the_internet(experiment):
    text = write_page(experiment).read_text(encoding="utf-8")
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'<>]*", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of SVG is not an address that is opened"
    assert "@import" not in text and '<link rel="stylesheet"' not in text


def test_text_of_a_config_cannot_break_the_page(experiment):
    """The sample's summary holds a closing script tag and markup."""
    text = write_page(experiment).read_text(encoding="utf-8")
    assert content_of(experiment / "index.html")["experiment"]["summary"] == "A sample </script> with <b>marks</b>."
    assert "A sample &lt;/script&gt; with &lt;b&gt;marks&lt;/b&gt;." in text
    assert text.count("</script>") == text.count("<script")


def test_chains_stand_in_the_order_of_the_config(experiment):
    assert [chain["name"] for chain in content_of(write_page(experiment))["chains"]] == ["interpolant_filter", "letkf"]


def test_chain_facts_come_from_the_newest_analysis(experiment):
    chain = content_of(write_page(experiment))["chains"][1]
    assert (chain["scheme"], chain["members"], chain["model"]) == ("letkf", "20", "3fa9c1d27b")


def test_degraded_reasons_are_on_the_page(experiment):
    cycles = content_of(write_page(experiment))["chains"][1]["cycles"]
    assert [cycle["degraded"] for cycle in cycles] == [[], [], [], ["stream stations: no file by the cut-off"]]


def test_scores_that_are_not_numbers_become_null(experiment):
    path = newest(experiment) / "diag" / "summary.json"
    summary = json.loads(path.read_text())
    summary["scores"]["analysis"]["all"] |= {"rmse": float("nan"), "spread": float("inf")}
    path.write_text(json.dumps(summary))
    cycle = content_of(write_page(experiment))["chains"][1]["cycles"][-1]
    assert cycle["scores"]["analysis"]["all"]["rmse"] is None
    assert cycle["scores"]["analysis"]["all"]["spread"] is None


@pytest.mark.parametrize("damage", ["", "{", "[1, 2]", '{"scores": 3, "counts": null}'])
def test_a_damaged_summary_leaves_its_cycle_without_scores(experiment, damage):
    (newest(experiment) / "diag" / "summary.json").write_text(damage)
    cycle = content_of(write_page(experiment))["chains"][1]["cycles"][-1]
    assert (cycle["scores"], cycle["counts"], cycle["degraded"]) == ({}, {}, [])
    assert len(cycle["figures"]) == 3


def test_a_cycle_without_figures_is_kept(experiment):
    for path in (newest(experiment) / "plots").iterdir():
        path.unlink()
    cycle = content_of(write_page(experiment))["chains"][1]["cycles"][-1]
    assert cycle["figures"] == []
    assert cycle["scores"]


def test_a_long_chain_shows_its_newest_cycles(experiment, monkeypatch):
    monkeypatch.setattr(archive, "MOST_CYCLES", 2)
    chain = content_of(write_page(experiment))["chains"][0]
    assert chain["n_complete"] == 4
    assert [cycle["time"] for cycle in chain["cycles"]] == ["2020-03-03T00:00:00Z", "2020-03-04T00:00:00Z"]


def test_the_table_leaves_the_spin_up_of_the_config_out(experiment):
    tables = content_of(write_page(experiment))["tables"]
    assert list(tables) == ["after spin-up of 1", "all cycles", "later half"]
    counts = {name: {row["n_cycles"] for row in rows if row["field"] == "analysis"} for name, rows in tables.items()}
    assert counts == {"after spin-up of 1": {2}, "all cycles": {3}, "later half": {2}}


def test_writing_again_replaces_the_page_and_leaves_nothing_else(experiment):
    before = sorted(path.name for path in experiment.iterdir())
    write_page(experiment)
    write_page(experiment)
    assert sorted(path.name for path in experiment.iterdir()) == sorted([*before, "index.html"])


def test_series_are_drawn_for_all_chains(experiment, tmp_path):
    picture = Image.open(draw_series(experiment, tmp_path / "series.png")).convert("RGB")
    seen = {colour for _, colour in picture.getcolors(maxcolors=1 << 20)}
    assert {(0, 114, 178), (213, 94, 0)} <= seen, "the first two colours of series"
    assert picture.size[0] == 1600


def test_series_of_nothing_are_refused_in_words(tmp_path):
    with pytest.raises(MissingProduct, match="no chain has a complete cycle"):
        draw_series(tmp_path, tmp_path / "series.png")


def test_the_calibration_of_the_newest_cycle_is_on_the_page_as_the_cycle_wrote_it(experiment):
    chains = {chain["name"]: chain["calibration"] for chain in content_of(write_page(experiment))["chains"]}
    shown = chains["letkf"]
    assert shown["window"] == "20200302T0000Z to 20200304T0000Z, 3 cycles"
    assert shown["alerts"] == ["calibration of stations has changed"] and chains["interpolant_filter"]["alerts"] == []
    assert [(one["kind"], one["name"]) for one in shown["groups"]] == [
        (kind, f"stations/q{k}") for kind in ("background", "analysis") for k in (1, 2)
    ]
    first = shown["groups"][0]
    assert first["coverage"][0] == {"level": 50, "value": 0.5, "low": 0.48, "high": 0.52}
    assert first["ranks"] == [0.3, 0.2, 0.2, 0.3]
    assert first["reliability"] == [
        {"threshold": 0.0, "points": [[0.0, 0.0, 40.0], [1 / 3, 8 / 30, 30.0], [2 / 3, 0.65, 20.0], [1.0, 1.0, 10.0]]}
    ]


@pytest.mark.parametrize("damage", ["{", "{}", "[]", '{"first": 1, "last": 2, "n_cycles": 3, "background": 7}'])
def test_a_damaged_calibration_costs_its_panel_and_nothing_else(experiment, damage):
    (newest(experiment) / "diag" / "calibration.json").write_text(damage)
    chains = {chain["name"]: chain for chain in content_of(write_page(experiment))["chains"]}
    assert chains["letkf"]["calibration"] == {} and len(chains["letkf"]["cycles"]) == 4
    assert chains["interpolant_filter"]["calibration"]["groups"]


def test_a_chain_without_calibration_has_no_panel(experiment):
    (newest(experiment) / "diag" / "calibration.json").unlink()
    chains = {chain["name"]: chain for chain in content_of(write_page(experiment))["chains"]}
    assert chains["letkf"]["calibration"] == {}
