"""Reader of LMCache's agent traces: calls of agents with their texts, or how many characters these have.

Native form: JSON lines with ``timestamp``, ``input``, ``output`` and ``session_id``; a file per session, in a folder
per agent. Lines are not in order of time. Most files have microseconds since 1970, one seconds from 0. Tools and, for
some agents, system prompts are not in the texts: an input may be empty, and so may an output that only calls a tool.
The form: https://github.com/LMCache/lmcache-agent-trace.

Packed form: a Parquet file with a row per line, in which ``lcp_prev_chars`` tells how many characters the input has in
common with that of the session's line before it, from the first one on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from servesim.errors import TraceError
from servesim.workload.api import Signature
from servesim.workload.checks import (
    ROW,
    ZeroOutput,
    check_numbers,
    check_some_tokens,
    check_tokens,
    first_wrong,
    settle_zero_output,
)
from servesim.workload.content import first_line, without_companions
from servesim.workload.files import jsonl_keys, parquet_columns, read_jsonl, read_parquet
from servesim.workload.paths import FOLDER_TOO, TracePath
from servesim.workload.prefixes import lists
from servesim.workload.timestamps import seconds

_TEXTS = ("input", "output", "session_id")
_PACKED = ("agent", "session", "timestamp_us", "input_chars", "output_chars", "lcp_prev_chars")
_TICKS_PER_S = {"us": 1e6, "s": 1.0}
_YEAR_US = 365 * 86400 * 10**6


class LmCacheReader:
    """LMCache's agent traces, native JSON lines or packed Parquet.

    Prompts and outputs are as long as their characters make them: ``ceil(characters / chars_per_token)`` tokens. A
    prompt's blocks are equal to another's where their texts are. The packed form knows that of a session's previous
    line only, so it has fewer equal blocks than the native one.

    Parameters
    ----------
    path
        The folder of an agent, one of several agents, one JSON lines file, or the Parquet file.
    chars_per_token
        Characters that a token stands for, in the mean. 3.94: English text with the tokenizer of Llama 3 (Grattafiori
        et al., "The Llama 3 Herd of Models", 2024, section 3.2), which is also that of the trace's own analysis.
        Code has fewer.
    prefix_block_tokens
        Tokens of a prefix block.
    time_unit
        What the native form's times count: ``us``, microseconds since 1970, or ``s``, seconds.
    zero_output
        What to do with calls whose output has no text: ``error``, ``drop`` or ``keep_as_one``.
    """

    signature = (
        Signature(forms=("parquet",), needs=_PACKED),
        Signature(forms=("jsonl",), needs=("timestamp", *_TEXTS)),
        Signature(forms=("folder",), needs=("*.jsonl",)),
        Signature(forms=("folder",), needs=("*/*.jsonl",)),
    )

    def __init__(
        self,
        *,
        path: Annotated[TracePath, FOLDER_TOO],
        chars_per_token: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.94,
        prefix_block_tokens: Literal[16, 64, 512] = 16,
        time_unit: Literal["us", "s"] = "us",
        zero_output: ZeroOutput = "keep_as_one",
    ) -> None:
        self.path = path
        self.chars_per_token = chars_per_token
        self.prefix_block_tokens = prefix_block_tokens
        self.time_unit = time_unit
        self.zero_output = zero_output
        self.notes: dict[str, int | float | str] = {}
        self.left_out: list[str] = []

    def read(self) -> pl.LazyFrame:
        """Return arrivals from 0, lengths, sessions, prefix blocks, and the agent as tenant.

        Raises
        ------
        TraceError
            If a file cannot be taken as it is.
        """
        packed = self.path.suffix.lower() == ".parquet"
        files = [self.path] if packed else self._files()
        told = _PACKED if packed else ("timestamp", "session_id")
        found = parquet_columns(self.path) if packed else jsonl_keys(files[0])
        self.left_out = [name for name in found if name not in told]
        frame = self._packed() if packed else pl.concat([self._native(file) for file in files])
        self.notes = {
            "rows_read": frame.height,
            "sessions": frame["session"].n_unique(),
            "empty_inputs": int((frame["input_chars"] == 0).sum()),
        }
        ticks_per_s = _TICKS_PER_S["us" if packed else self.time_unit]
        frame = frame.with_columns(seconds(frame["timestamp"] - frame["timestamp"].min(), ticks_per_s))
        frame, self.notes["zero_output"] = settle_zero_output(
            frame, "output_chars", self.path, self.zero_output
        )
        return frame.lazy().select(
            row=ROW,
            arrival_s="timestamp",
            prompt_tokens=self._tokens("input_chars"),
            output_tokens=self._tokens("output_chars"),
            tenant="agent",
            session="session",
            prefix_blocks="prefix_blocks",
            prefix_block_tokens=pl.lit(self.prefix_block_tokens, dtype=pl.Int32),
        )

    def _tokens(self, characters: str) -> pl.Expr:
        """Return a length in tokens; no text at all is one token."""
        return (pl.col(characters) / self.chars_per_token).ceil().clip(lower_bound=1)

    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            return [self.path]
        files = sorted(without_companions(self.path.rglob("*.jsonl")))
        if not files:
            raise TraceError(f"{self.path}: no JSON lines file in it. expected one for each session")
        return files

    def _native(self, file: Path) -> pl.DataFrame:
        """Return the calls of one file."""
        texts = {name: pl.String() for name in _TEXTS}
        frame = read_jsonl(file, numbers=["timestamp"], others=texts)
        check_numbers(frame, "timestamp", file)
        if self.time_unit == "us" and (wrong := first_wrong(frame, frame["timestamp"] < _YEAR_US)):
            raise TraceError(
                f"{file}: row {wrong[1]}: timestamp: no microseconds since 1970 (got {frame['timestamp'][wrong[0]]:g})."
                " expected a time after 1970",
                hint="time_unit: s takes the times as seconds",
            )
        for name in _TEXTS:
            if wrong := first_wrong(frame, frame[name].is_null()):
                raise TraceError(f"{file}: row {wrong[1]}: {name}: no text (got null). expected text")
            if not isinstance(got := json.loads(first_line(file))[name], str):
                raise TraceError(f"{file}: row 1: {name}: no text (got {str(got)[:40]!r}). expected text")
        size = self.chars_per_token * self.prefix_block_tokens
        return frame.select(
            ROW,
            "timestamp",
            pl.lit(file.absolute().parent.name).alias("agent"),
            session="session_id",
            input_chars=pl.col("input").str.len_chars().cast(pl.Int64),
            output_chars=pl.col("output").str.len_chars().cast(pl.Int64),
        ).with_columns(_blocks_of_texts(frame["input"], size))

    def _packed(self) -> pl.DataFrame:
        frame = read_parquet(self.path, _PACKED)
        check_numbers(frame, "timestamp_us", self.path)
        check_tokens(frame, "input_chars", self.path, least=0)
        check_some_tokens(frame, "lcp_prev_chars", self.path, least=0, of="input_chars")
        before = frame.select(pl.col("input_chars").shift(1, fill_value=0).over("session")).to_series()
        if wrong := first_wrong(frame, (frame["lcp_prev_chars"] > before).fill_null(value=True)):
            got, most = frame["lcp_prev_chars"][wrong[0]], before[wrong[0]]
            raise TraceError(
                f"{self.path}: row {wrong[1]}: lcp_prev_chars: more than the session's input before it has "
                f"(got {got}). expected at most {most}"
            )
        names = [pl.col(name).cast(pl.String) for name in ("agent", "session")]
        blocks = _blocks_in_common(frame, self.chars_per_token * self.prefix_block_tokens)
        return frame.with_columns(blocks, *names, timestamp=pl.col("timestamp_us").cast(pl.Float64))


def _blocks_of_texts(texts: Iterable[str], size: float) -> pl.Series:
    """Return block ids of prompts: a hash of the text up to the end of each whole block of *size* characters."""
    ids: list[int] = []
    counts: list[int] = []
    for text in texts:
        ends = (np.arange(1, int(len(text) / size) + 1) * size).astype(np.int64).tolist()
        digest, start = blake2b(digest_size=8), 0
        for end in ends:
            digest.update(text[start:end].encode("utf-8", "surrogatepass"))
            ids.append(int.from_bytes(digest.digest()) >> 1)
            start = end
        counts.append(len(ends))
    return lists("prefix_blocks", np.array(ids, dtype=np.int64), np.array(counts, dtype=np.int64))


def _blocks_in_common(frame: pl.DataFrame, size: float) -> pl.Series:
    """Return block ids of prompts: those in common with the session's row before it, and new ones."""
    latest: dict[str, NDArray[np.int64]] = {}
    blocks: list[NDArray[np.int64]] = []
    unused = 0
    for session, characters, common in frame.select("session", "input_chars", "lcp_prev_chars").iter_rows():
        count, shared = int(characters / size), int(common / size)
        new = np.arange(unused, unused + count - shared)
        unused += len(new)
        before = latest.get(session, new)[:shared]
        latest[session] = own = np.concatenate([before, new])
        blocks.append(own)
    counts = np.array([len(own) for own in blocks], dtype=np.int64)
    return lists("prefix_blocks", np.concatenate(blocks), counts)
