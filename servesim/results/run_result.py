"""The result of a run: its scenario, provenance, summary and frames, and how they are saved and loaded.

Analysis is in modules of its own (`summary`, `latencies`, `token_times`); methods here are short cuts to
them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from servesim.errors import ServesimError
from servesim.results.frames import Frames, ParquetFrames
from servesim.results.notebook import summary_html
from servesim.results.plots import Plots
from servesim.results.saving import (
    HOST_FILE,
    PROVENANCE_FILE,
    SCENARIO_FILE,
    SUMMARY_FILE,
    check_result,
    read_json,
    read_text,
    replacing,
    write_json,
)
from servesim.results.schema import FRAMES
from servesim.results.steps import Floats
from servesim.results.token_gaps import GapStatistics, itl_statistics
from servesim.results.token_times import token_times
from servesim.scenario.document import parse_document

if TYPE_CHECKING:
    import pandas as pd

_HASH_ROWS = 1 << 20


class ResolvedScenario(Protocol):
    """A scenario with all its defaults written out."""

    def to_yaml(self) -> str:
        """Return it as a YAML document that runs identically."""


@dataclass(frozen=True, slots=True)
class SavedScenario:
    """The scenario of a loaded result: its text only, for a result must be readable where it cannot run.

    ``servesim.load_scenario(directory / "scenario.yaml")`` makes a scenario of it.
    """

    text: str

    def to_yaml(self) -> str:
        """Return the YAML document as it was saved."""
        return self.text


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """What a run gave. Compare two by `fingerprint`.

    Attributes
    ----------
    scenario
        The resolved scenario (a `SavedScenario` when the result was loaded).
    provenance
        What the numbers rest on: version, seed, hashes, sources, known errors.
    summary
        Headline numbers; keys in `servesim.results.schema.SUMMARY`.
    host
        Facts about this execution, such as ``wall_s``: the only part that differs on a re-run.
    frames
        The four frames, in memory or on disk.
    """

    scenario: ResolvedScenario
    provenance: dict[str, Any]
    summary: dict[str, Any]
    host: dict[str, Any]
    frames: Frames

    @property
    def requests(self) -> pl.DataFrame:
        """A row per request; columns in `servesim.results.schema.REQUESTS`. Read anew when on disk."""
        return self.frames.lazy("requests").collect()

    @property
    def segments(self) -> pl.DataFrame:
        """A row per run of identical engine steps; columns in `servesim.results.schema.SEGMENTS`."""
        return self.frames.lazy("segments").collect()

    @property
    def replicas(self) -> pl.DataFrame:
        """Time series of the replicas; columns in `servesim.results.schema.REPLICAS`."""
        return self.frames.lazy("replicas").collect()

    @property
    def events(self) -> pl.DataFrame:
        """Rare happenings; columns in `servesim.results.schema.EVENTS`."""
        return self.frames.lazy("events").collect()

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved scenario as plain data: what `scenario` says as text."""
        text = self.scenario.to_yaml()
        document = parse_document(text, SCENARIO_FILE).data
        if not isinstance(document, dict):
            raise ServesimError(
                f"{SCENARIO_FILE}: not a scenario (got {text[:40]!r}). expected the file as it was saved"
            )
        return document

    @property
    def warm_up_s(self) -> float:
        """Requests that arrived before it are left out of latency statistics."""
        run = self.settings.get("run", {})
        value = run.get("warm_up_s", 0.0) if isinstance(run, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ServesimError(
                f"{SCENARIO_FILE}: run.warm_up_s (got {value!r}). expected a number of seconds"
            )
        return float(value)

    @property
    def plot(self) -> Plots:
        """Figures of the run, such as ``result.plot.latency_cdf()``."""
        return Plots(self)

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped the run before its end."""
        return bool(self.summary["interrupted"])

    def token_times(self, request_id: int) -> Floats:
        """Return when each token of a request was emitted; see `servesim.results.token_times.token_times`."""
        return token_times(self.frames, request_id)

    def itl_s(self, request_id: int) -> Floats:
        """Return the inter-token latencies of a request: the gaps between its tokens, one fewer than them.

        With speculative decoding, tokens of one step have no gap between them: the gaps are those between steps.
        """
        return np.diff(np.unique(self.token_times(request_id)))

    def itl_statistics(self, quantiles: Sequence[float] = (0.5, 0.9, 0.99)) -> GapStatistics:
        """Return statistics of the inter-token latencies of all completed requests, the warm-up included.

        See `servesim.results.token_gaps.itl_statistics`: exact, some 3 s for 250 million tokens.
        """
        return itl_statistics(self.frames, quantiles)

    def to_pandas(self) -> pd.DataFrame:
        """Return the ``requests`` frame for pandas."""
        return self.requests.to_pandas()

    def fingerprint(self) -> str:
        """Return the SHA-256 of all frames (schema and values) and the summary: equal for equal results."""
        digest = hashlib.sha256()
        for name in FRAMES:
            lazy = self.frames.lazy(name)
            for column, dtype in lazy.collect_schema().items():
                digest.update(f"{name}.{column}:{dtype!r}\n".encode())
                _hash_column(digest, lazy.select(column).collect().to_series())
        digest.update(json.dumps(self.summary, allow_nan=False).encode())
        return digest.hexdigest()

    def save(self, directory: str | Path) -> None:
        """Save the result as a directory, replacing an older result there once the new one is complete.

        Files are ``summary.json``, ``provenance.json``, ``scenario.yaml``, a Parquet file per frame, and
        ``run.json`` with the facts about this execution. All but the last have the same bytes on every re-
        run.

        Raises
        ------
        ServesimError
            If *directory* holds something that is no result, or cannot be written: what was there is kept.
        """
        with replacing(Path(directory)) as new:
            self.frames.write(new)
            (new / SCENARIO_FILE).write_text(self.scenario.to_yaml(), encoding="utf-8")
            write_json(new / PROVENANCE_FILE, self.provenance)
            write_json(new / HOST_FILE, self.host)
            write_json(new / SUMMARY_FILE, self.summary)
        self.frames.settle(Path(directory).absolute())

    @classmethod
    def load(cls, directory: str | Path) -> RunResult:
        """Return the result saved in *directory*; its frames are read when they are asked for.

        Raises
        ------
        ServesimError
            If it is no complete result.
        """
        path = Path(directory).absolute()
        check_result(path)
        return cls(
            SavedScenario(read_text(path / SCENARIO_FILE)),
            read_json(path / PROVENANCE_FILE),
            read_json(path / SUMMARY_FILE),
            read_json(path / HOST_FILE),
            ParquetFrames(path),
        )

    def __repr__(self) -> str:
        done, arrived = self.summary["requests_completed"], self.summary["requests_arrived"]
        return f"<RunResult: {done} of {arrived} requests completed in {self.summary['duration_s']:.6g} s>"

    def _repr_html_(self) -> str:
        """Return the summary for notebooks."""
        return summary_html(self.summary, self.provenance)


def _hash_column(digest: hashlib._Hash, column: pl.Series) -> None:
    """Feed the nulls and values of *column* to *digest*, however its memory is laid out."""
    for start in range(0, len(column), _HASH_ROWS):
        piece = column.slice(start, _HASH_ROWS)
        digest.update(np.packbits(piece.is_null().to_numpy()).tobytes())
        if piece.dtype == pl.String:
            digest.update(piece.str.len_bytes().fill_null(0).to_numpy().tobytes())
            digest.update(piece.str.join("").item().encode())
        else:
            digest.update(piece.to_physical().fill_null(0).to_numpy().tobytes())
