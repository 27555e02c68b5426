"""The three forms of the Azure LLM inference traces: they differ in how times are written, and in images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from servesim.traces.forms import SOURCE, Form, Taken, column, own_columns, taken, text_facts
from servesim.workload.checks import check_tokens
from servesim.workload.files import csv_header, read_csv
from servesim.workload.timestamps import seconds_since_first

_HEADER = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_NUMBERS = ["ContextTokens", "GeneratedTokens"]
_TIME = re.compile(r"^.{10}(?P<separator>[ T]).{8}(\.(?P<decimals>\d+))?(?P<zone>Z|[+-]\d\d:?\d\d)?$")
_NEW_ORIGIN_NS = 1_704_067_200 * 10**9
"""Time 0 of files that are no copy of a native one: 2024-01-01, which means nothing."""


def take(path: Path) -> Taken:
    """Return a file of any of the three forms with everything in it.

    Raises
    ------
    TraceError
        If it cannot be read.
    """
    others = [name for name in csv_header(path) if name not in _HEADER]
    frame = read_csv(path, texts=["TIMESTAMP", *others], numbers=_NUMBERS)
    check_tokens(frame, "ContextTokens", path)
    check_tokens(frame, "GeneratedTokens", path, least=0)
    arrivals = seconds_since_first(frame, "TIMESTAMP", path)
    form = _TIME.match(frame["TIMESTAMP"][0])
    assert form is not None, "it was parsed"
    first = frame["TIMESTAMP"][arrivals.arg_min() or 0]
    facts = {
        "form": _name(form["separator"], form["zone"]),
        "origin_ns": _nanoseconds(first),
        "separator": form["separator"],
        "decimals": int(frame["TIMESTAMP"].str.extract(r"\.(\d+)").str.len_chars().max() or 0),  # type: ignore[arg-type]
        "zone": form["zone"] if form["zone"] in (None, "Z") else "+00:00",
        **text_facts(path),
    }
    frame = own_columns(frame.with_columns(arrivals.alias("arrival_s")).drop("TIMESTAMP"), others)
    lengths = {"ContextTokens": "prompt_tokens", "GeneratedTokens": "output_tokens"}
    return taken(frame.rename(lengths).cast(dict.fromkeys(lengths.values(), pl.Int32)), facts)


def _nanoseconds(time: str) -> int:
    """Return a time of the file as ns since 1970, in UTC."""
    zoned = re.search(r"(Z|[+-]\d\d:?\d\d)$", time)
    text = time.replace("T", " ") if zoned else f"{time.replace('T', ' ')}Z"
    parsed = pl.Series([text]).str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", time_unit="ns")
    return int(parsed.dt.epoch("ns")[0])


def _name(separator: str, zone: str | None) -> str:
    return "azure-2025" if separator == "T" else "azure-2024" if zone else "azure-2023"


def rows(frame: pl.DataFrame, facts: Mapping[str, Any]) -> pl.DataFrame:
    """Return the native columns; times are rounded to the form's last digit."""
    decimals = facts["decimals"]
    tick_ns = 10 ** (9 - decimals)
    nanoseconds = (pl.col("arrival_s") * 1e9 / tick_ns).round().cast(pl.Int64) * tick_ns + facts["origin_ns"]
    form = f"%Y-%m-%d{facts['separator']}%H:%M:%S" + ("%.9f" if decimals else "")
    text = nanoseconds.cast(pl.Datetime("ns")).dt.to_string(form)
    time = text.str.head(20 + decimals if decimals else 19) + (facts["zone"] or "")
    images = column(frame, f"{SOURCE}NumImages", 0).alias("NumImages")
    extra = [images] if facts["form"] == "azure-2025" else []
    return frame.select(
        time.alias("TIMESTAMP"),
        *extra,
        pl.col("prompt_tokens").alias("ContextTokens"),
        pl.col("output_tokens").alias("GeneratedTokens"),
    )


def _form(year: int, *, tick_s: float, **facts: Any) -> Form:
    images = ("NumImages",) if year == 2025 else ()
    name = f"azure-{year}"
    return Form(
        name=name,
        reader="azure",
        ending=".csv",
        holds=frozenset(),
        own=frozenset(images),
        tick_s=tick_s,
        header=(_HEADER[0], *images, *_HEADER[1:]),
        rows=rows,
        take=take,
        facts={"form": name, "origin_ns": _NEW_ORIGIN_NS, **facts},
    )


AZURE_FORMS = (
    _form(2023, tick_s=1e-7, separator=" ", decimals=7, zone=None, line_end="\r\n", final_newline=False),
    _form(2024, tick_s=1e-6, separator=" ", decimals=6, zone="+00:00", line_end="\n", final_newline=True),
    _form(2025, tick_s=1e-3, separator="T", decimals=3, zone="Z", line_end="\n", final_newline=True),
)
"""The forms of 2023 and 2024 (text), and of 2025 (multimodal)."""
