"""The page: one HTML file that holds everything it shows, and fetches nothing.

A content security policy in its head lets run the two scripts of the page by their hashes, and nothing else: neither
what a name in a trace might smuggle in, nor any request to the network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from servesim.report.charts import Chart
from servesim.report.html import Content, Markup, safe, tag


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: a heading, what stands below it, and charts."""

    title: str
    contents: Sequence[Content] = ()
    charts: Sequence[Chart] = field(default=())


def page_html(title: str, head: Sequence[Content], sections: Sequence[Section]) -> str:
    """Return the page; the same parts give the same bytes.

    Parameters
    ----------
    title
        Of the document.
    head
        What stands at the top.
    sections
        What follows; empty ones are left out.
    """
    shown = [section for section in sections if section.contents or section.charts]
    names = [section.title.lower().replace(" ", "-") for section in shown]
    links = [tag("a", section.title, href=f"#{name}") for section, name in zip(shown, names, strict=True)]
    numbered: dict[str, Chart] = {}
    body = [_section(section, name, numbered) for section, name in zip(shown, names, strict=True)]
    scripts = [_bundle(), _resource("page.js")] if numbered else []
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        safe(tag("title", title)),
        f"<style>{_resource('page.css')}</style></head><body>",
        *map(safe, head),
        safe(tag("nav", *links)),
        *(text.html for text in body),
        '<button id="reset" type="button" hidden>Reset zoom</button>',
        f'<script type="application/json" id="charts">{_json(numbered)}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _section(section: Section, name: str, numbered: dict[str, Chart]) -> Markup:
    """Return a section, and note its charts under the ids of their places."""
    figures = []
    for chart in section.charts:
        place = f"chart-{len(numbered) + 1}"
        numbered[place] = chart
        caption = [tag("figcaption", chart.note)] if chart.note else []
        drawing = tag("div", class_="chart", id=place, role="img", aria_label=chart.title)
        figures.append(tag("figure", tag("h3", chart.title), drawing, *caption))
    charts = [tag("div", *figures, class_="charts")] if figures else []
    return tag("section", tag("h2", section.title), *section.contents, *charts, id=name)


def _json(charts: dict[str, Chart]) -> str:
    """Return the charts for the page's script; what could end the element is written otherwise."""
    data = {place: {"spec": chart.spec, **_zoom(chart)} for place, chart in charts.items()}
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _zoom(chart: Chart) -> dict[str, object]:
    if chart.zooms_with is None:
        return {"group": None}
    ends = {param["name"]: param["value"] for param in chart.spec["params"] if param["name"] != "labels"}
    field_name = chart.spec["layer"][0]["encoding"]["x"]["field"]
    return {"group": chart.zooms_with, "field": field_name, **ends}


def _resource(name: str) -> str:
    return (files("servesim.report") / name).read_text(encoding="utf-8")


@cache
def _bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, from the package that carries them."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


def _policy(scripts: Sequence[str]) -> str:
    """Return what the page may do. Vega compiles expressions of charts, which are ours, hence unsafe-eval."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
