"""The two forms of BurstGPT: six columns, and eight with sessions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from servesim.traces.forms import SOURCE, Form, Taken, column, own_columns, taken, text_facts
from servesim.workload.checks import check_numbers, check_tokens
from servesim.workload.content import opened
from servesim.workload.files import csv_header, read_csv

_SIX = ("Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type")
_EIGHT = (_SIX[0], "Session ID", "Elapsed time", *_SIX[1:])
_NUMBERS = ["Timestamp", "Request tokens", "Response tokens"]
_TENANTS = {"Conversation log": "conversation", "API log": "api"}
_LOG_TYPES = {tenant: log_type for log_type, tenant in _TENANTS.items()}


def take(path: Path) -> Taken:
    """Return a file of either form with everything in it, failures included.

    Raises
    ------
    TraceError
        If it cannot be read.
    """
    header = csv_header(path)
    named = {"Model", "Log Type", "Session ID", *_NUMBERS}
    others = [name for name in header if name not in named]
    texts = [name for name in ("Model", "Log Type", "Session ID") if name in header]
    frame = read_csv(path, texts=[*texts, *others], numbers=_NUMBERS)
    times = check_numbers(frame, "Timestamp", path)
    for name in _NUMBERS[1:]:
        check_tokens(frame, name, path, least=0)
    first_s = float(times.min())  # type: ignore[arg-type]  # checked to be numbers
    facts = {
        "form": "burstgpt-8" if "Session ID" in header else "burstgpt-6",
        "origin_s": first_s,
        "float_times": _has_float_times(path, header.index("Timestamp"), times),
        **text_facts(path),
    }
    frame = own_columns(frame, others).with_columns(
        arrival_s=pl.col("Timestamp") - first_s, **{"Log Type": pl.col("Log Type").replace(_TENANTS)}
    )
    names = {"Request tokens": "prompt_tokens", "Response tokens": "output_tokens", "Model": "model"}
    names |= {"Log Type": "tenant"} | ({"Session ID": "session"} if "Session ID" in header else {})
    frame = frame.drop("Timestamp").rename(names)
    return taken(frame.cast({"prompt_tokens": pl.Int32, "output_tokens": pl.Int32}), facts)


def _has_float_times(path: Path, position: int, times: pl.Series) -> bool:
    """Return whether times are written with a point: the first is, or one is no whole number."""
    if (times % 1 != 0).any():
        return True
    with opened(path) as file:
        file.readline()
        for line in file:
            if line.strip():
                return b"." in line.split(b",")[position]
    return False


def rows(frame: pl.DataFrame, facts: Mapping[str, Any]) -> pl.DataFrame:
    """Return the native columns; whole seconds unless the form has floats."""
    time = (pl.col("arrival_s") + facts["origin_s"]).round(6)
    own_total = f"{SOURCE}Total tokens"
    total = (pl.col("prompt_tokens") + pl.col("output_tokens")).cast(pl.Int64)
    native = {
        "Timestamp": time if facts["float_times"] else (time + 1e-6).floor().cast(pl.Int64),
        "Session ID": column(frame, "session"),
        "Elapsed time": column(frame, f"{SOURCE}Elapsed time"),
        "Model": column(frame, "model"),
        "Request tokens": pl.col("prompt_tokens"),
        "Response tokens": pl.col("output_tokens"),
        "Total tokens": pl.col(own_total) if own_total in frame.columns else total,
        "Log Type": _log_type(frame),
    }
    names = _EIGHT if facts["form"] == "burstgpt-8" else _SIX
    return frame.select(native[name].alias(name) for name in names)


def _log_type(frame: pl.DataFrame) -> pl.Expr:
    """Return one of the two types; where the tenant tells none, requests of sessions are conversations."""
    told = column(frame, "tenant").cast(pl.String).replace_strict(_LOG_TYPES, default=None)
    in_session = column(frame, "session").is_not_null()
    return told.fill_null(pl.when(in_session).then(pl.lit("Conversation log")).otherwise(pl.lit("API log")))


def _other_tenants(frame: pl.DataFrame) -> list[str]:
    others = frame.select(~column(frame, "tenant").cast(pl.String).is_in(list(_LOG_TYPES))).to_series()
    count = int(others.sum())
    return [f"tenants other than {' and '.join(_LOG_TYPES)} ({count:,} requests have one)"] if count else []


def _form(name: str, header: tuple[str, ...], *, holds: set[str], tick_s: float, float_times: bool) -> Form:
    return Form(
        name=name,
        reader="burstgpt",
        ending=".csv",
        holds=frozenset({"model", "tenant", *holds}),
        own=frozenset({"Total tokens", "Elapsed time"} & set(header)),
        tick_s=tick_s,
        header=header,
        rows=rows,
        take=take,
        check=_other_tenants,
        facts={
            "form": name,
            "origin_s": 0.0,
            "float_times": float_times,
            "line_end": "\n",
            "final_newline": True,
        },
    )


BURSTGPT_FORMS = (
    _form("burstgpt-6", _SIX, holds=set(), tick_s=1.0, float_times=False),
    _form("burstgpt-8", _EIGHT, holds={"session"}, tick_s=1e-6, float_times=True),
)
"""Files 1 and 2, whole seconds; file 3, with sessions."""
