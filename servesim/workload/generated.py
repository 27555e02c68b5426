"""A generator's requests, checked frame by frame while a run consumes them."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from servesim.errors import PluginError, ServesimError, TraceError, plugin_failed
from servesim.workload.api import Generator
from servesim.workload.checks import ROW
from servesim.workload.contract import check_columns, conform, typed
from servesim.workload.schema import ANNOUNCED


def ends(generator: Generator, who: str) -> tuple[int | None, float | None]:
    """Return where *generator* ends: after how many requests, at which time; None: it does not.

    Raises
    ------
    PluginError
        If it does not tell.
    """
    for name in ("requests", "duration_s"):
        if not hasattr(generator, name):
            raise PluginError(f"{who}: has no attribute {name}. expected a number or None")
    return generator.requests, generator.duration_s


def extras_of(generator: Generator) -> frozenset[str]:
    """Return which columns of `ANNOUNCED` the requests of *generator* may have."""
    return frozenset(getattr(generator, "extras", ()))


def generated(generator: Generator, who: str, seed: int) -> Iterator[pl.DataFrame]:
    """Yield the frames of *generator* with the columns of `SCHEMA`.

    They are not sorted as a trace is: the stream may be endless, and which requests come first must not
    depend on how it is cut into frames.

    Parameters
    ----------
    generator
        What makes the requests.
    who
        What messages call it.
    seed
        What it draws from.

    Raises
    ------
    PluginError
        If it fails, if a value is out of range, or if a request arrives before an earlier one. The message
        counts the rows of all frames from 1.
    """
    announced, rows, last_s = extras_of(generator), 0, 0.0
    for frame in _answers(generator, who, seed):
        if not isinstance(frame, pl.DataFrame):
            raise PluginError(f"{who}: not a frame (got {type(frame).__name__}). expected a polars DataFrame")
        check_columns(frame, who)
        for name in ANNOUNCED:
            if name in frame.columns and name not in announced and frame[name].count():
                raise PluginError(
                    f"{who}: {name}: not announced (got values). expected it in the attribute extras"
                )
        try:
            requests = typed(frame.with_row_index(ROW, offset=rows + 1), who)
        except TraceError as error:
            raise PluginError(str(error)) from error
        arrivals = requests["arrival_s"]
        if not arrivals.is_empty():
            if arrivals[0] < last_s or not arrivals.is_sorted():
                raise _out_of_order(arrivals, who, rows=rows, last_s=last_s)
            rows, last_s = rows + requests.height, arrivals[-1]
        yield conform(requests)


def _answers(generator: Generator, who: str, seed: int) -> Iterator[object]:
    """Yield what *generator* yields; an exception in it becomes a `PluginError`."""
    try:
        yield from generator.frames(seed)
    except ServesimError:
        raise
    except Exception as error:
        raise plugin_failed(who, "frames", error) from error


def _out_of_order(arrivals: pl.Series, who: str, *, rows: int, last_s: float) -> PluginError:
    before = arrivals.shift(1, fill_value=last_s)
    position = (arrivals < before).arg_max() or 0
    return PluginError(
        f"{who}: row {rows + position + 1}: arrival_s is out of order (got {arrivals[position]!r} after "
        f"{before[position]!r}). expected requests in order of arrival"
    )
