"""Reader of coding-agent sessions as kv-cache-tester publishes them: long prompts that grow, nearly all of them reused.

Native form: a JSON file per session, ``{id, models, block_size, hash_id_scope, tool_tokens, system_tokens, requests:
[...]}``. A request has ``t`` (s from the session's start), ``model``, ``in``, ``out``, ``hash_ids`` (floor(in /
block_size) ids, of this session where the scope is ``local``, of all sessions where it is ``global``), ``api_time`` and
``think_time``; an entry of type ``subagent`` nests the requests of an agent that runs beside. Without the two keys,
blocks have 64 tokens and ids are local. The format: https://github.com/callanjfox/kv-cache-tester.

Packed form: a Parquet file with a row per request, in which ``lcp_prev`` tells how many blocks are those of the agent's
previous request, and ``new_runs`` the others as pairs of a first id and a count. Blocks have 64 tokens, ids are local.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field

from servesim.errors import TraceError
from servesim.rng import stream
from servesim.workload.api import Signature
from servesim.workload.checks import (
    ZeroOutput,
    check_block_counts,
    check_numbers,
    check_tokens,
    settle_zero_output,
)
from servesim.workload.content import check_is_data, without_companions
from servesim.workload.files import parquet_columns, read_parquet
from servesim.workload.paths import FOLDER_TOO, TracePath
from servesim.workload.sessions import END

_BLOCK_TOKENS = 64
_FIELDS = {"t": "t", "model": "model", "in": "in_tokens", "out": "out_tokens", "api_time": "api_time_s"}
_PACKED = [
    "conv",
    "agent",
    "idx",
    "t",
    "model",
    "in_tokens",
    "out_tokens",
    "api_time_s",
    "n_blocks",
    "lcp_prev",
    "new_runs",
]
_TOLD = frozenset(("id", "models", "requests", "t", "model", "in", "out"))
_TOLD_PACKED = frozenset(("conv", "agent", "idx", "t", "model", "in_tokens", "out_tokens"))
_BLOCKS = frozenset(("block_size", "hash_id_scope", "hash_ids", "n_blocks", "lcp_prev", "new_runs"))
"""Keys of the native form, and columns of the packed one, that requests tell; with their blocks also those."""

_NUMBERS = ("t", "in", "out", "api_time")
_SCOPES = ("local", "global")
_SESSION_IDS = 1 << 32
"""Ids that a session may have: they are numbered through all sessions in blocks of so many."""


class ClaudeCodeReader:
    """Coding-agent sessions, native JSON or packed Parquet.

    Each agent of a session is a session of the workload, ``<session>/<agent>``: agents run beside each other. The
    trace does not tell when sessions began, so they arrive at random: independently, at a given rate. Without
    ``workload.closed_loop`` requests arrive as recorded, counted from the begin of the session.

    Parameters
    ----------
    path
        The folder of the JSON files, one such file, or the Parquet file.
    sessions_per_s
        Rate at which sessions begin: a Poisson process.
    prefix_blocks
        Whether requests get the ids of their prompt's blocks. The published sessions have 94 million, of 64 tokens.
    duplicates
        Whether sessions that are in the trace again (same number of requests, prompt tokens and duration) are kept.
    zero_output
        What to do with requests that emitted no token: ``error``, ``drop`` or ``keep_as_one``.
    seed
        What the begins of sessions are drawn from. They are part of the trace: equal for every seed of the run.
    """

    signature = (
        Signature(forms=("parquet",), needs=tuple(_PACKED)),
        Signature(forms=("jsonl",), needs=("id", "block_size", "requests")),
        Signature(forms=("folder",), needs=("*.json",)),
    )

    def __init__(
        self,
        *,
        path: Annotated[TracePath, FOLDER_TOO],
        sessions_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0 / 60.0,
        prefix_blocks: bool = False,
        duplicates: bool = False,
        zero_output: ZeroOutput = "keep_as_one",
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.path = path
        self.sessions_per_s = sessions_per_s
        self.prefix_blocks = prefix_blocks
        self.duplicates = duplicates
        self.zero_output = zero_output
        self.seed = seed
        self.notes: dict[str, int | float | str] = {}
        self.left_out: list[str] = []

    def read(self) -> pl.LazyFrame:
        """Return arrivals from 0, ends, lengths, model, sessions and, where asked for, prefix blocks.

        Raises
        ------
        TraceError
            If a file cannot be taken as it is.
        """
        frame = self._packed() if self.path.suffix.lower() == ".parquet" else self._native()
        self.notes = {"rows_read": frame.height, "sessions": frame["conv"].n_unique()}
        if not self.duplicates:
            frame = self._without_duplicates(frame)
        follow_ups = frame.filter(pl.col("idx") > 0)
        if blocks := int(follow_ups["n_blocks"].sum()):
            self.notes["blocks_reused_ratio"] = int(follow_ups["lcp_prev"].sum()) / blocks
        if self.prefix_blocks:
            frame = frame.with_columns(_global_blocks(frame))
        frame, self.notes["zero_output"] = settle_zero_output(
            frame, "out_tokens", self.path, self.zero_output
        )
        requests = self._arriving(frame)
        if self.prefix_blocks:
            requests = requests.with_columns(
                frame["prefix_blocks"], frame["block_size"].alias("prefix_block_tokens")
            )
        return requests.lazy()

    def _arriving(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the requests in time, with their agent as session and the time at which each ended."""
        sessions = frame["conv"].unique(maintain_order=True)
        gaps_s = (
            stream(self.seed, "claude_code", "sessions").standard_exponential(len(sessions))
            / self.sessions_per_s
        )
        starts_s = np.cumsum(gaps_s) - gaps_s[0]
        self.notes["starts_drawn"] = len(sessions)
        starts = pl.DataFrame({"conv": sessions, "start_s": starts_s})
        known = frame.join(starts, on="conv", how="left", maintain_order="left")
        arrival_s = pl.col("start_s") + pl.col("t")
        return known.select(
            arrival_s=arrival_s,
            prompt_tokens="in_tokens",
            output_tokens="out_tokens",
            model=pl.col("model").cast(pl.String),
            session=pl.format("{}/{}", pl.col("conv"), pl.col("agent")),
            **{END: arrival_s + pl.col("api_time_s")},
        )

    def _without_duplicates(self, frame: pl.DataFrame) -> pl.DataFrame:
        marks = frame.group_by("conv", maintain_order=True).agg(
            pl.len(), pl.col("in_tokens").sum(), pl.col("t").max()
        )
        kept = marks.unique(["len", "in_tokens", "t"], keep="first", maintain_order=True)
        once = frame.filter(pl.col("conv").is_in(kept["conv"].implode()))
        self.notes["sessions_duplicated"] = marks.height - kept.height
        self.notes["rows_duplicated"] = frame.height - once.height
        return once

    def _packed(self) -> pl.DataFrame:
        self.left_out = self._untold(parquet_columns(self.path), _TOLD_PACKED)
        frame = read_parquet(self.path, _PACKED)
        frame = frame.with_columns(
            pl.col("agent").cast(pl.String),
            pl.col("api_time_s").cast(pl.Float64),
            block_size=pl.lit(_BLOCK_TOKENS, dtype=pl.Int32),
            ids_of=pl.col("conv"),
        )
        return _checked(frame, self.path)

    def _native(self) -> pl.DataFrame:
        files = sorted(without_companions(self.path.glob("*.json"))) if self.path.is_dir() else [self.path]
        if not files:
            raise TraceError(f"{self.path}: no JSON file in it. expected one for each session")
        keys: dict[str, None] = {}
        frames = [_session_frame(file, keys) for file in files]
        self.left_out = self._untold(keys, _TOLD)
        sessions = [frame for frame in frames if not frame.is_empty()]
        if not sessions:
            raise TraceError(f"{self.path}: no requests (got 0). expected at least one")
        return pl.concat(sessions, how="vertical_relaxed")

    def _untold(self, names: Iterable[str], told: frozenset[str]) -> list[str]:
        told |= _BLOCKS if self.prefix_blocks else frozenset()
        return [name for name in names if name not in told]


