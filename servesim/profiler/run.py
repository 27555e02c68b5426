"""Measuring a plan on a device, row by row, into a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from servesim._version import __version__
from servesim.errors import ServesimError
from servesim.profiler.device import Device, DeviceFacts
from servesim.profiler.identify import check_gpu
from servesim.profiler.kernels import Kernel
from servesim.profiler.loads import loads
from servesim.profiler.plan import Case, Plan
from servesim.profiler.sampling import Sample, Stopping, sampled
from servesim.profiler.tables import ProfileFolder, architecture
from servesim.rng import stream

OnDone = Callable[[int, int | None], None]
"""Called with rows that are there and rows that are wanted."""

CLOCK_SPREAD_RATIO = 0.03
"""Clocks that differ by more from row to row are not locked."""


@dataclass(slots=True, kw_only=True)
class ProfileResult:
    """What a profiling run did.

    Attributes
    ----------
    path
        The folder.
    rows, kept_rows
        Rows that were measured, and those that were there before.
    imprecise_rows, throttled_rows
        Of the measured ones: where time ran out before the median was known well enough, and where the clock was held
        down.
    clocks_mhz
        Lowest and highest clock of the measured rows; None where the driver does not tell.
    power_w
        State to median power, of this run.
    lasting_share
        State to the speed under a load that lasts, as a share of that of its kernels alone, of this run.
    left_out
        What the profile lacks.
    """

    path: Path
    rows: int = 0
    kept_rows: int = 0
    imprecise_rows: int = 0
    throttled_rows: int = 0
    clocks_mhz: tuple[float, float] | None = None
    power_w: dict[str, float] = field(default_factory=dict)
    lasting_share: dict[str, float] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    @property
    def warnings(self) -> list[str]:
        """What makes the rows worth less than they could be."""
        found = []
        if self.clocks_mhz is None and self.rows:
            found.append("clocks were not read: without NVML nothing tells whether they were steady")
        elif self.clocks_mhz and self.clocks_mhz[0] < (1 - CLOCK_SPREAD_RATIO) * self.clocks_mhz[1]:
            low, high = self.clocks_mhz
            found.append(
                f"clocks were not locked: {low:,.0f} to {high:,.0f} MHz. nvidia-smi --lock-gpu-clocks=MHZ locks them"
            )
        if self.throttled_rows:
            found.append(f"heat or power held the clock down in {self.throttled_rows:,} rows")
        if self.imprecise_rows:
            found.append(
                f"the precision was not reached in time in {self.imprecise_rows:,} rows. --budget gives each more, "
                "in a new folder"
            )
        return found

    def note(self, sample: Sample, stopping: Stopping, *, clock_mhz: float | None, throttled: str) -> None:
        """Count a row."""
        self.rows += 1
        self.throttled_rows += bool(throttled)
        self.imprecise_rows += sample.error_ratio is None or sample.error_ratio > stopping.precision_ratio
        if clock_mhz is not None:
            low, high = self.clocks_mhz or (clock_mhz, clock_mhz)
            self.clocks_mhz = (min(low, clock_mhz), max(high, clock_mhz))


def profile(
    plan: Plan,
    device: Device,
    out: Path,
    *,
    stopping: Stopping,
    seed: int = 0,
    load_s: float = 10.0,
    on_done: OnDone | None = None,
) -> ProfileResult:
    """Measure what *plan* has and *out* has not, and write it there.

    Rows are measured in an order that *seed* shuffles, so that a GPU that warms up does not bend the curves; sums over
    GPUs come last. What is interrupted goes on when it is called again.

    Parameters
    ----------
    plan
        Made for this device: for its GPUs and its attention kernels.
    device
        Where to.
    out
        Folder, new or of the same profile.
    stopping
        How often each kernel is timed.
    seed
        Of the order; the device has its inputs from the same.
    load_s
        Seconds that each load lasts for power, clock and lasting speed; 0: they are not measured.
    on_done
        Told of progress.

    Raises
    ------
    ServesimError
        If the device is another GPU than the plan's, or *out* holds something else.
    """
    facts = device.facts()
    check_gpu(facts, plan.gpu)
    folder = ProfileFolder(out, _described(plan, facts, stopping, seed))
    todo = [case for case in _ordered(plan.cases, seed) if _key(case) not in folder.done]
    kept = len(plan.cases) - len(todo)
    result = ProfileResult(path=out, kept_rows=kept, left_out=plan.left_out)
    for case in todo:
        _measure(case, device, folder, stopping, result)
        if on_done is not None:
            on_done(kept + result.rows, len(plan.cases))
    if load_s:
        _measure_loads(plan, device, folder, stopping, load_s, result)
    folder.write_facts(complete=True)
    return result


def _measure(
    case: Case, device: Device, folder: ProfileFolder, stopping: Stopping, result: ProfileResult
) -> None:
    with device.prepared(case.kernel) as run:
        sample = sampled(run, stopping, device.now_s)
        state = device.state()
    if not sample.median_s > 0:
        raise ServesimError(
            f"profile: {case.kernel}: no time (got {sample.median_s!r} s). expected more than the clock's resolution"
        )
    folder.add(
        case.table,
        case.ranks,
        case.shape,
        (sample.median_s, sample.error_ratio, sample.repeats, state.sm_clock_mhz, state.throttled),
    )
    result.note(sample, stopping, clock_mhz=state.sm_clock_mhz, throttled=state.throttled)


def _measure_loads(
    plan: Plan,
    device: Device,
    folder: ProfileFolder,
    stopping: Stopping,
    seconds: float,
    result: ProfileResult,
) -> None:
    there = folder.loads()
    for state, load in loads(plan).items():
        if state in there:
            continue
        alone_s = sum(_alone_s(kernel, device, stopping) for kernel in load)
        reading = device.loaded(load, seconds)
        power_w: Sequence[float | None] = (None, None, None)
        if reading.power_w:
            result.power_w[state] = median(reading.power_w)
            power_w = (result.power_w[state], min(reading.power_w), max(reading.power_w))
        if reading.pass_s is not None:
            result.lasting_share[state] = alone_s / reading.pass_s
        lasting = (reading.sm_clock_mhz, alone_s if load else None, reading.pass_s)
        folder.add_load((state, *power_w, len(reading.power_w), *lasting))
    if not result.power_w and set(loads(plan)) - there:
        result.left_out = (*result.left_out, "power (no NVML, or no power meter)")


def _alone_s(kernel: Kernel, device: Device, stopping: Stopping) -> float:
    with device.prepared(kernel) as run:
        return sampled(run, stopping, device.now_s).median_s


def _ordered(cases: Sequence[Case], seed: int) -> list[Case]:
    """Return all cases of one GPU in random order, then the others in theirs."""
    alone = [case for case in cases if case.table != "all_reduce"]
    order = stream(seed, "profile", "order").permutation(len(alone))
    return [alone[place] for place in order] + [case for case in cases if case.table == "all_reduce"]


def _key(case: Case) -> tuple[str, int, tuple[str, ...]]:
    return case.table, case.ranks, tuple(map(str, case.shape))


def _described(plan: Plan, facts: DeviceFacts, stopping: Stopping, seed: int) -> dict[str, object]:
    """Return what ``profile.json`` tells, in its order."""
    return {
        "servesim": __version__,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": plan.gpu.name,
        "device": facts.name,
        "driver": facts.driver,
        "sm_clock_max_mhz": facts.sm_clock_max_mhz,
        "power_limit_w": facts.power_limit_w,
        "versions": dict(facts.versions),
        "attention": facts.attention,
        "model": architecture(plan.model),
        "tensor_parallel": sorted(plan.ranks),
        "limits": {
            "tokens": plan.limits.tokens,
            "sequences": plan.limits.sequences,
            "context_tokens": plan.limits.context_of(plan.model),
        },
        "stopping": asdict(stopping),
        "seed": seed,
        "left_out": list(plan.left_out),
    }
