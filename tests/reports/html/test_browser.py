"""Tests of the pages in a real browser, used as a reader would use them."""

import math
import os
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from reports.html.leaderboard import board_page
from reports.html.run import run_page
from reports.leaderboard.build import make_board

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTHS = (360, 800, 1400)
REPORT = {
    "gates": [{"stage": "stage 1", "accepted": True, "gain": 0.1, "standard_error": 0.02, "reason": "r " * 60}],
    "stage1": {
        "rewards": [0.1 * (i % 7) for i in range(60)],
        "sigmas": [0.01 * (1 + i % 3) for i in range(60)],
        "elite": list(range(20)),
        "weights": [0.05] * 20,
        "eigenvalues": [2.0**-i for i in range(20)],
    },
}


def find(name):
    """Return the paths of the browser and its driver; None for one that is not on PATH."""
    browsers = [name] if name else ["google-chrome", "chromium"]
    return next(filter(None, map(shutil.which, browsers)), None), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    named = os.environ.get("BENCH_BROWSER")
    browser, chromedriver = find(named)
    if not (browser and chromedriver):
        missing = f"{browser or named or 'no chromium'}, {chromedriver or 'no chromedriver'} on PATH"
        if named:
            pytest.fail(f"BENCH_BROWSER asks for a browser: {missing}")
        pytest.skip(f"no browser to test pages in: {missing}; BENCH_BROWSER names one")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
        # Chromium's own sandbox refuses to start as root.
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def board(records):
    return make_board(records)


@pytest.fixture(scope="module")
def site(tmp_path_factory, board, make_record, hostile):
    folder = tmp_path_factory.mktemp("site")
    record, samples = hostile
    pages = {
        "board": board_page(board),
        "index": board_page(
            board, {run.id: f"runs/{run.id}.html" for line in board.groups[0].lines for run in line.runs}
        ),
        "committed board": (Path(__file__).parents[3] / "reports" / "leaderboard.html").read_text(),
        "run": run_page(make_record("corp", right=27, report=REPORT).result),
        "hostile board": board_page(make_board([record])),
        "hostile run": run_page(record.result, samples),
    }
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page)
    return {name: (folder / f"{name}.html").as_uri() for name in pages}


@pytest.fixture
def opened(driver, site):
    """Return a function that opens a page on a screen of this width, with this preferred colour scheme."""

    def open_page(name, width=1400, theme="light"):
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        preferred = [{"name": "prefers-color-scheme", "value": theme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preferred})
        # A headless window is not always in focus.
        driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
        driver.get(site[name])
        return driver

    yield open_page
    assert driver.get_log("browser") == []


OUTSIDE = """
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll("body *")].filter((e) => {
  const box = e.getBoundingClientRect();
  return box.width && !e.closest("svg, pre, #tip") && !e.parentElement.closest(".scroll")
    && (box.left < 0 || box.right > width + 1);
}).map((e) => e.outerHTML.slice(0, 80));
"""
CUT = """
return [...document.querySelectorAll(".scroll")].filter((box) => {
  box.scrollLeft = 1e6;
  return box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
}).length;
"""


@pytest.mark.parametrize("name", ["board", "index", "committed board", "run", "hostile board", "hostile run"])
def test_pages_log_nothing_and_fit_the_screen(opened, name):
    for width in WIDTHS:
        page = opened(name, width)
        wide, room = page.execute_script(
            "const d = document.documentElement; return [d.scrollWidth, d.clientWidth]",
        )
        assert wide <= room <= width
        assert page.execute_script(OUTSIDE) == []
        assert page.execute_script(CUT) == 0
        assert page.execute_script("return document.images.length") == 0
        assert page.execute_script("return window.owned") is None


def column(page, number):
    cells = f"section[id^=group-] tbody tr > :nth-child({number})"
    return [cell.get_attribute("data-value") for cell in page.find_elements(By.CSS_SELECTOR, cells)]


