"""The calibration panel and the previous forecast in a real browser: numbers, texts for those who do not see, keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import sample_experiment as sample

from cycler_da.plots.page import write_page

By = pytest.importorskip("selenium.webdriver.common.by", reason="selenium is not installed").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
Select = pytest.importorskip("selenium.webdriver.support.ui").Select

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = sample.write_experiment(
        tmp_path_factory.mktemp("page"), sample.qg_layout(8), n_cycles=4, draw=sample.draw_stubs
    )
    write_page(folder)
    return folder


@pytest.fixture
def page(browser, experiment):
    """The page, freshly opened; at the end the console must be empty."""
    browser.get("about:blank")
    browser.get((experiment / "index.html").as_uri() + "#chain=letkf")
    browser.get_log("browser")
    browser.refresh()
    yield browser
    assert browser.get_log("browser") == []


def find(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def spoken(page, selector):
    """What a screen reader says of a chart."""
    chart = find(page, f"{selector} svg")
    assert chart.get_attribute("role") == "img"
    return chart.get_attribute("aria-label")


def test_coverage_ranks_and_reliability_are_drawn_and_said(page):
    assert spoken(page, "#coverage-chart") == (
        "Coverage of stations/q1: 50 % interval holds 50 %, 80 % interval holds 80 %"
    )
    assert "60 % of the observations lie outside all members, 50 % should" in spoken(page, "#rank-chart")
    assert spoken(page, "#reliability-chart").startswith("Reliability of stations/q1")
    assert len(page.find_elements(By.CSS_SELECTOR, "#rank-chart rect")) == 4
    assert len(page.find_elements(By.CSS_SELECTOR, "#reliability-chart circle")) == 4
    note = find(page, "#calibration-note").text
    assert "1200 observations" in note and "1.1 (1 to 1.2); 1 is right" in note and "4.2e-7 s-1" in note


def test_another_group_is_chosen_with_the_keyboard(page):
    select = find(page, "#calibration-group")
    assert [option.text for option in Select(select).options] == [
        "forecast, stations/q1", "forecast, stations/q2", "analysis, stations/q1", "analysis, stations/q2",
    ]  # fmt: skip
    when = find(page, "#when").text
    select.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert "holds 45 %" in spoken(page, "#coverage-chart")
    assert find(page, "#when").text == when  # the loop did not move


def test_alerts_of_the_chain_are_told_and_go_with_it(page):
    assert find(page, "#calibration-alerts").text == "! calibration of stations has changed"
    find(page, "body").send_keys(Keys.ARROW_UP)
    assert not find(page, "#calibration-alerts").is_displayed()


def test_the_previous_forecast_is_verified_at_the_time_that_is_shown(page):
    assert find(page, "#previous-when").text == "from 2020-03-03 0000Z (Tue), valid 2020-03-04 0000Z (Wed)"
    rows = [row.text for row in page.find_elements(By.CSS_SELECTOR, "#previous tbody tr")]
    assert rows[0].startswith("all, normalised") and len(rows) == 3
    assert "stations/q1 1.1 (1 is right)" in find(page, "#previous-note").text
    find(page, "body").send_keys(Keys.ARROW_LEFT)
    assert "valid 2020-03-03 0000Z (Tue)" in find(page, "#previous-when").text
    find(page, "body").send_keys(Keys.HOME)
    assert not find(page, "#previous-card").is_displayed()  # no forecast led to the start


@pytest.mark.parametrize("width", [1280, 1024, 820])
def test_the_panel_fits_the_page_at_every_width(page, width):
    page.set_window_size(width, 900)
    beyond = "const root = document.documentElement; return root.scrollWidth - root.clientWidth"
    assert page.execute_script(beyond) <= 0
    for chart in ("#coverage-chart svg", "#rank-chart svg", "#reliability-chart svg"):
        assert find(page, chart).size["width"] > 120
    page.set_window_size(1280, 900)
