"""Reader of BurstGPT: two kinds of GPT service at a university, 2022-2024.

Columns are found by their header names, because the later files insert two in the middle. Times are seconds
from midnight of the first day; files that continue it begin at day 225. The format and what the columns mean
are described in https://github.com/HPMLL/BurstGPT and in Wang et al., "BurstGPT", KDD 2025.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from servesim.errors import TraceError
from servesim.rng import stream
from servesim.workload.api import Signature
from servesim.workload.checks import ROW, check_numbers, check_tokens, first_wrong
from servesim.workload.faults import csv_fault
from servesim.workload.files import csv_header, scan_csv
from servesim.workload.paths import TracePath
from servesim.workload.source import in_order, rows_behind

_LOG_TYPES = {"Conversation log": "conversation", "API log": "api"}


class BurstGptReader:
    """BurstGPT traces of 6 and 8 columns (CSV).

    A row with 0 response tokens is a request that failed; a prompt of 0 tokens is taken as 1. The model tag
    is the column Model, the tenant is ``conversation`` or ``api`` (column Log Type), the session is the
    column Session ID, null where it is empty.

    Parameters
    ----------
    path
        The CSV file, plain or gzipped.
    failures
        ``drop`` leaves failures out. ``keep`` lets them reach the engine, with 1 output token. ``retry``
        keeps them and sends each once more after *retry_delay_s*, with the lengths of a request of the same
        model and log type that succeeded, drawn at random. They are counted in ``failures`` in any case.
    retry_delay_s
        Time from a failed request's arrival to its retry's.
    log_type
        Which requests to take; the others are counted in ``other_log_types``. Time 0 is the first arrival in
        the file, so that the two halves stay aligned.
    seed
        What the lengths of retries are drawn from. They are part of the trace: equal for every seed of the
        run.
    """

    signature = Signature(
        forms=("csv",), needs=("Timestamp", "Model", "Request tokens", "Response tokens", "Log Type")
    )

    def __init__(
        self,
        *,
        path: TracePath,
        failures: Literal["drop", "keep", "retry"] = "drop",
        retry_delay_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0,
        log_type: Literal["all", "conversation", "api"] = "all",
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.path = path
        self.failures = failures
        self.retry_delay_s = retry_delay_s
        self.log_type = log_type
        self.seed = seed
        self.notes: dict[str, int | float | str] = {}
        self.left_out: list[str] = []

    def read(self) -> pl.LazyFrame:
        """Return arrivals from 0, lengths, model, tenant and session.

        Raises
        ------
        TraceError
            If the file cannot be taken as it is, or a failed request has no successful one to draw a retry
            from.
        """
        rows, numbers = self._scan()
        first_s = numbers["Timestamp"].min()
        self.notes = {"rows_read": numbers.height}
        if self.log_type != "all":
            of_type = pl.col("Log Type").replace(_LOG_TYPES) == self.log_type
            rows, others = rows.filter(of_type), numbers.height
            numbers = numbers.filter(of_type)
            self.notes["other_log_types"] = others - numbers.height
        failed = numbers["Response tokens"] == 0
        self.notes["failures"] = int(failed.sum())
        arrivals = numbers["Timestamp"]
        if self.failures == "drop":
            rows, arrivals = rows.filter(pl.col("Response tokens") > 0), arrivals.filter(~failed)
        self.notes["rows_sorted"] = rows_behind(arrivals)
        requests = rows.select(
            row=ROW,
            arrival_s=pl.col("Timestamp") - first_s,
            prompt_tokens=pl.col("Request tokens").cast(pl.Int32),
            output_tokens=pl.col("Response tokens").cast(pl.Int32),
            model="Model",
            tenant=pl.col("Log Type").replace(_LOG_TYPES),
            session="Session ID" if "Session ID" in rows.collect_schema() else pl.lit(None, dtype=pl.String),
        )
        if self.failures == "retry":
            requests = self._with_retries(requests.collect())
        return requests.with_columns(pl.col("prompt_tokens", "output_tokens").clip(lower_bound=1))

    def _scan(self) -> tuple[pl.LazyFrame, pl.DataFrame]:
        """Return the file's rows, still to be read, and their numbers, checked."""
        header = csv_header(self.path)
        session, total = ([name] if name in header else [] for name in ("Session ID", "Total tokens"))
        self.left_out = [name for name in header if name not in (*self.signature.needs, *session, *total)]
        lengths = ["Request tokens", "Response tokens"]
        rows, numbers = scan_csv(
            self.path,
            texts=["Model", "Log Type", *session],
            numbers=["Timestamp", *lengths, *total],
            read=["Log Type"],
        )
        try:
            check_numbers(numbers, "Timestamp", self.path)
            for name in lengths:
                check_tokens(numbers, name, self.path, least=0)
            self._check_log_types(numbers)
            if total:
                self._check_totals(numbers)
        except TraceError as error:
            if fault := csv_fault(
                self.path
            ):  # a row that has a cell too many has others' values in its columns
                raise TraceError(f"{self.path}: {fault}") from error
            raise
        return rows, numbers

    def _check_log_types(self, frame: pl.DataFrame) -> None:
        types = frame["Log Type"]
        if wrong := first_wrong(frame, ~types.is_in(list(_LOG_TYPES)).fill_null(value=False)):
            got = "an empty cell" if types[wrong[0]] is None else repr(types[wrong[0]])
            raise TraceError(
                f"{self.path}: row {wrong[1]}: Log Type: unknown (got {got}). "
                f"expected {' or '.join(map(repr, _LOG_TYPES))}"
            )

    def _check_totals(self, frame: pl.DataFrame) -> None:
        total, parts = frame["Total tokens"], frame["Request tokens"] + frame["Response tokens"]
        if wrong := first_wrong(frame, (total != parts).fill_null(value=False)):
            raise TraceError(
                f"{self.path}: row {wrong[1]}: Total tokens: not the sum of request and response tokens "
                f"(got {total[wrong[0]]:.0f}). expected {parts[wrong[0]]:.0f}"
            )

    def _with_retries(self, requests: pl.DataFrame) -> pl.LazyFrame:
        """Return *requests* and, after each failed one, its retry, in order of arrival."""
        failed = pl.col("output_tokens") == 0
        retries = self._retries(requests.filter(~failed), requests.filter(failed))
        self.notes["retries"] = retries.height
        whole = pl.concat([in_order(requests)[0], retries]).sort("arrival_s", maintain_order=True)
        return whole.lazy()

    def _retries(self, succeeded: pl.DataFrame, failed: pl.DataFrame) -> pl.DataFrame:
        """Return one request per failed one, later, with the lengths of a random successful one of its
        kind.
        """
        rng = stream(self.seed, "burstgpt", "retries")
        parts = [failed.clear()]
        for (model, tenant), group in failed.group_by("model", "tenant", maintain_order=True):
            like = succeeded.filter(pl.col("model").eq_missing(model), pl.col("tenant").eq_missing(tenant))
            if like.is_empty():
                raise TraceError(
                    f"{self.path}: no request of model {model!r} and log type {tenant!r} succeeded (got 0). "
                    "expected one to draw a retry's lengths from",
                    hint="set failures: keep or drop",
                )
            drawn = like[rng.integers(like.height, size=group.height).astype(np.uint32)]
            parts.append(group.with_columns(drawn["prompt_tokens"], drawn["output_tokens"]))
        return pl.concat(parts).with_columns(pl.col("arrival_s") + self.retry_delay_s)
