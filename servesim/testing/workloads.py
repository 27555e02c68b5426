"""What generators and readers owe the program: the schema, the order, the same requests each time."""

from __future__ import annotations

from itertools import islice
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from servesim.errors import PluginError
from servesim.testing.construction import parameter_values
from servesim.workload.generated import ends, generated
from servesim.workload.source import load

FRAMES = 2
"""Frames that are looked at: a generator may be endless."""


def check_generator(copies: tuple[Any, Any], where: str) -> None:
    """Raise `PluginError` unless frames are in form and order, and depend on the seed alone."""
    first, second = copies
    ends(first, where)
    whole = _frames(first, where)
    _check_end(whole, first, where)
    _check_same(whole, _frames(second, where), f"{where}: two copies make different requests from one seed")
    _check_same(
        whole, _frames(first, where), f"{where}: a second call makes different requests from one seed"
    )
    values = parameter_values(first)
    if "requests" in values:
        short, longer = (type(first)(**{**values, "requests": count}) for count in (10, 25))
        begin, end = _frames(short, where), _frames(longer, where)
        message = f"{where}: a longer run does not begin with the requests of a shorter one"
        _check_same(begin, _beginning(end, begin), message)


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
    """Return the first frames of *generator* as one, checked as in a run."""
    made = list(islice(generated(generator, where, 0), FRAMES))
    if not made:
        raise PluginError(f"{where}: yields no frame. expected at least one, which may be empty")
    return pl.concat(made)


def _beginning(longer: pl.DataFrame, shorter: pl.DataFrame) -> pl.DataFrame:
    """Return of *longer* as many requests as *shorter* has: of each session, where there are follow-ups."""
    if not shorter["think_s"].count():
        return longer.head(shorter.height)
    turn = {"name": pl.col("session").fill_null(""), "turn": pl.int_range(pl.len()).over("session")}
    numbered = longer.with_columns(**turn)
    return numbered.join(shorter.select(**turn), on=["name", "turn"], how="semi").drop("name", "turn")


def _check_end(frame: pl.DataFrame, generator: Any, where: str) -> None:
    """Raise `PluginError` unless the requests end where the generator says."""
    if generator.requests is not None and frame.height > generator.requests:
        raise PluginError(
            f"{where}: more requests than `requests` says (got {frame.height}). "
            f"expected {generator.requests} at most"
        )
    last_s = frame["arrival_s"].max()
    if generator.duration_s is not None and last_s is not None and last_s >= generator.duration_s:
        raise PluginError(
            f"{where}: a request arrives at `duration_s` or later (got {last_s!r}). "
            f"expected all before {generator.duration_s!r}"
        )


def _check_same(first: pl.DataFrame, again: pl.DataFrame, message: str) -> None:
    try:
        assert_frame_equal(first, again, check_exact=True)
    except AssertionError as error:
        raise PluginError(f"{message}. expected equal frames ({str(error).splitlines()[0]})") from error
