"""How long a plan takes, from the peaks of the catalog's GPU: for telling before measuring."""

from __future__ import annotations

from dataclasses import dataclass

from servesim.catalog import Gpu
from servesim.profiler.kernels import Attention, Kernel, least_s
from servesim.profiler.plan import Case, Plan
from servesim.profiler.sampling import Stopping
from servesim.profiles.native import SHAPES

REPEATS = 20
"""Timings that a kernel is expected to need; more than 5 only as long as there is time."""

WARM_UPS = 4

PEAK_SHARE = 0.6
"""Of the peaks that kernels are expected to reach."""

PREPARE_S = 0.1
"""To make inputs and record a kernel."""

LAUNCH_S = 1e-4
"""From one timing to the next, the flush of the caches left out."""

FLUSH_BYTES = 256 * 2**20
"""What is read between two timings: more than any cache holds."""

SETTLE_S = 2.0
"""Of a load before its power, clock and speed count."""

STATES = 3


def default_attention(gpu: Gpu, *, windows: bool) -> str:
    """Return whose attention would be measured on *gpu*, if all of `servesim.profiler.torch_attention` were there.

    *windows* says whether the model has sliding ones, which ``sdpa`` has not.
    """
    newest = gpu.generation in ("hopper", "blackwell")
    return "sdpa" if gpu.generation == "volta" or (newest and not windows) else "flash-attn"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEstimate:
    """What is to be measured for one table, or one kind of attention.

    Attributes
    ----------
    table, ranks
        Its name, and the degree of tensor parallelism.
    rows, seconds
        How many, and how long they take.
    ranges
        Lowest and highest value of each number in their shapes, zeros of what a kind has not left out.
    """

    table: str
    ranks: int
    rows: int
    ranges: dict[str, tuple[int, int]]
    seconds: float


def estimates(plan: Plan, stopping: Stopping) -> list[TableEstimate]:
    """Return the estimate of every table of *plan*."""
    by_table: dict[tuple[int, str], list[Case]] = {}
    for case in plan.cases:
        by_table.setdefault((case.ranks, _kind(case)), []).append(case)
    found = []
    for (ranks, table), cases in by_table.items():
        names = SHAPES[cases[0].table]
        columns = dict(zip(names, zip(*(case.shape for case in cases), strict=True), strict=True))
        found.append(
            TableEstimate(
                table=table,
                ranks=ranks,
                rows=len(cases),
                ranges={
                    name: (min(values), max(values))
                    for name, values in columns.items()
                    if name not in ("operator", "calls") and any(values)
                },
                seconds=sum(case_s(case.kernel, plan.gpu, stopping) for case in cases),
            )
        )
    return found


def _kind(case: Case) -> str:
    """Return the table of *case*, attention with what it is of."""
    kernel = case.kernel
    if not isinstance(kernel, Attention):
        return case.table
    of = "decodes" if not kernel.chunk else "both" if kernel.sequences else "chunks"
    return f"{case.table}: {of}"


def case_s(kernel: Kernel, gpu: Gpu, stopping: Stopping) -> float:
    """Return how long one row takes."""
    once_s = least_s(kernel, gpu) / PEAK_SHARE + FLUSH_BYTES / gpu.memory_bandwidth_bytes_per_s + LAUNCH_S
    timings_s = max(stopping.fewest * once_s, min(REPEATS * once_s, stopping.budget_s))
    return PREPARE_S + WARM_UPS * once_s + timings_s


def loads_s(seconds: float) -> float:
    """Return how long the loads of all states take."""
    return STATES * (SETTLE_S + seconds) if seconds else 0.0