def _checked(frame: pl.DataFrame, where: Path) -> pl.DataFrame:
    """Return *frame*; raise at the first number in it that cannot be."""
    check_numbers(frame, "t", where)
    check_numbers(frame.filter(pl.col("api_time_s").is_not_null()), "api_time_s", where)
    check_tokens(frame, "in_tokens", where)
    check_tokens(frame, "out_tokens", where, least=0)
    check_block_counts(frame, "n_blocks", where, prompt="in_tokens", block_tokens="block_size")
    return frame


def _session_frame(file: Path, keys: dict[str, None]) -> pl.DataFrame:
    """Return the requests of a native file in the packed form, checked, and add to *keys* those that the file has."""
    check_is_data(file)
    try:
        document = json.loads(file.read_bytes())
        rows = list(_session(document, file))
        keys.update(dict.fromkeys(document))
        for _, requests in _agents(document["requests"], "0"):
            keys.update(dict.fromkeys(key for request in requests for key in request))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise TraceError(f"{file}: not a session ({what}). expected the form of kv-cache-tester") from error
    if not rows:
        return pl.DataFrame()
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return _checked(frame.with_columns(pl.col("api_time_s").cast(pl.Float64)), file)


def _session(document: dict[str, Any], file: Path) -> Iterator[dict[str, Any]]:
    """Yield the requests of a session in the packed form, agent by agent."""
    name, block_size = str(document.get("id", file.stem)), document.get("block_size", _BLOCK_TOKENS)
    scope = document.get("hash_id_scope", _SCOPES[0])
    if type(block_size) is not int or block_size < 1:
        raise TraceError(f"{file}: block_size (got {block_size!r}). expected a whole number >= 1")
    if scope not in _SCOPES:
        raise TraceError(f"{file}: hash_id_scope (got {scope!r}). expected {' or '.join(_SCOPES)}")
    for agent, requests in _agents(document["requests"], "0"):
        before: list[int] = []
        for number, request in enumerate(requests):
            _check_types(request, f"{file}: agent {agent}, request {number + 1}")
            ids = request["hash_ids"]
            shared = _common(before, ids)
            before = ids
            yield {
                "conv": name,
                "agent": agent,
                "idx": number,
                **{packed: request[native] for native, packed in _FIELDS.items()},
                "n_blocks": len(ids),
                "lcp_prev": shared,
                "new_runs": _runs(ids[shared:]),
                "block_size": block_size,
                "ids_of": name if scope == "local" else None,
            }


