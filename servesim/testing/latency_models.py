"""What a latency model owes a replica, tried on batches of decodes, chunks and both."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from functools import partial
from typing import Any

from servesim.catalog import gpu, model
from servesim.errors import PluginError
from servesim.latency.api import BatchShape, LatencyContext
from servesim.testing.decisions import ask

TOLERANCE_RATIO = 1e-9
"""Rounding that prices may differ by: the same as clock times of a leap and of its single steps."""

STEPS_AHEAD = (1, 2, 50, 1000)
"""Steps of a leap that are priced alone, as far as the price is valid."""


def check_latency_model(
    copies: tuple[Any, Any], where: str, *, context: LatencyContext | None = None
) -> None:
    """Raise `PluginError` unless prices are positive, repeat, never fall with work, and hold for a leap."""
    for replica in _contexts() if context is None else [context]:
        first, second = copies
        for copy in (first, second, first):
            ask(where, copy.reset, replica)
        for batch in filter(partial(_fits, context=replica), _batches(replica)):
            price = _price(first, batch, where)
            for again in (_price(first, batch, where), _price(second, batch, where)):
                if again != price:
                    raise PluginError(
                        f"{where}: prices {batch} differently each time (got {price!r} and {again!r}). "
                        "expected a price that depends on the batch alone"
                    )
            if len(batch.chunks) < 2:  # several chunks never repeat
                _check_leap(first, batch, price, where=where)
            for bigger in _more_work(batch):
                if _fits(bigger, replica):
                    _check_monotone(first, (batch, bigger), price[0], where=where)


def _price(latency: Any, batch: BatchShape, where: str) -> tuple[float, float, int]:
    before = repr(batch)
    answer = ask(where, latency.price, batch)
    if repr(batch) != before:
        raise PluginError(f"{where}: price changes the batch it is shown (got {batch}). expected {before}")
    try:
        first_step_s, growth_s, valid_steps = answer
        good = 0 < first_step_s < math.inf and 0 <= growth_s < math.inf and operator.index(valid_steps) >= 1
    except (TypeError, ValueError):
        good = False
    if not good:
        raise PluginError(
            f"{where}: cannot price {batch} so (got {answer!r}). "
            "expected (first_step_s > 0, growth_s >= 0, valid_steps >= 1)"
        )
    return first_step_s, growth_s, valid_steps


def _check_leap(latency: Any, batch: BatchShape, price: tuple[float, float, int], *, where: str) -> None:
    """Check that step k of a leap costs what the batch costs by itself when it has grown for k steps."""
    first_step_s, growth_s, valid_steps = price
    for steps in sorted({min(steps, valid_steps - 1) for steps in STEPS_AHEAD}):
        chunks = [(tokens, start + steps * tokens) for tokens, start in batch.chunks]
        grown = BatchShape(batch.sequences, batch.context_tokens + steps * batch.sequences, chunks)
        alone_s = _price(latency, grown, where)[0]
        leap_s = first_step_s + steps * growth_s
        if abs(alone_s - leap_s) > TOLERANCE_RATIO * leap_s:
            raise PluginError(
                f"{where}: the price of {batch} does not hold after {steps} steps "
                f"(got {alone_s!r} s for that step alone). expected first_step_s + {steps} * growth_s, "
                f"{leap_s!r} s, since valid_steps is {valid_steps}"
            )


def _check_monotone(
    latency: Any, batches: tuple[BatchShape, BatchShape], first_step_s: float, *, where: str
) -> None:
    batch, bigger = batches
    bigger_s = _price(latency, bigger, where)[0]
    if bigger_s < first_step_s * (1 - TOLERANCE_RATIO):
        raise PluginError(
            f"{where}: more work takes less time (got {bigger_s!r} s for {bigger}, {first_step_s!r} s "
            f"for {batch}). expected a time that never falls with work"
        )


def _more_work(batch: BatchShape) -> list[BatchShape]:
    """Return batches that have all the work of *batch* and some more."""
    sequences, context, chunks = batch.sequences, batch.context_tokens, batch.chunks
    more = [
        BatchShape(sequences + 1, context + 100, chunks),
        BatchShape(sequences, context, [*chunks, (64, 0)]),
    ]
    if sequences:
        more.append(BatchShape(sequences, context + 1000, chunks))
    if chunks:
        (tokens, start), *rest = chunks
        more.append(BatchShape(sequences, context, [(tokens + 32, start), *rest]))
        more.append(BatchShape(sequences, context, [(tokens, start + 500), *rest]))
    return more


def _fits(batch: BatchShape, context: LatencyContext) -> bool:
    """Return whether the engine of *context* can compose *batch*: models are asked for no other."""
    tokens = batch.sequences + sum(tokens for tokens, _ in batch.chunks)
    requests = batch.sequences + len(batch.chunks)
    return requests <= context.max_num_seqs and tokens <= context.max_num_batched_tokens


def _batches(context: LatencyContext) -> Iterator[BatchShape]:
    """Yield batches of decodes alone, of chunks alone, and of both."""
    chunk = max(1, min(512, context.max_num_batched_tokens // 2))
    for sequences in sorted({1, 2, 7, 64, context.max_num_seqs}):
        for mean in (1, 100, 4000):
            yield BatchShape(sequences, sequences * (mean + 1))
        yield BatchShape(sequences, sequences * 301, [(chunk, 2 * chunk)])
        yield BatchShape(sequences, sequences * 301, [(chunk // 2 + 1, 0), (chunk // 3 + 1, 0)])
    for start in (0, 8 * chunk):
        yield BatchShape(0, 0, [(1, start)])
        yield BatchShape(0, 0, [(chunk, start)])


def _contexts() -> list[LatencyContext]:
    """Return a small replica of one GPU and a large one of four."""
    return [
        LatencyContext(
            model=model(name),
            gpu=gpu("h100-sxm"),
            tensor_parallel=tensor_parallel,
            max_num_seqs=256,
            max_num_batched_tokens=2048,
            async_scheduling=async_scheduling,
        )
        for name, tensor_parallel, async_scheduling in (
            ("llama-3.1-8b", 1, True),
            ("llama-3.1-70b", 4, False),
        )
    ]
