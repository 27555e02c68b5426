"""Sessions of a trace as follow-ups."""

from __future__ import annotations

import polars as pl

from servesim.workload.sessions import END, follow_ups


def frame(rows: list[tuple[float, float | None, str | None]]) -> pl.DataFrame:
    """Return requests of (arrival_s, end_s, session), numbered by their prompts."""
    times = pl.DataFrame(
        rows, schema={"arrival_s": pl.Float64, END: pl.Float64, "session": pl.String}, orient="row"
    )
    return times.with_columns(prompt_tokens=pl.int_range(1, len(rows) + 1))


def test_a_session_waits_for_itself() -> None:
    """Pauses run from an end to the next arrival; the session stands where it begins, in one piece."""
    rows = [(0.0, 2.0, "a"), (1.0, 4.0, "b"), (5.0, 6.0, "a"), (6.0, None, None), (10.0, 11.0, "b")]
    found = follow_ups(frame(rows))
    assert found["prompt_tokens"].to_list() == [1, 3, 2, 5, 4]
    assert found["arrival_s"].to_list() == [0.0, 0.0, 1.0, 1.0, 6.0]
    assert found["think_s"].to_list() == [None, 3.0, None, 6.0, None]
    assert END not in found.columns


def test_an_arrival_before_the_end_follows_at_once() -> None:
    """Where a request was sent before the one before it had ended, the pause is 0."""
    assert follow_ups(frame([(0.0, 9.0, "a"), (5.0, 12.0, "a")]))["think_s"].to_list() == [None, 0.0]


def test_without_ends_the_pause_is_between_arrivals() -> None:
    """Also where one end is not known."""
    rows = [(0.0, None, "a"), (5.0, 6.0, "a"), (9.0, None, "a")]
    assert follow_ups(frame(rows))["think_s"].to_list() == [None, 5.0, 3.0]
    assert follow_ups(frame(rows).drop(END))["think_s"].to_list() == [None, 5.0, 4.0]


def test_rows_out_of_order() -> None:
    """A session's requests follow each other in order of arrival, ties as they stand."""
    rows = [(5.0, None, "a"), (0.0, None, "a"), (5.0, None, "a")]
    found = follow_ups(frame(rows))
    assert found["prompt_tokens"].to_list() == [2, 1, 3]
    assert found["think_s"].to_list() == [None, 5.0, 0.0]
