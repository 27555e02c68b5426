"""What can be done to a stream of requests, frame by frame, without holding it.

`transform` is the order in which it is done. Merging of several streams is in `servesim.workload.merge`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import polars as pl

from servesim.errors import ScenarioError
from servesim.workload.apart import of_copy
from servesim.workload.prefix_spec import PrefixSpec
from servesim.workload.resample import bootstrap_blocks, thin
from servesim.workload.rescale import rescaled
from servesim.workload.shared_prefixes import SharedPrefixes
from servesim.workload.spec import TransformSpec, WindowSpec
from servesim.workload.stream import RequestStream, counted, in_words
from servesim.workload.timestamps import seconds


def transform(origin: RequestStream, spec: TransformSpec, seed: int) -> RequestStream:
    """Return *origin* with the transforms of *spec* applied, in the order that `TransformSpec` states.

    *seed* is what resampling draws from; a repetition plays the same sample again.
    """
    window, resample = spec.window, spec.resample
    period_s = window.end_s - window.start_s if window else origin.period_s
    lengths = spec.prompt_tokens, spec.output_tokens
    columns = _columns(spec)
    closed = "think_s" in origin.extras
    left: dict[str, int] = {}

    def once() -> Iterator[pl.DataFrame]:
        left.clear()
        frames = origin.frames()
        if any(lengths):
            frames = rescaled(frames, *lengths, extras=origin.extras, blocks=spec.prefixes is None)
        if window:
            frames = counted(_cut(frames, window), left, "in the window")
        if resample and resample.block_s is not None:
            frames = bootstrap_blocks(frames, block_s=resample.block_s, period_s=period_s, seed=seed)
        if resample and resample.thin_ratio is not None:
            frames = thin(frames, resample.thin_ratio, seed, by_session=closed)
            frames = counted(frames, left, "after thinning")
        return frames

    def whole() -> Iterator[pl.DataFrame]:
        frames = _repeat(once, spec.repeat, period_s) if spec.repeat > 1 else once()
        if spec.rate_scale != 1.0:
            frames = (_faster(frame, spec.rate_scale) for frame in frames)
        if columns:
            frames = (frame.with_columns(columns) for frame in frames)
        return frames if spec.max_requests is None else _head(frames, spec.max_requests)

    def prefixed(prefixes: PrefixSpec) -> Iterator[pl.DataFrame]:
        shared = SharedPrefixes(prefixes, seed)
        ratio = prefixes.shared_ratio
        if prefixes.hit_ratio is not None:
            origin.notes["prefix_shared_ratio"] = ratio = shared.calibrated(whole())
        return shared.frames(whole(), ratio)

    known = None if window or resample else origin.requests
    requests = None if known is None else known * spec.repeat
    return RequestStream(
        frames=whole if spec.prefixes is None else partial(prefixed, spec.prefixes),
        requests=requests
        if spec.max_requests is None or requests is None
        else min(requests, spec.max_requests),
        period_s=None if period_s is None else period_s * spec.repeat / spec.rate_scale,
        extras=origin.extras,
        notes=origin.notes,
        left=lambda: [*origin.left(), *in_words(left)],
    )


def rebatch(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Yield the same requests in frames of exactly *rows* rows, the last one excepted; never an empty
    frame.
    """
    held: list[pl.DataFrame] = []
    height = 0
    for frame in frames:
        if not held and frame.height == rows:
            yield frame
            continue
        held.append(frame)
        height += frame.height
        if height >= rows:
            joined = pl.concat(held)
            for start in range(0, height - rows + 1, rows):
                yield joined.slice(start, rows).rechunk()
            height %= rows
            held = [joined.tail(height)] if height else []
    if height:
        yield pl.concat(held, rechunk=True)


def _columns(spec: TransformSpec) -> list[pl.Expr]:
    """Return the tags that *spec* sets."""
    changed: list[pl.Expr] = []
    if spec.model is None and spec.model_map:
        changed.append(pl.col("model").replace(spec.model_map))
    for name in ("model", "tenant", "slo_class"):
        if (tag := getattr(spec, name)) is not None:
            changed.append(pl.lit(tag, dtype=pl.String).alias(name))
    if spec.priority is not None:
        changed.append(pl.lit(spec.priority, dtype=pl.Int32).alias("priority"))
    return changed


def _faster(frame: pl.DataFrame, factor: float) -> pl.DataFrame:
    return frame.with_columns(seconds(frame["arrival_s"], factor))


def _cut(frames: Iterator[pl.DataFrame], window: WindowSpec) -> Iterator[pl.DataFrame]:
    """Keep the arrivals in *window* and count time from its start; later frames are not even made."""
    arrival = pl.col("arrival_s")
    for frame in frames:
        if not frame.is_empty() and frame["arrival_s"][0] >= window.end_s:
            return
        kept = frame.filter(arrival.is_between(window.start_s, window.end_s, closed="left"))
        yield kept.with_columns(arrival - window.start_s)


def _repeat(
    once: Callable[[], Iterator[pl.DataFrame]], times: int, period_s: float | None
) -> Iterator[pl.DataFrame]:
    """Play a stream *times* times, each *period_s* after the one before."""
    first_s, last_s, rows = 0.0, 0.0, 0
    for frame in once():
        if not frame.is_empty():
            first_s = first_s if rows else frame["arrival_s"][0]
            last_s = frame["arrival_s"][-1]
            rows += frame.height
        yield of_copy(frame, 0)
    if period_s is None:
        if rows < 2:
            raise ScenarioError(
                f"workload.repeat: no gap to repeat after (got {rows} requests). expected two or a window"
            )
        period_s = last_s + (last_s - first_s) / (rows - 1)
    for repetition in range(1, times):
        for frame in once():
            yield of_copy(frame.with_columns(pl.col("arrival_s") + repetition * period_s), repetition)


def _head(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    left = rows
    for frame in frames:
        yield frame.head(left)
        left -= frame.height
        if left <= 0:
            return