def _check_types(request: dict[str, Any], where: str) -> None:
    for name in ("model", "hash_ids", *_NUMBERS):
        if name not in request:
            raise TraceError(f"{where}: no {name!r} (got {', '.join(request)}). expected one")
    for name in _NUMBERS:
        value = request[name]
        if type(value) not in (int, float) and not (name == "api_time" and value is None):
            raise TraceError(f"{where}: {name}: not a number (got {value!r}). expected a number")
    for block in request["hash_ids"]:
        if type(block) is not int or not 0 <= block < _SESSION_IDS:
            raise TraceError(
                f"{where}: hash_ids: unusable id (got {block!r}). expected whole numbers from 0 to {_SESSION_IDS - 1}"
            )


def _agents(entries: Iterable[dict[str, Any]], name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each agent's own requests; those of an entry of type ``subagent`` are another agent's."""
    own: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for entry in entries:
        (others if entry.get("type") == "subagent" else own).append(entry)
    if own:
        yield name, own
    for number, entry in enumerate(others, start=1):
        yield from _agents(entry["requests"], f"{name}.{number}")


def _common(before: list[int], ids: list[int]) -> int:
    """Return how many blocks *ids* begins with that *before* begins with, too."""
    for count, (one, other) in enumerate(zip(before, ids, strict=False)):
        if one != other:
            return count
    return min(len(before), len(ids))


def _runs(ids: list[int]) -> list[int]:
    """Return *ids* as pairs of a first id and a count of consecutive ones."""
    runs: list[int] = []
    for number in ids:
        if runs and number == runs[-2] + runs[-1]:
            runs[-1] += 1
        else:
            runs += [number, 1]
    return runs


def _global_blocks(frame: pl.DataFrame) -> pl.Series:
    """Return every request's block ids; local ones are numbered session by session, global ones all together."""
    numbers = {owner: number for number, owner in enumerate(frame["ids_of"].unique(maintain_order=True))}
    blocks: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    latest: dict[tuple[Any, str], np.ndarray[Any, np.dtype[np.int64]]] = {}  # of each agent
    nothing = np.empty(0, dtype=np.int64)
    for session, agent, owner, shared, runs in frame.select(
        "conv", "agent", "ids_of", "lcp_prev", "new_runs"
    ).iter_rows():
        first = numbers[owner] * _SESSION_IDS
        new = [
            np.arange(first + start, first + start + count)
            for start, count in zip(runs[::2], runs[1::2], strict=True)
        ]
        before = latest.get((session, agent), nothing)
        latest[session, agent] = own = np.concatenate([before[:shared], *new])
        blocks.append(own)
    return pl.Series("prefix_blocks", blocks, dtype=pl.List(pl.Int64))
