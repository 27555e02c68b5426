"""Reader of servesim's own form of requests: a Parquet file that ``servesim trace`` wrote.

The form is described in `servesim.traces.parquet`. Any other Parquet file is a `table`.
"""

from __future__ import annotations

import polars as pl

from servesim.errors import TraceError
from servesim.workload.api import Signature
from servesim.workload.checks import ROW, ZeroOutput, check_numbers, settle_zero_output
from servesim.workload.files import parquet_columns
from servesim.workload.paths import TracePath
from servesim.workload.schema import SCHEMA

MARK = "servesim.requests"
"""Key of the file's metadata that holds the version of the form."""

VERSION = "1"


class ParquetReader:
    """Requests that ``servesim trace convert`` or ``generate`` wrote (Parquet).

    Times stay as they are in the file, where 0 is the first arrival of the trace that it was made from. Rows are in
    order, so no more of them are read than the scenario needs. A prompt of 0 tokens is taken as 1.

    Parameters
    ----------
    path
        The Parquet file.
    zero_output
        What to do with requests that emitted no token, such as BurstGPT's failures: ``drop`` leaves them out,
        ``keep_as_one`` takes them as one token, ``error`` refuses the file. They are counted in ``zero_output``.
    """

    signature = Signature(
        forms=("parquet",), needs=("arrival_s", "prompt_tokens", "output_tokens"), mark=MARK
    )

    def __init__(self, *, path: TracePath, zero_output: ZeroOutput = "drop") -> None:
        self.path = path
        self.zero_output = zero_output
        self.notes: dict[str, int | float | str] = {}

    def read(self) -> pl.LazyFrame:
        """Return the columns of `SCHEMA` that the file has.

        Raises
        ------
        TraceError
            If servesim did not write the file, or a later version did.
        """
        found = [name for name in parquet_columns(self.path) if name in SCHEMA]
        version = pl.read_parquet_metadata(self.path).get(MARK)
        if version != VERSION:
            raise TraceError(
                f"{self.path}: not servesim's form of requests (got version {version!r}). expected {VERSION!r}",
                hint="reader: table takes any Parquet file with a map of its columns",
            )
        rows = pl.scan_parquet(self.path, glob=False).with_row_index(ROW, offset=1)
        # Columns in which nothing is told cost memory for nothing: generated files have all that there are.
        filled = rows.select(pl.col(found).count()).collect().row(0, named=True)
        present = [name for name in found if filled[name] or name in self.signature.needs]
        numbers = rows.select(ROW, "arrival_s", "output_tokens").collect()
        arrivals = check_numbers(numbers, "arrival_s", self.path)
        _, zero = settle_zero_output(numbers, "output_tokens", self.path, self.zero_output)
        self.notes = {"rows_read": numbers.height, "zero_output": zero}
        self.notes["rows_sorted"] = int((arrivals < arrivals.cum_max()).sum())
        if self.zero_output == "drop":
            rows = rows.filter(pl.col("output_tokens") > 0)
        return rows.select(ROW, *present).with_columns(
            pl.col("prompt_tokens", "output_tokens").clip(lower_bound=1)
        )
