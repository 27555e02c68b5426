"""Charts as Vega-Lite specifications: plain data, without colours of their own and without any text of users in code.

What a chart shows comes as a wide table: ``place`` on the axis, and a column per series, named ``s0``, ``s1``, ...
The names that people read are data (the parameter ``labels``), because a run may be called anything.

The page (``page.js``) adds the colours of its theme and the zoom: it sets the parameters ``from`` and ``to``, the
ends of the zoomed axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from servesim.results.replica_map import ReplicaMap
from servesim.results.steps import Floats

Spec = dict[str, Any]

_DIGITS = 5
"""Significant digits of a number in a chart."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis says.

    Attributes
    ----------
    title
        Quantity, with its unit in brackets.
    low, high
        Its ends; None: to suit the data.
    log
        Whether it is logarithmic.
    root
        Whether it grows with the square root: small numbers can be told apart beside large ones.
    """

    title: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    root: bool = False


def time_chart(x: Floats, series: Mapping[str, pl.Series], *, x_axis: Axis, y_axis: Axis) -> Spec:
    """Return lines over time: middles of bins *x*, and values of each series by its label; null leaves a point out."""
    mark: Spec = {"type": "line", "interpolate": "linear", "clip": True, "strokeWidth": 1.5}
    if any(values.count() == 1 for values in series.values()):  # a line of one point is not seen
        mark |= {"point": {"size": 20, "filled": True}}
    if not any(values.max() for values in series.values()):
        y_axis = replace(y_axis, high=1.0)  # only zeros: let them lie on the axis
    lines = {
        **_series_layer(len(series)),
        "mark": mark,
        "encoding": {
            "x": _zoomed(x_axis),
            "y": _upright("value", y_axis),
            "color": _color(list(series)),
        },
    }
    return _chart(
        _table(x, series),
        series,
        [_with_brush(lines, "x"), _hover(series, x_axis, along="x")],
        x_axis,
    )


def curve_chart(share: Floats, series: Mapping[str, pl.Series], *, x_axis: Axis) -> Spec:
    """Return cumulative distributions: the latency of each series at each *share* of requests (percent)."""
    lines = {
        **_series_layer(len(series)),
        "mark": {"type": "line", "clip": True, "strokeWidth": 1.5},
        "encoding": {
            "x": {**_zoomed(x_axis), "field": "value"},
            "y": _upright("place", Axis("requests (%)", high=100.0)),
            "order": {"field": "place"},
            "color": _color(list(series)),
        },
    }
    hover = _hover(series, Axis("requests (%)"), along="y", unit=x_axis.title)
    return _chart(_table(share, series), series, [_with_brush(lines, "x"), hover], x_axis)


def histogram_chart(low: Floats, series: Mapping[str, pl.Series], *, x_axis: Axis) -> Spec:
    """Return histograms as stairs: the percentage of each series in the bin that starts at each *low*."""
    stairs = {
        **_series_layer(len(series)),
        "mark": {
            "type": "area",
            "interpolate": "step-after",
            "line": {"strokeWidth": 1.2},
            "fillOpacity": 0.25 if len(series) == 1 else 0.08,
            "clip": True,
        },
        "encoding": {
            "x": _zoomed(x_axis),
            "y": {**_upright("value", Axis("requests in a bin (%)")), "stack": None},
            "color": _color(list(series)),
        },
    }
    hover = _hover(series, x_axis, along="x", unit="% of requests")
    return _chart(_table(low, series), series, [_with_brush(stairs, "x"), hover], x_axis)


def heat_chart(table: ReplicaMap, *, width: float, x_axis: Axis, color: Axis) -> Spec:
    """Return a heat map: replicas down, time across in bins of *width*."""
    rows = [
        {"row": row, "value": [_rounded(value) for value in values]}
        for row, values in zip(table.rows, table.values.tolist(), strict=True)
    ]
    rectangles = {
        "transform": [
            {"flatten": ["value"]},
            {"window": [{"op": "row_number", "as": "column"}], "groupby": ["row"]},
            {"calculate": f"(datum.column - 1) * {width!r}", "as": "place"},
            {"calculate": f"min(datum.column * {width!r}, {x_axis.high!r})", "as": "end"},
        ],
        "mark": {"type": "rect", "clip": True},
        "encoding": {
            "x": _zoomed(x_axis),
            "x2": {"field": "end"},
            "y": {
                "field": "row",
                "type": "ordinal",
                "sort": None,
                "title": "replica",
                "axis": {"labelOverlap": True, "ticks": False, "domain": False, "grid": False},
            },
            "color": {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "scale": {"type": "sqrt" if color.root else "linear", "domain": [0, color.high]},
                "legend": {"orient": "top", "gradientLength": 220, "gradientThickness": 8, "tickCount": 4},
            },
            "tooltip": [
                {"field": "row", "title": "replica"},
                {"field": "place", "title": x_axis.title, "type": "quantitative", "format": ".4~g"},
                {"field": "value", "title": color.title, "type": "quantitative", "format": ".3~r"},
            ],
        },
    }
    return {
        "width": "container",
        "height": len(rows) * min(max(240 // len(rows), 7), 24),
        "data": {"values": rows},
        "params": _ends(x_axis),
        "layer": [_with_brush(rectangles, "x")],
    }


def interval_chart(rows: Sequence[Mapping[str, Any]], variants: Sequence[str], *, title: str) -> Spec:
    """Return intervals of differences: a line per metric, variants below each other, and zero.

    Parameters
    ----------
    rows
        ``metric, variant, value, low, high`` each.
    variants
        Labels of the variants.
    title
        Of the axis.
    """
    height = 14 * len(variants) + 34  # of a metric, its name above its intervals
    name = {
        "labelAlign": "left",
        "labelOffset": 10 - height / 2,
        "labelPadding": -4,
        "labelFontSize": 12,
        "labelLimit": 300,
    }
    place = {
        "y": {
            "field": "metric",
            "type": "nominal",
            "sort": None,
            "title": None,
            "axis": {**name, "ticks": False, "domain": False},
        },
        "yOffset": {
            "field": "variant",
            "type": "nominal",
            "sort": list(variants),
            "scale": {"paddingOuter": 1},
        },
        "color": {
            "field": "variant",
            "type": "nominal",
            "scale": {"domain": list(variants)},
            "legend": _legend(variants),
        },
        "tooltip": [
            {"field": "metric"},
            {"field": "variant"},
            *(
                {"field": name, "type": "quantitative", "format": "+.3~r"}
                for name in ("value", "low", "high")
            ),
        ],
    }
    x = {"field": "low", "type": "quantitative", "title": title}
    return {
        "width": "container",
        "height": len({row["metric"] for row in rows}) * height,
        "data": {"values": [dict(row) for row in rows]},
        "layer": [
            {"mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": {"x": {"datum": 0}}},
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {**place, "x": x, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 50},
                "encoding": {**place, "x": {**x, "field": "value"}},
            },
        ],
    }


_LEGEND_LETTERS = 46
"""Letters of a line of the legend, symbols included."""


def _legend(labels: Sequence[str]) -> Spec:
    """Return a legend above the chart, in as many columns as fit a phone: Vega does not wrap."""
    columns = _LEGEND_LETTERS // (max(map(len, labels)) + 4)
    return {
        "orient": "top",
        "title": None,
        "columns": max(columns, 1),
        "labelLimit": 300,
        "symbolType": "stroke",
    }


def _upright(field: str, axis: Axis) -> Spec:
    """Return the vertical axis: from 0 on, and to a number that is labelled."""
    scale: Spec = {"domainMin": 0, "nice": 5} if axis.high is None else {"domain": [0, axis.high]}
    return {
        "field": field,
        "type": "quantitative",
        "title": axis.title,
        "scale": scale,
        "axis": {"tickCount": 5},
    }


def _chart(data: list[dict[str, Any]], labels: Mapping[str, Any], layer: list[Spec], x_axis: Axis) -> Spec:
    return {
        "width": "container",
        "height": 190,
        "data": {"values": data},
        "params": [
            *_ends(x_axis),
            {"name": "labels", "value": {f"s{number}": label for number, label in enumerate(labels)}},
        ],
        "layer": layer,
    }


def _ends(x_axis: Axis) -> list[Spec]:
    return [{"name": "from", "value": x_axis.low}, {"name": "to", "value": x_axis.high}]


def _table(x: Floats, series: Mapping[str, pl.Series]) -> list[dict[str, Any]]:
    """Return a row per place on the axis, with the series that have a value there."""
    columns = [values.to_list() for values in series.values()]
    return [
        {"place": _rounded(place)}
        | {f"s{number}": _rounded(value) for number, value in enumerate(values) if value is not None}
        for place, *values in zip(x.tolist(), *columns, strict=True)
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _series_layer(count: int) -> Spec:
    """Return what turns the wide table into a row per point, without the series that the legend switches off."""
    return {
        "transform": [
            {"fold": [f"s{number}" for number in range(count)], "as": ["key", "value"]},
            {"filter": "isValid(datum.value)"},
            {"calculate": "labels[datum.key]", "as": "label"},
            {"filter": {"param": "shown"}},
        ],
        "params": [
            {
                "name": "shown",
                "select": {"type": "point", "fields": ["label"], "toggle": "true"},
                "bind": "legend",
            }
        ],
    }


def _with_brush(layer: Spec, channel: str) -> Spec:
    brush = {"name": "brush", "select": {"type": "interval", "encodings": [channel], "zoom": False}}
    return {**layer, "params": [*layer.get("params", []), brush]}


def _zoomed(axis: Axis) -> Spec:
    scale: Spec = {"domain": [{"expr": "from"}, {"expr": "to"}], "nice": False}
    scale |= {"type": "log"} if axis.log else {"zero": False}
    return {
        "field": "place",
        "type": "quantitative",
        "title": axis.title,
        "scale": scale,
        "axis": {
            "grid": False,
            "tickCount": 12 if axis.log else 6,
            "labelSeparation": 6,
            "labelFlush": True,
            "format": ",.6~g",
        },
    }


def _color(labels: list[str]) -> Spec:
    legend = _legend(labels) if len(labels) > 1 else None
    return {"field": "label", "type": "nominal", "scale": {"domain": labels}, "legend": legend}


def _hover(series: Mapping[str, Any], axis: Axis, *, along: str, unit: str = "") -> Spec:
    """Return a rule at the place nearest to the pointer, whose tooltip tells all series there."""
    place = {"field": "place", "title": axis.title, "type": "quantitative", "format": ".4~g"}
    values = [
        {
            "field": f"s{number}",
            "title": f"{label}, {unit}" if unit else label,
            "type": "quantitative",
            "format": ",.3~r",
        }
        for number, label in enumerate(series)
    ]
    return {
        "mark": {"type": "rule", "clip": True},
        "params": [
            {
                "name": "hover",
                "select": {
                    "type": "point",
                    "encodings": [along],
                    "nearest": True,
                    "on": "pointermove",
                    "clear": "pointerout",
                },
            }
        ],
        "encoding": {
            along: {"field": "place", "type": "quantitative"},
            "opacity": {"condition": {"param": "hover", "empty": False, "value": 0.5}, "value": 0},
            "tooltip": [place, *values],
        },
    }
