"""Pieces of a report: HTML that cannot be broken out of, tables that stay short, charts of single values."""

from __future__ import annotations

import json

import numpy as np
import polars as pl

from servesim.report import tables
from servesim.report.html import Markup, safe, table, tag, value, value_text
from servesim.report.specs import Axis, heat_chart, time_chart
from servesim.results.replica_map import ReplicaMap
from servesim.results.schema import SUMMARY


def test_text_and_attributes_are_escaped():
    """Markup passes, text does not; attributes cannot be closed."""
    made = tag("p", "<b>", Markup("<i>x</i>"), title='"><script>', data_key="k")
    assert safe(made) == ('<p title="&quot;&gt;&lt;script&gt;" data-key="k">&lt;b&gt;<i>x</i></p>')
    assert '<th scope="row">&lt;a&gt;</th><td>1</td>' in table(["name", "n"], [["<a>", "1"]]).html


def test_values_have_their_units():
    """The unit that the summary declares, and the exact number beside it."""
    assert value_text("ttft_s_p99", 0.0421) == "42.1 ms"
    assert value_text("requests_completed", 12_000) == "12,000"
    assert value_text("requests_per_s", 5.385) == "5.38 requests/s"
    assert value_text("slo_met_ratio", 0.98765) == "98.8%"
    assert value_text("cost_usd", 1.5598) == "1.56 USD"
    assert 'value="0.0421"' in value({"ttft_s_p99": 0.0421}, "ttft_s_p99").html
    assert "\N{EN DASH}" in value({}, "cost_usd").html


def test_many_tenants_are_cut_to_the_largest():
    """A hundred rows, the ones with the most requests, and how many there are."""
    groups = {f"t{number:04}": {"requests": number, "requests_completed": number} for number in range(500)}
    summary = {"tenants": groups, "models": None, "slo_classes": None}
    ((title, shown),) = tables.groups({"run": summary})
    assert title == "tenants"
    assert "t0499" in shown.html
    assert "t0399" not in shown.html
    assert "100 of 500 tenants" in shown.html


def test_points_without_a_value_are_left_out():
    """Null is no point, not a zero; numbers are short."""
    series = {"a": pl.Series([1.23456789, None]), "b": pl.Series([None, 2.0])}
    spec = time_chart(
        np.array([0.5, 1.5]), series, x_axis=Axis("time (s)", 0.0, 2.0), y_axis=Axis("requests")
    )
    assert spec["data"]["values"] == [{"place": 0.5, "s0": 1.2346}, {"place": 1.5, "s1": 2.0}]
    json.dumps(spec, allow_nan=False)


def test_names_stay_out_of_code():
    """A series may be called anything: expressions of a chart know it by its number."""
    name = "datum['x'] + \"'; alert(1)"
    spec = time_chart(
        np.array([0.5]), {name: pl.Series([1.0])}, x_axis=Axis("t", 0.0, 1.0), y_axis=Axis("requests")
    )
    steps = json.dumps(spec["layer"][0]["transform"])
    assert "alert" not in steps


def test_a_heat_map_has_a_row_per_replica():
    """Values by row; the last column ends with the run."""
    spec = heat_chart(
        ReplicaMap(["0", "1-2"], np.array([[0.0, 1.0], [2.0, 3.0]])),
        width=5.0,
        x_axis=Axis("time (s)", 0.0, 9.0),
        color=Axis("requests"),
    )
    assert spec["data"]["values"] == [{"row": "0", "value": [0.0, 1.0]}, {"row": "1-2", "value": [2.0, 3.0]}]
    assert any("min(datum.column * 5.0, 9.0)" in str(step) for step in spec["layer"][0]["transform"])


def test_differences_in_words_that_suit_them():
    """Percent of the first run, percentage points of a ratio, a factor where percent say little, else the amount."""
    base = dict.fromkeys((key.name for key in SUMMARY), None)
    first = {**base, "ttft_s_p50": 2.0, "e2e_s_p50": 1.0, "slo_met_ratio": 0.5, "preemptions": 0}
    second = {**base, "ttft_s_p50": 1.5, "e2e_s_p50": 25.0, "slo_met_ratio": 0.75, "preemptions": 3}
    text = tables.side_by_side({"first": first, "second": second}).html
    for word in ("\N{MINUS SIGN}25.0%", "\N{MULTIPLICATION SIGN} 25.0", "+25.0 points", "+3"):
        assert f'<div class="difference">{word}</div>' in text


def test_a_line_of_one_point_is_seen():
    """As a point; and zeros lie on an axis that goes from 0 to 1."""
    axes = {"x_axis": Axis("time (s)", 0.0, 2.0), "y_axis": Axis("requests")}
    x = np.array([0.5, 1.5])
    lonely = time_chart(x, {"a": pl.Series([1.0, None])}, **axes)["layer"][0]
    assert lonely["mark"]["point"]
    zeros = time_chart(x, {"a": pl.Series([0.0, 0.0])}, **axes)["layer"][0]
    assert "point" not in zeros["mark"]
    assert zeros["encoding"]["y"]["scale"]["domain"] == [0, 1.0]


def test_legends_fit_a_phone():
    """Short names share a line, long ones have one each."""
    x, axes = np.array([0.5]), {"x_axis": Axis("t", 0.0, 1.0), "y_axis": Axis("requests")}

    def columns(*names: str) -> int:
        spec = time_chart(x, {name: pl.Series([1.0]) for name in names}, **axes)
        return spec["layer"][0]["encoding"]["color"]["legend"]["columns"]

    assert columns("rep1", "rep2") == 5
    assert columns("router=power_of_two, replicas=4", "router=random, replicas=4") == 1
