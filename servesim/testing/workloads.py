"""What generators and readers owe the program: the schema, the order, the same requests each time."""

from __future__ import annotations

from itertools import islice
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from servesim.errors import PluginError
from servesim.testing.construction import parameter_values
from servesim.testing.decisions import ask
from servesim.workload.schema import SCHEMA
from servesim.workload.source import load

REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")

FRAMES = 2
"""Frames that are looked at: a generator may be endless."""


def check_generator(copies: tuple[Any, Any], where: str) -> None:
    """Raise `PluginError` unless frames are in form and order, and depend on the seed alone."""
    first, second = copies
    for name in ("requests", "duration_s"):
        if not hasattr(first, name):
            raise PluginError(f"{where}: has no attribute {name}. expected a number or None")
    whole = _frames(first, where)
    _check_requests(whole, first, where)
    _check_same(whole, _frames(second, where), f"{where}: two copies make different requests from one seed")
    _check_same(
        whole, _frames(first, where), f"{where}: a second call makes different requests from one seed"
    )
    values = parameter_values(first)
    if "requests" in values:
        short, longer = (type(first)(**{**values, "requests": count}) for count in (10, 25))
        begin, end = _frames(short, where), _frames(longer, where)
        rows = begin.height
        message = f"{where}: a longer run does not begin with the requests of a shorter one"
        _check_same(begin, end.head(rows), message)


def check_reader(copies: tuple[Any, Any], where: str) -> None:
    """Raise `PluginError` unless the reader gives the columns of `SCHEMA`, the same each time, and its notes.

    Raises
    ------
    PluginError
        If the reader breaks its contract.
    TraceError
        If its file cannot be taken as it is.
    """
    first, second = copies
    for reader in copies:
        if not isinstance(getattr(reader, "notes", None), dict):
            raise PluginError(f"{where}: has no notes. expected a dict of counts worth telling")
        answer = reader.read()
        if not isinstance(answer, pl.LazyFrame):
            raise PluginError(
                f"{where}: read answers no frame (got {type(answer).__name__}). expected a polars LazyFrame"
            )
    frame, notes = load(first, where)
    for reader in (second, first):
        again, notes_again = load(reader, where)
        _check_same(frame, again, f"{where}: reads different requests from one file")
        if notes_again != notes:
            raise PluginError(
                f"{where}: counts differ between reads (got {notes} and {notes_again}). expected the same"
            )


def _frames(generator: Any, where: str) -> pl.DataFrame:
    """Return the first frames of *generator* as one."""

    def frames() -> list[pl.DataFrame]:
        return list(islice(generator.frames(0), FRAMES))

    made = ask(where, frames)
    for frame in made:
        names = set(frame.columns)
        if not names.issuperset(REQUIRED) or not names.issubset(SCHEMA):
            raise PluginError(
                f"{where}: columns do not follow the schema (got {', '.join(frame.columns)}). "
                f"expected {', '.join(REQUIRED)} and any of {', '.join(list(SCHEMA)[3:])}"
            )
    if not made:
        raise PluginError(f"{where}: yields no frame. expected at least one, which may be empty")
    whole: pl.DataFrame = pl.concat(made)
    return whole


def _check_requests(frame: pl.DataFrame, generator: Any, where: str) -> None:
    arrivals = frame["arrival_s"]
    rules = {
        "arrival_s is null or not finite": arrivals.cast(pl.Float64).is_finite().fill_null(False).all(),
        "arrival_s is before time 0": (arrivals >= 0).all(),
        "arrival_s is out of order": arrivals.is_sorted(),
        "more requests than `requests` says": generator.requests is None
        or frame.height <= generator.requests,
        "a request arrives at `duration_s` or later": generator.duration_s is None
        or (arrivals < generator.duration_s).all(),
    }
    for name in ("prompt_tokens", "output_tokens"):
        rules[f"{name} is null or below 1"] = (frame[name] >= 1).fill_null(False).all()
        rules[f"{name} is not a whole number"] = frame[name].dtype.is_integer()
    for broken, kept in rules.items():
        if not kept:
            raise PluginError(
                f"{where}: {broken}. expected requests in order, of at least one token each way"
            )


def _check_same(first: pl.DataFrame, again: pl.DataFrame, message: str) -> None:
    try:
        assert_frame_equal(first, again, check_exact=True)
    except AssertionError as error:
        raise PluginError(f"{message}. expected equal frames ({str(error).splitlines()[0]})") from error
