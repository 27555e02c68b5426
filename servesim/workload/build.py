"""From the ``workload:`` block of a scenario to a stream of requests.

Traces are read when the workload is built, so that a bad file is found before a run starts; generated
requests are made frame by frame while the run consumes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import ScenarioError
from servesim.rng import stream
from servesim.workload.ending import NOTHING_ENDS_IT, endless_generators
from servesim.workload.generated import ends, extras_of, generated
from servesim.workload.merge import merge
from servesim.workload.registries import GENERATORS, READERS
from servesim.workload.schema import ANNOUNCED, CHUNK_ROWS, Workload
from servesim.workload.source import load, slices
from servesim.workload.spec import MixSpec, WindowSpec, WorkloadSpec
from servesim.workload.stream import RequestStream, counted, in_words
from servesim.workload.transforms import rebatch, transform


def build_workload(spec: WorkloadSpec, *, seed: int, base_dir: Path | None = None) -> Workload:
    """Return the stream of requests that *spec* describes.

    Parameters
    ----------
    spec
        The scenario's ``workload:`` block.
    seed
        The scenario's seed. Generators, resampling, and each of several sources draw from streams of their own.
    base_dir
        What relative paths start from; the working directory if None.

    Raises
    ------
    TraceError
        If a trace is missing, empty, or has content that cannot be taken as it is.
    ScenarioError
        If nothing bounds the number of requests.
    PluginError
        If a reader or generator is unknown or fails to import.
    pydantic.ValidationError
        If a parameter of a reader or generator is unknown, missing or wrong.
    """
    for path in endless_generators(spec, base_dir=base_dir):
        raise ScenarioError(f"{'.'.join(map(str, ('workload', *path)))}: {NOTHING_ENDS_IT}")
    context = {"base_dir": base_dir}
    if spec.sources is None:
        whole = _origin(spec, seed, context)
    else:
        seeds = [int(stream(seed, "source", index).integers(2**63)) for index in range(len(spec.sources))]
        parts = [
            transform(_origin(part, part_seed, context), part, part_seed)
            for part, part_seed in zip(spec.sources, seeds, strict=True)
        ]
        whole = merge(parts)
    whole = transform(whole, spec, seed)
    return StreamedWorkload(whole)


LATE_SPANS = 10
LATE_S = 3600.0
"""A first arrival further from time 0 than this, and than ten times the time that all arrivals take, is told in
the note ``first_arrival_s``: times since 1970 look so, and the cluster would idle for decades."""


class StreamedWorkload:
    """A `servesim.workload.schema.Workload` over a stream of frames.

    Attributes
    ----------
    requests
        How many requests there will be, or None when that is not known in advance.
    extras
        Columns of `servesim.workload.schema.ANNOUNCED` that requests may have.
    notes
        Counts worth telling the user; complete after the last frame.
    """

    def __init__(self, requests: RequestStream) -> None:
        self.requests = requests.requests
        self.extras = requests.extras
        self.notes = requests.notes
        if self.requests is not None:
            self.notes["requests"] = self.requests  # told even if the run ends before the stream does
        self._stream = requests

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield frames of at most `CHUNK_ROWS` rows with the columns of `SCHEMA`, in order of arrival.

        Raises
        ------
        ScenarioError
            If there is no request at all.
        """
        rows, first_s, last_s = 0, 0.0, 0.0
        for frame in rebatch(self._stream.frames(), CHUNK_ROWS):
            first_s = first_s if rows else frame["arrival_s"][0]
            last_s = frame["arrival_s"][-1]
            rows += frame.height
            yield frame
        if rows == 0:
            raise ScenarioError(
                f"workload: no request is left (got {', '.join(self._stream.left())}). expected at least one",
                hint="look at window, resample and the generator's duration_s",
            )
        self.notes["requests"] = rows
        if first_s > max(LATE_S, LATE_SPANS * (last_s - first_s)):
            self.notes["first_arrival_s"] = first_s


def _origin(spec: WorkloadSpec | MixSpec, seed: int, context: dict[str, Any]) -> RequestStream:
    """Return the stream of a single trace or generator, before any transform."""
    if spec.source is not None:
        reader = READERS.build(spec.source.reader, spec.source.parameters, context=context)
        frame, notes = load(
            reader,
            spec.source.reader,
            closed_loop=spec.closed_loop,
            rows=None if spec.window or spec.resample else spec.max_requests,
            end_s=spec.window.end_s if spec.window else None,
        )
        return RequestStream(
            frames=lambda: slices(frame),
            requests=frame.height,
            extras=frozenset(ANNOUNCED).intersection(frame.columns),
            notes=notes,
            left=lambda: [_from_trace(frame["arrival_s"], spec.window)],
        )
    assert spec.generator is not None, "the spec's validator lets exactly one origin pass"
    who = f"workload generator {spec.generator.name!r}"
    generator = GENERATORS.build(spec.generator.name, spec.generator.parameters, context=context)
    requests, duration_s = ends(generator, who)
    made: dict[str, int] = {}
    return RequestStream(
        frames=lambda: counted(generated(generator, who, seed), made, "generated"),
        requests=requests if duration_s is None else None,
        period_s=None if requests else duration_s,
        extras=extras_of(generator),
        notes=dict(getattr(generator, "notes", {})),
        left=lambda: in_words(made),
    )


def _from_trace(arrivals: pl.Series, window: WindowSpec | None) -> str:
    """Tell how many requests a trace has; with *window*, up to its end, since no more may have been read."""
    if window is None:
        return f"{len(arrivals):,} from the trace"
    return f"{(arrivals < window.end_s).sum():,} from the trace before {window.end_s!r} s"
