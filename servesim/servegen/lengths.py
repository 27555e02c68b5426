"""How long the requests of each client are: histograms per client, field and six hours, and draws from them.

All histograms lie one behind the other in flat arrays, so that one search draws a length for each of many requests,
whatever client each is of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.errors import TraceError

FIELDS = (
    *("input_tokens", "text_tokens", "output_tokens", "reason_ratio"),
    *("image_tokens", "image_count", "audio_tokens", "audio_count", "video_tokens", "video_count"),
)
"""What histograms can be of."""

RATIO_BINS = 501
"""A value of the field ``reason_ratio`` is a share of the output in 501sts."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LengthTable:
    """The histograms of a pool.

    Attributes
    ----------
    rows
        A row per histogram: ``client`` (its number in the pool), ``window6h``, ``field``; its place in *values* from
        ``start`` to ``stop``.
    values
        Values of all histograms, in tokens, counts, or 501sts.
    weights
        How often each was seen, in any unit.
    """

    rows: pl.DataFrame
    values: NDArray[np.int32]
    weights: Floats

    @property
    def fields(self) -> list[str]:
        """Names of the fields, sorted."""
        return sorted(self.rows["field"].unique().to_list())

    @cached_property
    def _cumulative(self) -> Floats:
        """Number of the histogram plus the cumulative probability in it: one increasing array."""
        starts, stops = self._starts, self._stops
        total = np.cumsum(self.weights)
        before = total[starts] - self.weights[starts]
        sizes = stops - starts
        shares = (total - np.repeat(before, sizes)) / np.repeat(total[stops - 1] - before, sizes)
        return shares + np.repeat(np.arange(len(starts)), sizes)

    @cached_property
    def _starts(self) -> Ints:
        return self.rows["start"].to_numpy().astype(np.int64)

    @cached_property
    def _stops(self) -> Ints:
        return self.rows["stop"].to_numpy().astype(np.int64)

    def draw(self, histogram: Ints, uniform: Floats) -> Ints:
        """Return a value for each request: its *histogram*'s quantile at *uniform*."""
        place = np.searchsorted(self._cumulative, histogram + uniform, side="right")
        place = np.clip(place, self._starts[histogram], self._stops[histogram] - 1)  # rounding stays within
        return self.values[place].astype(np.int64)

    def numbers(self, field: str, clients: int, windows: int) -> Ints:
        """Return the number of the histogram for each client (row) and six hours (column); -1 where there is none.

        Six hours without one take the client's latest one before, else its first.
        """
        found = np.full((clients, windows), -1, dtype=np.int64)
        mine = self.rows.with_row_index("number").filter(pl.col("field") == field)
        found[mine["client"].to_numpy(), mine["window6h"].to_numpy()] = mine["number"].to_numpy()
        columns = np.where(found >= 0, np.arange(windows), -1)
        latest = np.maximum.accumulate(columns, axis=1)
        first = np.argmax(found >= 0, axis=1)
        return np.take_along_axis(found, np.where(latest >= 0, latest, first[:, None]), axis=1)

    def histogram(self, number: int) -> tuple[NDArray[np.int32], Floats]:
        """Return values and probabilities of one histogram."""
        place = slice(self._starts[number], self._stops[number])
        return self.values[place], self.weights[place] / self.weights[place].sum()


def length_table(rows: pl.DataFrame, values: Ints, weights: Floats, where: str | Path) -> LengthTable:
    """Return the table of histograms whose *values* and *weights* lie one behind the other.

    *rows* has a row per histogram with ``client``, ``window6h``, ``field`` and its ``size``, which may be 0: those are
    left out.

    Raises
    ------
    TraceError
        If a field is unknown, values and weights differ in number, a value is negative, or a weight is no number above
        0.
    """
    if wrong_fields := [field for field in rows["field"].unique(maintain_order=True) if field not in FIELDS]:
        row = int(rows["field"].eq(wrong_fields[0]).arg_max() or 0)
        raise TraceError(f"{where}: row {row + 1}: field: {unknown_field(wrong_fields[0])}")
    stops = rows["size"].cast(pl.Int64).cum_sum()
    expected = int(stops[-1]) if rows.height else 0
    if not len(values) == len(weights) == expected:
        raise TraceError(
            f"{where}: histograms with unequal lists (got {len(values)} values, {len(weights)} counts). "
            "expected a count per value"
        )
    for wrong, column, what in (
        ((values < 0) | (values >= 2**31), values, "value"),
        (~(np.isfinite(weights) & (weights > 0)), weights, "count"),
    ):
        if wrong.any():
            place = int(np.argmax(wrong))
            row = int((stops > place).arg_max() or 0)
            got, field = column[place].item(), rows["field"][row]
            raise TraceError(f"{where}: row {row + 1}: {field}: {unusable(what, got)}")
    table = rows.select(
        pl.col("client").cast(pl.Int64), pl.col("window6h").cast(pl.Int64), pl.col("field").cast(pl.String)
    ).with_columns(start=stops - rows["size"].cast(pl.Int64), stop=stops)
    return LengthTable(table.filter(pl.col("stop") > pl.col("start")), values.astype(np.int32), weights)


def unknown_field(field: object) -> str:
    """Return what is wrong with the name of a field."""
    return f"unknown (got {field!r}). expected any of {', '.join(FIELDS)}"


def unusable(what: str, got: object) -> str:
    """Return what is wrong with a value or a count of a histogram."""
    expected = "0 to 2**31" if what == "value" else "a number above 0"
    return f"unusable {what} (got {got!r}). expected {expected}"


def pooled(table: LengthTable, numbers: Ints, shares: Floats) -> tuple[Ints, Floats]:
    """Return the mixture of several histograms as values and probabilities; *shares* are their weights."""
    parts = [table.histogram(int(number)) for number in numbers]
    values = np.concatenate([part[0] for part in parts])
    weights = np.concatenate([part[1] * share for part, share in zip(parts, shares, strict=True)])
    distinct, place = np.unique(values, return_inverse=True)
    mixed = np.bincount(place, weights=weights)
    return distinct.astype(np.int64), mixed / mixed.sum()


def correlated(rng: np.random.Generator, rows: int, spearman: float) -> tuple[Floats, Floats]:
    """Return two uniform numbers per row whose rank correlation is *spearman*: a Gaussian copula.

    Spearman's coefficient rs belongs to the normal correlation 2 sin(pi rs / 6) (Kruskal, "Ordinal measures of
    association", JASA 1958).
    """
    if spearman == 0.0:
        return rng.random(rows), rng.random(rows)
    from scipy.special import ndtr

    correlation = 2 * math.sin(math.pi * spearman / 6)
    first, second = rng.standard_normal(rows), rng.standard_normal(rows)
    second = correlation * first + math.sqrt(max(0.0, 1 - correlation**2)) * second
    return np.minimum(ndtr(first), _BELOW_1), np.minimum(ndtr(second), _BELOW_1)


_BELOW_1 = float(np.nextafter(1.0, 0.0))
