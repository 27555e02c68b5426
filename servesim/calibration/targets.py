"""What a fit is judged by: single numbers of measured runs, each fitted or held out, and the same of their replays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from math import ceil
from typing import Literal

import numpy as np

from servesim.errors import ScenarioError
from servesim.measurements import MeasuredRun
from servesim.results import RunResult
from servesim.rng import stream
from servesim.validation.errors import simulated_metrics

Split = Literal["fitted", "held out"]

NOISE = {"ttft_s": 0.043, "tpot_s": 0.013, "itl_s": 0.013, "e2e_s": 0.013, "output_tokens_per_s": 0.013}
"""Standard deviation of a measured mean, as a ratio: the unit of residuals. Of two runs of one benchmark 90 % differ by
less than 10 % in TTFT and 3 % in TPOT (repeats among AIConfigurator's end-to-end points): 1.645 sqrt(2) deviations."""

BLOCKS = 8
"""A run whose requests are known one by one is fitted in so many parts of its time."""

FITTED_METRICS = ("ttft_s_mean", "tpot_s_mean", "itl_s_mean", "e2e_s_mean", "output_tokens_per_s")
LATENCIES = ("ttft_s", "tpot_s", "e2e_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One measured number.

    Attributes
    ----------
    metric
        A key of `servesim.measurements.workload.METRICS`.
    measured
        Its value.
    split
        Whether it may be fitted.
    requests
        The requests that it is the mean of, as positions from and before which; None: all of the run.
    """

    metric: str
    measured: float
    split: Split
    requests: tuple[int, int] | None = None

    @property
    def noise(self) -> float:
        """How far a repeat of the measurement would be off, as a ratio."""
        return NOISE.get(self.metric, NOISE.get(self.metric.removesuffix("_mean"), 0.043))


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRun:
    """A measured run with what is fitted to (`rows`) and what errors are told of (`judged`)."""

    run: MeasuredRun
    rows: tuple[Target, ...]
    judged: tuple[Target, ...]


def split_runs(runs: Sequence[MeasuredRun], hold_out: str) -> list[SplitRun]:
    """Return *runs* with their targets.

    Parameters
    ----------
    runs
        The measured runs.
    hold_out
        ``"last"`` (run), a name or pattern of runs, or a share from 0 to below 1: the last requests of every run that
        knows its requests one by one, and so many of the other runs, drawn.

    Raises
    ------
    ScenarioError
        If it is none of these, or leaves nothing to fit.
    """
    share = _share(hold_out)
    held = _held_out(runs, hold_out, share)
    if runs and len(held) == len(runs):
        raise ScenarioError(f"--hold-out: every run is held out (got {hold_out!r}). expected one that is not")
    found = []
    for index, run in enumerate(runs):
        if index in held:
            found.append(_whole(run, "held out"))
        elif share and run.has_latencies:
            found.append(_in_time(run, share))
        else:
            found.append(_whole(run, "fitted"))
    return found


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    if not 0 <= share < 1:
        raise ScenarioError(f"--hold-out: no share (got {text!r}). expected 0 to below 1, a run, or last")
    return share


def _held_out(runs: Sequence[MeasuredRun], hold_out: str, share: float | None) -> set[int]:
    """Return the positions of the runs that are held out whole."""
    if hold_out == "last":
        return {len(runs) - 1} if len(runs) > 1 else set()
    if share is None:
        held = {index for index, run in enumerate(runs) if fnmatchcase(run.name, hold_out)}
        if not held:
            raise ScenarioError(
                f"--hold-out: no run of this name (got {hold_out!r}). expected a share, last, or one of "
                f"{', '.join(run.name for run in runs[:5])}{', ...' if len(runs) > 5 else ''}"
            )
        return held
    whole = [index for index, run in enumerate(runs) if not run.has_latencies]
    count = min(ceil(share * len(whole)), len(runs) - 1) if share else 0
    return {whole[place] for place in stream(0, "calibrate.hold_out").permutation(len(whole))[:count]}


def _whole(run: MeasuredRun, split: Split) -> SplitRun:
    judged = tuple(
        Target(metric=metric, measured=run.metrics[metric], split=split)
        for metric in FITTED_METRICS
        if metric in run.metrics
    )
    if split == "held out":
        return SplitRun(run=run, rows=(), judged=judged)
    if not run.has_latencies:
        return SplitRun(run=run, rows=judged, judged=judged)
    rate = tuple(target for target in judged if target.metric == "output_tokens_per_s")
    return SplitRun(run=run, rows=(*_blocks(run, run.requests.height), *rate), judged=judged)


def _in_time(run: MeasuredRun, share: float) -> SplitRun:
    """Split a run by its time: what arrives first is fitted, the last *share* of requests is judged."""
    count = run.requests.height
    cut = min(max(1, round((1 - share) * count)), count)
    judged = [*_means(run, 0, cut, "fitted"), *_means(run, cut, count, "held out")]
    return SplitRun(run=run, rows=tuple(_blocks(run, cut)), judged=tuple(judged))


def _blocks(run: MeasuredRun, stop: int) -> list[Target]:
    edges = np.linspace(0, stop, min(BLOCKS, stop) + 1).astype(int)
    return [
        target for start, end in pairwise(edges) for target in _means(run, int(start), int(end), "fitted")
    ]


def _means(run: MeasuredRun, start: int, stop: int, split: Split) -> list[Target]:
    part = run.requests.slice(start, stop - start)
    means = {name: part[name].drop_nulls().mean() for name in LATENCIES}
    return [
        Target(metric=f"{name}_mean", measured=float(mean), split=split, requests=(start, stop))  # type: ignore[arg-type]
        for name, mean in means.items()
        if mean is not None and float(mean) > 0  # type: ignore[arg-type]
    ]


def simulated_values(run: MeasuredRun, result: RunResult, targets: Sequence[Target]) -> list[float]:
    """Return what the replay *result* of *run* says to each of *targets*; NaN where it says nothing."""
    whole = simulated_metrics(result, run)
    requests = result.requests.select(LATENCIES)
    values = []
    for target in targets:
        value: object = whole.get(target.metric)
        if target.requests is not None:
            start, stop = target.requests
            value = requests[target.metric.removesuffix("_mean")].slice(start, stop - start).mean()
        values.append(float("nan") if value is None else float(value))  # type: ignore[arg-type]
    return values
