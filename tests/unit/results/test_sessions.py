"""Statistics of sessions: spans and means computed by hand."""

from __future__ import annotations

import polars as pl

from servesim.results.schema import frame_schema
from servesim.results.sessions import session_statistics


def requests_frame(rows: list[tuple[str | None, int, float, float | None, str]]) -> pl.LazyFrame:
    """Return a requests frame of session, prompt tokens, arrival, end and state."""
    names = ("session", "prompt_tokens", "arrival_s", "finished_s", "state")
    schema = frame_schema("requests")
    return pl.LazyFrame(rows, schema={name: schema[name] for name in names}, orient="row")


def test_spans_run_from_the_first_arrival_to_the_last_end() -> None:
    """Session a takes 9 s, b 1 s, whose second request is refused; c is under way to the end."""
    table = session_statistics(
        requests_frame(
            [
                ("a", 10, 0.0, 2.0, "completed"),
                (None, 1000, 0.0, 20.0, "completed"),
                ("b", 20, 1.0, 2.0, "completed"),
                ("b", 60, 1.5, None, "rejected"),
                ("a", 30, 5.0, 9.0, "completed"),
                ("c", 30, 16.0, None, "unfinished"),
            ]
        ),
        20.0,
    )
    assert table == {
        "sessions": 3,
        "requests": 5,
        "prompt_tokens_mean": 30.0,
        "session_s_mean": 14.0 / 3,
        "active_mean": 14.0 / 20.0,
    }


def test_a_run_without_sessions_has_no_table() -> None:
    """Nor has one without requests."""
    assert session_statistics(requests_frame([(None, 1, 0.0, 1.0, "completed")]), 1.0) is None
    assert session_statistics(requests_frame([]), 0.0) is None


def test_a_session_ends_when_its_client_has_the_last_token() -> None:
    """Where tokens take a while to the client, so does the end; not every pool has such a front end."""
    requests = requests_frame([("a", 1, 0.0, 2.0, "completed"), ("b", 1, 0.0, 2.0, "completed")])
    table = session_statistics(requests.with_columns(stream_s=pl.Series([0.5, None])), 4.0)
    assert table is not None and table["session_s_mean"] == 2.25
