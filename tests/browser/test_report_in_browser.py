"""Reports in a headless Chromium: charts are drawn, react, fit the window, follow dark mode, and nothing is fetched.

Where there is no Chromium these tests are skipped; with SERVESIM_REQUIRE_BROWSER=1 (in CI) they fail instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, find_chromium

import servesim
from servesim.experiments.saved import COMPARISON
from servesim.report import write_report
from servesim.report.comparison_report import comparison_report
from servesim.report.files import write_page

DRAWN = "document.documentElement.dataset.drawn !== undefined"
MARKS = """
[...document.querySelectorAll(".chart")].map((chart) => ({
  title: chart.getAttribute("aria-label"),
  lines: [...chart.querySelectorAll(".mark-line path, .mark-area path")]
    .filter((path) => path.getAttribute("d").length > 20).length,
  rectangles: chart.querySelectorAll(".mark-rect.role-mark path").length,
  points: chart.querySelectorAll(".mark-symbol.role-mark path").length,
  wide: chart.querySelector("svg").getBoundingClientRect().width / chart.getBoundingClientRect().width,
}))
"""
BRUSH_RECTANGLES = 2
PAGE_SCROLLS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a browser."""
    program = find_chromium()
    if program is None:
        message = "there is no Chromium here: install chromium, or google-chrome, to look at reports"
        if os.environ.get("SERVESIM_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    with Browser(program) as opened:
        yield opened


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return reports: of a run with everything in it, of two runs side by side, of the models of two pools."""
    folder = tmp_path_factory.mktemp("reports")
    full = servesim.run(
        "scenarios/quickstart.yaml",
        overrides=[
            *("workload.max_requests=600", "workload.rate_scale=3"),
            *("cluster.pools.main.engine.kv_blocks=200", "workload.tenant=<img src=x onerror=alert(1)>"),
        ],
    )
    short = servesim.run("scenarios/quickstart.yaml", overrides=["workload.max_requests=300"])
    models = servesim.run("scenarios/two_models.yaml", overrides=["run.horizon_s=60"])
    shown = {
        "full": full,
        "two": {"<b>full</b>": full, "short": short},
        "models": models,
    }
    for name, runs in shown.items():
        write_report(runs, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in shown}


def opened(browser: Browser, path: Path, *, width: int = 1280, dark: bool = False) -> None:
    """Open a report and wait until its charts are drawn."""
    browser.show(width=width, dark=dark)
    browser.open(path)
    browser.wait(DRAWN)


def drag(browser: Browser, chart: str, start: float, end: float) -> None:
    """Drag the mouse across the plot of a chart, from one share of its width to another."""
    left, top, width, height = plot_of(browser, chart)
    places = [left + width * (start + (end - start) * step / 8) for step in range(9)]
    middle = top + height / 2
    browser.mouse("mouseMoved", places[0], middle)
    browser.mouse("mousePressed", places[0], middle, held=True)
    for place in places[1:]:
        browser.mouse("mouseMoved", place, middle, held=True)
    browser.mouse("mouseReleased", places[-1], middle)


def plot_of(browser: Browser, chart: str) -> list[float]:
    """Scroll to a chart and return left, top, width and height of its plot in the window."""
    place: list[float] = browser.run(f"""(() => {{
      const chart = document.querySelector('[aria-label={json.dumps(chart)}]');
      chart.scrollIntoView({{block: "center"}});
      const box = chart.querySelector("svg .background").getBoundingClientRect();
      return [box.x, box.y, box.width, box.height];
    }})()""")
    return place


def domain(browser: Browser, chart: str) -> list[float]:
    """Return the ends of the axis that a chart shows."""
    ends: list[float] = browser.run(
        f"(() => {{ const one = views.find((one) => charts[Object.keys(charts)[views.indexOf(one)]] === one.chart &&"
        f" document.querySelectorAll('.chart')[views.indexOf(one)].getAttribute('aria-label') === "
        f"{json.dumps(chart)}); return [one.view.signal('from'), one.view.signal('to')]; }})()"
    )
    return ends


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("name", ["full", "two", "models"])
def test_every_chart_is_drawn(browser, reports, name, width, dark):
    """Marks in each, as wide as there is room; no scrolling sideways, no complaint, no request but the page's own."""
    opened(browser, reports[name], width=width, dark=dark)
    charts = browser.run(MARKS)
    assert len(charts) >= 14
    lines = [chart for chart in charts if "by replica" not in chart["title"]]
    assert [chart["title"] for chart in lines if not chart["lines"]] == []
    heat = [chart for chart in charts if "by replica" in chart["title"]]
    assert heat
    assert [chart["title"] for chart in heat if chart["rectangles"] < BRUSH_RECTANGLES + 20] == []
    assert [chart["title"] for chart in charts if not 0.9 < chart["wide"] <= 1.01] == []
    assert browser.run(PAGE_SCROLLS) is False
    assert browser.complaints == []
    assert browser.requested == [reports[name].resolve().as_uri()]


def test_intervals_of_a_comparison_are_drawn(browser, tmp_path):
    """A point per variant and metric that has a relative difference."""
    comparison = servesim.compare(
        "scenarios/quickstart.yaml",
        vary={"policies.router.name": ["round_robin", "random"]},
        overrides=["workload.max_requests=60", "workload.resample.block_s=5"],
        seeds=3,
        workers=1,
    )
    COMPARISON.save(comparison.to_dict(), comparison.values, tmp_path / "c")
    write_page(tmp_path / "c.html", comparison_report(tmp_path / "c"))
    opened(browser, tmp_path / "c.html", width=375)
    (chart,) = browser.run(MARKS)
    assert chart["points"] == comparison.table["relative"].count()
    assert browser.run(PAGE_SCROLLS) is False
    assert browser.complaints == []


def test_numbers_are_the_summarys(browser, reports):
    """What stands on the page after its scripts have run is what the summary says."""
    opened(browser, reports["models"])
    result = servesim.run("scenarios/two_models.yaml", overrides=["run.horizon_s=60"])
    shown = browser.run(
        "Object.fromEntries([...document.querySelectorAll('#summary data[data-key]')]"
        ".map((data) => [data.dataset.key, data.value]))"
    )
    assert len(shown) > 15
    assert {key: float(value) for key, value in shown.items()} == {key: result.summary[key] for key in shown}


def test_dark_mode(browser, reports):
    """The page is dark, its text light, and a change of the reader's mind draws the charts anew."""
    opened(browser, reports["full"], dark=True)
    color = "getComputedStyle(document.querySelector({!r})).{}"
    label = ".chart .role-axis-label text"
    assert browser.run(color.format("body", "backgroundColor")) == "rgb(20, 23, 27)"
    dark = browser.run(color.format(label, "fill"))
    browser.show(width=1280, dark=False)
    browser.wait(f"{color.format(label, 'fill')} !== {dark!r}")
    assert browser.run(color.format("body", "backgroundColor")) == "rgb(255, 255, 255)"
    assert browser.complaints == []


def test_dragging_zooms_all_charts_over_time(browser, reports):
    """To the stretch that was marked; a double click, or the button, goes back."""
    opened(browser, reports["full"])
    whole = domain(browser, "Batch size")
    drag(browser, "Requests per second", 0.25, 0.5)
    browser.wait("!reset.hidden")
    quarter = (whole[1] - whole[0]) / 4
    for chart in ("Requests per second", "Batch size", "Utilization (%) by replica"):
        low, high = domain(browser, chart)
        assert low == pytest.approx(quarter, rel=0.05)
        assert high == pytest.approx(2 * quarter, rel=0.05)
    assert domain(browser, "Time to first token: cumulative") != pytest.approx([low, high])
    browser.run("reset.click()")
    browser.wait("reset.hidden")
    assert domain(browser, "Batch size") == whole
    drag(browser, "Time to first token: cumulative", 0.3, 0.6)
    browser.wait("!reset.hidden")
    assert domain(browser, "Batch size") == whole
    assert domain(browser, "Time to first token: distribution") == domain(
        browser, "Time to first token: cumulative"
    )
    left, top, width, height = plot_of(browser, "Time to first token: cumulative")
    for clicks in (1, 2):
        for kind in ("mousePressed", "mouseReleased"):
            browser.mouse(kind, left + width / 2, top + height / 2, held=True, clicks=clicks)
    browser.wait("reset.hidden")
    assert browser.complaints == []


def test_a_legend_switches_lines_off_and_on(browser, reports):
    """A click on a name shows it alone, another click shows all again."""
    opened(browser, reports["full"])
    chart = "Requests in the system"
    plot_of(browser, chart)
    place = browser.run(f"""(() => {{
      const chart = document.querySelector('[aria-label={json.dumps(chart)}]');
      const box = chart.querySelector(".role-legend-label text").getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    }})()""")
    lines = f"document.querySelectorAll('[aria-label={json.dumps(chart)}] .mark-line path').length"
    assert browser.run(lines) == 2
    for expected in (1, 2):
        browser.mouse("mouseMoved", *place)
        browser.mouse("mousePressed", *place, held=True)
        browser.mouse("mouseReleased", *place)
        browser.wait(f"{lines} === {expected}")


def test_pointing_tells_all_series(browser, reports):
    """The tooltip names every run, as text, with its number."""
    opened(browser, reports["two"])
    left, top, width, height = plot_of(browser, "End-to-end latency: cumulative")
    browser.mouse("mouseMoved", left + width / 2 - 5, top + height / 2)
    browser.mouse("mouseMoved", left + width / 2, top + height / 2)
    browser.wait("document.querySelector('#vg-tooltip-element.visible') !== null")
    told = browser.run("document.getElementById('vg-tooltip-element').innerText")
    assert "<b>full</b>, end-to-end latency" in told
    assert "short, end-to-end latency" in told
    assert browser.run("document.querySelector('#vg-tooltip-element b')") is None


def test_what_fails_is_noticed(browser, tmp_path):
    """The test's own eyes: an exception, a console error and a refused request are complaints."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><title>bad</title><img src='missing.png'>"
        "<script>console.error('one'); document.documentElement.dataset.drawn = 1; undefined.two</script>"
    )
    browser.open(page)
    browser.wait(DRAWN)
    browser.wait("document.images[0].complete")
    assert any("one" in complaint for complaint in browser.complaints)
    assert any("two" in complaint for complaint in browser.complaints)
    assert any("missing.png" in address for address in browser.requested)