def test_a_column_is_sorted_by_its_numbers_from_the_keyboard(opened, board):
    page = opened("board")
    (group,) = board.groups
    flops = [str(line.flops) if line.accuracy else None for line in group.lines]
    heads = page.find_elements(By.CSS_SELECTOR, "section[id^=group-] thead th")
    number, head = next((i, th) for i, th in enumerate(heads, 1) if th.text == "adaptation FLOPs")
    assert column(page, number) == flops
    button = head.find_element(By.TAG_NAME, "button")
    known = sorted((value for value in flops if value), key=float)
    for order, expected in (("ascending", known), ("descending", known[::-1])):
        button.send_keys(Keys.ENTER)
        assert head.get_attribute("aria-sort") == order
        # A run without numbers comes last in both orders.
        assert column(page, number) == [*expected, None]
    assert len(page.find_elements(By.CSS_SELECTOR, "[aria-sort]")) == 1


def test_the_best_accuracy_comes_first_when_sorted_by_it(opened, board):
    page = opened("board")
    # Sort by status first, which moves the run without an accuracy to the top.
    for name in ("status", "accuracy (95 %)"):
        page.find_element(By.XPATH, f"//section[starts-with(@id, 'group-')]//th/button[text()='{name}']").click()
    values = [line.accuracy.value for line in board.groups[0].lines if line.accuracy]
    assert [float(value) for value in column(page, 2)[:-1]] == sorted(values, reverse=True)
    names = column(page, 1)
    assert names[0] == "corp"
    assert names[-1] == "grpo"


DRAWN = """
const number = (e, axis) => e[axis].baseVal[0].value;
const ticks = (axis) => [...document.querySelectorAll(`figure text.tick.${axis}`)].map(
  (e) => [number(e, axis), Number(e.dataset.value)]);
const marks = [...document.querySelectorAll("figure .mark")].map((mark) => {
  const dot = mark.querySelector("circle");
  dot.scrollIntoView({block: "center"});
  const box = dot.getBoundingClientRect();
  const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return {x: dot.cx.baseVal.value, y: dot.cy.baseVal.value, hit: mark.contains(hit), label: mark.ariaLabel};
});
return {x: ticks("x"), y: ticks("y"), marks};
"""


def test_points_are_drawn_at_the_numbers_of_the_records(opened, board):
    drawn = opened("board").execute_script(DRAWN)
    points = board.curves[0].points
    assert len(drawn["marks"]) == len(points)
    (x0, f0), (x1, f1) = drawn["x"][0], drawn["x"][-1]
    (y0, a0), (y1, a1) = drawn["y"][0], drawn["y"][-1]
    for mark, point in zip(drawn["marks"], points, strict=True):
        flops = math.log10(f0) + (mark["x"] - x0) / (x1 - x0) * math.log10(f1 / f0)
        assert 10**flops == pytest.approx(point.flops, rel=1e-3)
        assert a0 + (mark["y"] - y0) / (y1 - y0) * (a1 - a0) == pytest.approx(point.accuracy.value, abs=1e-4)
        assert mark["label"].startswith(f"{point.name} {point.budget}".strip() + ":")
        assert mark["hit"]


def test_focus_and_hover_show_the_numbers_of_a_point(opened, driver):
    page = opened("board")
    tip = page.find_element(By.ID, "tip")
    mark = page.find_elements(By.CSS_SELECTOR, "figure .mark")[-1]
    page.execute_script("arguments[0].focus()", mark)
    assert tip.is_displayed()
    assert tip.text == mark.get_attribute("aria-label")
    webdriver.ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    assert not tip.is_displayed()
    webdriver.ActionChains(driver).move_to_element(mark.find_element(By.TAG_NAME, "circle")).perform()
    assert tip.is_displayed()


def test_the_theme_is_the_one_that_the_system_prefers(opened):
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert opened("board", theme="dark").execute_script(ground) == "rgb(20, 23, 26)"
    assert opened("board", theme="light").execute_script(ground) == "rgb(255, 255, 255)"


def test_a_phone_shows_the_difference_beside_the_accuracy_and_a_desk_the_drawn_intervals(opened):
    for width, shown in ((360, False), (1400, True)):
        page = opened("board", width)
        drawn = page.find_elements(By.CSS_SELECTOR, "section[id^=group-] .drawn")
        assert drawn
        assert {cell.is_displayed() for cell in drawn} == {shown}
    page = opened("board", 360)
    heads = page.find_elements(By.CSS_SELECTOR, "section[id^=group-] thead th")
    difference = next(head for head in heads if head.text.startswith("vs base"))
    assert difference.rect["x"] + difference.rect["width"] <= 360
