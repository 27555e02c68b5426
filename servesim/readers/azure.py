"""Reader of the Azure LLM inference traces: 2023 and 2024 (text), 2025 (multimodal).

All three are CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens; the multimodal one adds
NumImages. They differ in how the time is written, which is told from the first row. Format and data are
described in https://github.com/Azure/AzurePublicDataset and in Patel et al., "Splitwise", ISCA 2024. The
multimodal trace tells how many images a request has, not how many tokens they are.
"""

from __future__ import annotations

from typing import Annotated

import polars as pl
from pydantic import Field

from servesim.workload.api import Signature
from servesim.workload.checks import ROW, ZeroOutput, check_tokens, settle_zero_output
from servesim.workload.files import csv_header, read_csv
from servesim.workload.paths import TracePath
from servesim.workload.timestamps import seconds_since_first


class AzureReader:
    """Azure LLM inference traces of 2023, 2024 and 2025 (CSV).

    Parameters
    ----------
    path
        The CSV file, plain or gzipped.
    zero_output
        What to do with requests that emitted no token: ``error`` refuses the trace, ``drop`` leaves them out,
        ``keep_as_one`` takes them as one token. They are counted in ``zero_output``.
    tokens_per_image
        Tokens that an image is in the prompt: of ``ContextTokens``, at most all are images'. Null: images are counted
        in ``images`` and no more. In ``images_cut`` are the requests whose images would have more tokens than that.
    """

    signature = Signature(
        forms=("csv",),
        needs=("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
        reading={"zero_output": "drop"},
    )

    def __init__(
        self,
        *,
        path: TracePath,
        zero_output: ZeroOutput = "error",
        tokens_per_image: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        self.path = path
        self.zero_output = zero_output
        self.tokens_per_image = tokens_per_image
        self.notes: dict[str, int | float | str] = {}
        self.left_out: list[str] = []

    def read(self) -> pl.LazyFrame:
        """Return arrivals from 0, prompt and output lengths.

        Raises
        ------
        TraceError
            If the file cannot be taken as it is.
        """
        found = csv_header(self.path)
        images = ["NumImages"] if "NumImages" in found else []
        self.left_out = [name for name in found if name not in self.signature.needs]
        frame = read_csv(
            self.path, texts=["TIMESTAMP"], numbers=["ContextTokens", "GeneratedTokens", *images]
        )
        frame = frame.with_columns(seconds_since_first(frame, "TIMESTAMP", self.path).alias("arrival_s"))
        check_tokens(frame, "ContextTokens", self.path)
        for name in images:
            check_tokens(frame, name, self.path, least=0)
        rows = frame.height
        frame, zero = settle_zero_output(frame, "GeneratedTokens", self.path, self.zero_output)
        self.notes = {"rows_read": rows, "zero_output": zero}
        requests = frame.select(
            "arrival_s", row=ROW, prompt_tokens="ContextTokens", output_tokens="GeneratedTokens"
        )
        if images:
            self.notes["images"] = int(frame["NumImages"].sum())
            if self.tokens_per_image is not None:
                requests = requests.with_columns(self._image_tokens(frame, self.tokens_per_image))
        return requests.lazy()

    def _image_tokens(self, frame: pl.DataFrame, tokens_per_image: int) -> pl.Series:
        tokens, most = frame["NumImages"] * tokens_per_image, frame["ContextTokens"]
        self.notes["images_cut"] = int((tokens > most).sum())
        return pl.select(pl.min_horizontal(tokens, most).alias("image_tokens")).to_series()
