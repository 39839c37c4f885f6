"""Monitoring over time and forecasts that are over, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sample_experiment as sample
from PIL import Image

from cycler_da.plots.page import write_page

By = pytest.importorskip("selenium.webdriver.common.by", reason="selenium is not installed").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
Select = pytest.importorskip("selenium.webdriver.support.ui").Select

pytestmark = pytest.mark.browser

CHAIN = "letkf"


def draw(folder: Path, out: Path) -> None:
    """Stand-ins for a map and a figure of a forecast, of which the summary tells the end."""
    sample.draw_stubs(folder, out)
    Image.new("RGB", (160, 100), (90, 90, 90)).save(out / "forecast.q1.png")
    captions = json.loads((out / "captions.json").read_text())
    figure = {**captions["figures"][0], "file": "forecast.q1.png", "kind": "forecast", "safe_file": ""}
    (out / "captions.json").write_text(json.dumps({**captions, "figures": [*captions["figures"], figure]}))
    summary = json.loads((folder / "diag" / "summary.json").read_text())
    day = int(folder.name[6:8])
    more = {"forecast_until": f"2020-03-{day + 2:02d}T00:00:00Z", "diagnostics": {"inflation_mean": 1.0 + day / 100}}
    if day == 2:
        more["exit_code"] = 4
    (folder / "diag" / "summary.json").write_text(json.dumps({**summary, **more}))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    folder = sample.write_experiment(root, sample.qg_layout(8), n_cycles=4, chains={CHAIN: 0.07}, draw=draw)
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def served(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same experiment, served: there somebody waits for forecasts."""
    (experiment / "status.json").write_text(json.dumps({"max_age_seconds": 86400}))
    page = write_page(experiment)
    kept = page.rename(experiment / "served.html")
    (experiment / "status.json").unlink()
    write_page(experiment)
    return kept


@pytest.fixture
def page(browser, experiment):
    yield from opened(browser, experiment / "index.html")


@pytest.fixture
def served_page(browser, served):
    yield from opened(browser, served)


def opened(browser, path: Path):
    browser.get("about:blank")
    browser.get(path.as_uri())
    browser.get_log("browser")
    browser.refresh()
    yield browser
    assert browser.get_log("browser") == []


def find(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def test_the_state_of_every_cycle_is_drawn_and_said(page):
    chart = find(page, "#state-chart svg")
    assert chart.get_attribute("aria-label") == (
        "State of the 4 cycles of chain letkf: 2 complete, 1 no observations, 1 lower rung"
    )
    boxes = chart.find_elements(By.CSS_SELECTOR, "rect")
    assert len(boxes) == 4
    boxes[1].click()
    assert find(page, "#when").text == "2020-03-02 0000Z (Mon)"


def test_calibration_and_diagnostics_are_watched_over_time(page):
    select = Select(find(page, "#watched"))
    assert [option.text for option in select.options] == [
        "Chi-square of innovations, trailing: background",
        "Coverage of the 90 % interval, trailing: background",
        "Scheme: inflation mean",
    ]
    assert find(page, "#watched-legend").text.split() == ["stations/q1", "1.1"]
    select.select_by_visible_text("Scheme: inflation mean")
    find(page, "body").send_keys(Keys.HOME)
    assert find(page, "#watched-legend").text.split() == ["inflation", "mean", "1.01"]


def test_a_forecast_that_a_newer_one_follows_is_said_to_be_superseded(page):
    press = find(page, "#figures").find_elements(By.CSS_SELECTOR, "button")
    next(button for button in press if button.text == "forecast q1").click()
    assert not find(page, "#figure-notice").is_displayed()  # the newest
    find(page, "body").send_keys(Keys.ARROW_LEFT)
    assert find(page, "#figure-notice").text == "! SUPERSEDED by the forecast from 2020-03-04 0000Z (Wed)"
    next(button for button in press if button.text == "q1").click()
    assert not find(page, "#figure-notice").is_displayed()  # a map of the analysis is no forecast


def test_a_served_forecast_whose_last_time_is_past_is_said_to_be_expired(served_page):
    assert "! EXPIRED" in find(served_page, "#status").text
    buttons = find(served_page, "#figures").find_elements(By.CSS_SELECTOR, "button")
    next(button for button in buttons if button.text == "forecast q1").click()
    assert find(served_page, "#figure-notice").text == "! EXPIRED: this forecast ended at 2020-03-06 0000Z (Fri)"


@pytest.mark.parametrize("width", [1280, 1024, 820])
def test_the_charts_of_the_side_fit_the_page_at_every_width(page, width):
    page.set_window_size(width, 900)
    right = "return document.querySelector(arguments[0]).getBoundingClientRect().right"
    edge = page.execute_script(right, "#status")
    for card in ("#score-card", "#monitoring-card", "#count-card"):
        assert page.execute_script(right, card) <= edge + 1  # a pixel of rounding
    page.set_window_size(1280, 900)
