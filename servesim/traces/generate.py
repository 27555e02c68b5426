"""A file of generated requests from a description, with its datasheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from servesim._version import __version__
from servesim.scenario import Scenario
from servesim.traces.convert import Written, native_reading, write_frames
from servesim.traces.datasheets import check_own_datasheet, datasheet_path, described, write_datasheet
from servesim.traces.finding import rubric_of
from servesim.traces.source import TraceSpec, spec_frames
from servesim.traces.statistics import Floats, open_arrivals
from servesim.traces.tally import Tally
from servesim.workload.datasheet import Datasheet
from servesim.workload.spec import MixSpec, WorkloadSpec


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A file that was generated.

    Attributes
    ----------
    written
        Its form and rows.
    sheet
        Its datasheet, which is beside it.
    """

    written: Written
    sheet: Datasheet


def generate(
    spec: TraceSpec | Scenario, out: Path, *, to: str | None = None, lossy: bool = False
) -> Generated:
    """Write the requests that *spec* describes to *out*, and a datasheet beside it.

    Requests go to the file frame by frame. The same description and seed give the same bytes: one process makes them,
    whatever the number of cores.

    Parameters
    ----------
    spec
        As `servesim.traces.source.read_spec` returns it.
    out
        The file; an older one is replaced once the new one is complete.
    to
        Name of a form; None: told by the ending of *out*.
    lossy
        Leave out what the form cannot hold. Otherwise that is an error.

    Raises
    ------
    ServesimError
        If nothing ends the stream of requests, the form cannot hold them, or the file not be written.
    """
    check_own_datasheet(out)
    totals, tally = _Totals(), Tally()
    written = write_frames(_counted(spec_frames(spec), totals, tally), out, to=to, lossy=lossy)
    findings = tally.findings({})
    reader, parameters = native_reading(written.form)
    origin = _origins(spec.workload)
    lost = [f"left out, the form has no place for it: {each}" for each in written.lost]
    sheet = described(
        out,
        reader=reader,
        parameters=parameters,
        rows=written.rows,
        composition=totals.sentence(),
        rubric=rubric_of(findings),
        known_defects=[*lost, *_not_in_a_trace(spec.workload)],
        motivation="Requests for simulations, made from a description.",
        collection=f"Made by servesim {__version__} from {spec.name}, seed {spec.seed}: {origin}.",
        preprocessing="None.",
        uses="Whatever the description's model of traffic is good for; it is no measured data.",
        licence="That of whoever made it; it holds no rows of other traces unless the description names a source.",
    )
    write_datasheet(sheet, datasheet_path(out))
    return Generated(written=written, sheet=sheet)


def _not_in_a_trace(workload: WorkloadSpec) -> list[str]:
    """Return what decides arrivals in a simulation and is no part of the requests."""
    if workload.max_concurrency is None:
        return []
    return [
        f"times are those at which requests are due: workload.max_concurrency of {workload.max_concurrency} is no part "
        "of a trace, but of the scenario that replays it"
    ]


def _origins(workload: WorkloadSpec) -> str:
    parts: Sequence[WorkloadSpec | MixSpec] = workload.sources or [workload]
    return ", ".join(_origin(part) for part in parts)


def _origin(part: WorkloadSpec | MixSpec) -> str:
    if part.source is not None:
        path = part.source.parameters.get("path")
        return f"trace {Path(str(path)).name} ({part.source.reader})"
    assert part.generator is not None, "the spec's validator lets exactly one origin pass"
    return f"generator {part.generator.name}"


def _counted(frames: Iterator[pl.DataFrame], totals: _Totals, tally: Tally) -> Iterator[pl.DataFrame]:
    """Pass *frames* on, counting."""
    for frame in frames:
        totals.add(frame)
        tally.add(frame)
        yield frame


class _Totals:
    """What the composition of requests tells, without holding them."""

    def __init__(self) -> None:
        self._requests, self._arrivals, self._first_s, self._last_s = 0, 0, 0.0, 0.0
        self._gaps, self._squares = 0.0, 0.0
        self._sums = np.zeros(2)

    def add(self, frame: pl.DataFrame) -> None:
        """Count the requests of *frame*."""
        if len(arrivals := open_arrivals(frame)):
            self._arrive(arrivals)
        self._requests += frame.height
        self._sums += [float(frame[name].cast(pl.Int64).sum()) for name in ("prompt_tokens", "output_tokens")]

    def _arrive(self, arrivals: Floats) -> None:
        before = self._last_s if self._arrivals else float(arrivals[0])
        gaps = np.diff(arrivals, prepend=before)
        self._first_s = self._first_s if self._arrivals else before
        self._last_s = float(arrivals[-1])
        self._arrivals += len(arrivals)
        self._gaps += float(gaps.sum())
        self._squares += float(gaps @ gaps)

    def sentence(self) -> str:
        """Return the composition of the requests; rate and gaps are those of arrivals that no answer decides."""
        from servesim.traces.info import composition

        n = max(self._arrivals - 1, 1)
        mean = self._gaps / n
        span_s = self._last_s - self._first_s
        variance = max(self._squares / n - mean**2, 0.0)
        lengths = self._sums / max(self._requests, 1)
        numbers: dict[str, Any] = {
            "requests": self._requests,
            "arrivals": self._arrivals,
            "span_s": span_s,
            "rate_per_s": self._arrivals / span_s if span_s else None,
            "gap_cv": variance**0.5 / mean if mean else None,
            "prompt_tokens": {"mean": float(lengths[0])},
            "output_tokens": {"mean": float(lengths[1])},
        }
        return composition(numbers)
