"""The page of an experiment in a real browser: clicks, keys, loop, every width, and a silent console."""

from __future__ import annotations

from pathlib import Path

import pytest
import sample_experiment as sample

from cycler_da.plots.page import write_page

By = pytest.importorskip("selenium.webdriver.common.by", reason="selenium is not installed").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
Select = pytest.importorskip("selenium.webdriver.support.ui").Select
Wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait

pytestmark = pytest.mark.browser

TIMES = ("2020-03-01 0000Z (Sun)", "2020-03-02 0000Z (Mon)", "2020-03-03 0000Z (Tue)", "2020-03-04 0000Z (Wed)")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    folder = sample.write_experiment(root, sample.qg_layout(8), n_cycles=4, draw=sample.draw_stubs)
    for cycle in sorted((folder / "letkf" / "cycles").iterdir())[:1]:
        (cycle / "_SUCCESS").unlink()  # this chain starts one cycle later
    write_page(folder)
    return folder


@pytest.fixture
def page(browser, experiment):
    """The page, freshly opened; at the end the console must be empty."""
    browser.get("about:blank")
    browser.get((experiment / "index.html").as_uri())
    browser.get_log("browser")
    browser.refresh()
    yield browser
    assert browser.get_log("browser") == []


def find(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def text(page, selector):
    return find(page, selector).text


def press(page, key):
    find(page, "body").send_keys(key)


def shown(page):
    """Which picture is on the stage."""
    return find(page, "#map").get_attribute("src").split("/sample/")[-1]


def click_button(page, group, label):
    next(button for button in page.find_elements(By.CSS_SELECTOR, f"{group} button") if button.text == label).click()


def is_loaded(page):
    return page.execute_script("const i = document.getElementById('map'); return i.complete && i.naturalWidth > 0")


def test_the_newest_cycle_is_shown_first(page):
    assert text(page, "#when") == TIMES[-1]
    assert shown(page) == "interpolant_filter/cycles/20200304T0000Z/plots/map.q1.png"
    Wait(page, 5).until(is_loaded)


def test_arrow_keys_move_through_the_cycles(page):
    press(page, Keys.ARROW_LEFT)
    assert text(page, "#when") == TIMES[-2]
    assert "20200303T0000Z" in shown(page)
    press(page, Keys.HOME)
    assert text(page, "#when") == TIMES[0]
    press(page, Keys.ARROW_LEFT)
    assert text(page, "#when") == TIMES[-1], "the loop is closed"
    press(page, Keys.ARROW_RIGHT)
    assert text(page, "#when") == TIMES[0]


def test_space_plays_and_stops_the_loop(page):
    Select(find(page, "#speed")).select_by_value("150")
    press(page, Keys.SPACE)
    assert find(page, "#play").get_attribute("aria-pressed") == "true"
    seen = set()
    Wait(page, 10, poll_frequency=0.05).until(lambda _: seen.add(text(page, "#when")) or len(seen) == 4)
    press(page, Keys.SPACE)
    assert find(page, "#play").get_attribute("aria-pressed") == "false"


def test_the_slider_moves_the_map(page):
    slider = find(page, "#slider")
    slider.send_keys(Keys.ARROW_LEFT)
    assert text(page, "#when") == TIMES[-2]
    assert slider.get_attribute("aria-valuetext") == TIMES[-2]


def test_a_click_changes_the_chain_and_keeps_the_time(page):
    press(page, Keys.ARROW_LEFT)
    click_button(page, "#chains", "letkf")
    assert shown(page) == "letkf/cycles/20200303T0000Z/plots/map.q1.png"
    assert "stream stations: no file by the cut-off" in text(page, "#status")
    assert "Degraded: fallback fewer members" in text(page, "#status")
    assert "early: late observations may still come" in text(page, "#status")
    assert "STALE" not in text(page, "#status"), "nobody serves this experiment"
    assert text(page, "#archive-chain") == "letkf"
    press(page, Keys.ARROW_UP)
    assert shown(page) == "interpolant_filter/cycles/20200303T0000Z/plots/map.q1.png"
    assert "Complete" in text(page, "#status")


def test_a_click_gives_the_keyboard_back_to_the_loop(page):
    click_button(page, "#figures", "q2")
    press(page, Keys.ARROW_LEFT)
    assert shown(page).endswith("20200303T0000Z/plots/map.q2.png")


def test_a_chain_without_the_cycle_says_so(page):
    click_button(page, "#chains", "letkf")
    press(page, Keys.HOME)
    assert text(page, "#gap") == "Chain letkf has no complete cycle at this time."


def test_a_cycle_without_the_figure_says_so(page):
    click_button(page, "#figures", "departures")
    press(page, Keys.HOME)
    assert text(page, "#gap") == "This cycle has no such figure."


def test_pictures_carry_their_description(page):
    assert find(page, "#map").get_attribute("alt") == "map.q1 of interpolant_filter at 20200304T0000Z"
    find(page, "figcaption summary").click()
    assert text(page, "#alt") == "map.q1 of interpolant_filter at 20200304T0000Z"


def test_the_switch_shows_colour_blind_safe_maps_where_they_exist(page):
    find(page, ".switch").click()
    assert shown(page).endswith("map.q1.safe.png")
    click_button(page, "#figures", "q2")
    assert shown(page).endswith("map.q2.png")
    assert page.find_elements(By.CSS_SELECTOR, "#score-legend path"), "series have marks of their own"
    find(page, ".switch").click()


def test_charts_follow_score_and_variable(page):
    def legend():
        return [one.text for one in page.find_elements(By.CSS_SELECTOR, "#score-legend > span")]

    assert legend()[0].startswith("interpolant_filter, background")
    before = legend()
    Select(find(page, "#variable")).select_by_value("q1")
    assert legend() != before
    assert legend()[0].endswith("s⁻¹")
    Select(find(page, "#score")).select_by_value("spread_skill")
    assert legend()[0].endswith("0.922")


def test_a_click_on_a_chart_goes_to_that_cycle(page):
    page.execute_script(
        "const svg = document.querySelector('#score-chart svg'), box = svg.getBoundingClientRect();"
        "svg.dispatchEvent(new MouseEvent('click', {clientX: box.left + 55, clientY: box.top + 50, bubbles: true}))"
    )
    assert text(page, "#when") == TIMES[0]


def test_the_table_has_a_row_for_each_chain_and_field(page):
    rows = [row.text.split()[:2] for row in page.find_elements(By.CSS_SELECTOR, "#scores tbody tr")]
    chains = ("interpolant_filter", "letkf")
    expected = [[chain, field] for chain in chains for field in ("background", "analysis")]
    assert rows[:4] == expected
    assert {field for _, field in rows[4:]} == {"persistence"}
    Select(find(page, "#range")).select_by_visible_text("all cycles")
    assert [row.text.split()[2] for row in page.find_elements(By.CSS_SELECTOR, "#scores tbody tr.analysis")] == [
        "3",
        "3",
    ]


def test_the_archive_links_to_files_and_moves_the_loop(page, experiment):
    links = [link.get_attribute("href") for link in page.find_elements(By.CSS_SELECTOR, "#archive tbody a")]
    assert len(links) > 4
    for link in links:
        assert Path(link.removeprefix("file://")).is_file()
    page.find_elements(By.CSS_SELECTOR, "#archive .link")[-1].send_keys(Keys.ENTER)
    assert text(page, "#when") == TIMES[0]


def test_an_address_leads_back_to_the_same_place(page):
    click_button(page, "#chains", "letkf")
    press(page, Keys.ARROW_LEFT)
    place = shown(page)
    page.refresh()
    assert shown(page) == place


@pytest.mark.parametrize("width", [1280, 820])
def test_nothing_hangs_over_the_edge(page, width):
    page.set_window_size(width, 900)
    Wait(page, 5).until(lambda _: abs(page.execute_script("return innerWidth") - width) < 20)
    over = page.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.set_window_size(1280, 900)
    assert over <= 0


def test_the_page_of_an_empty_experiment_opens(browser, tmp_path):
    browser.get(write_page(tmp_path).as_uri())
    assert "No complete cycle yet" in find(browser, "#empty").text
    assert browser.get_log("browser") == []
