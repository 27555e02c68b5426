"""``servesim profile``: kernels of the GPU that is here, measured into tables for the latency model `table`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.cli.exits import INTERRUPTED, OK
from servesim.cli.output import write, write_json
from servesim.errors import ServesimError

if TYPE_CHECKING:
    from servesim.catalog import ModelArchitecture
    from servesim.profiler import Plan, ProfileResult, Stopping
    from servesim.profiler.estimate import TableEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is to be profiled, by the options of the command."""

    model: str
    dtype: str | None
    tensor_parallel: str
    gpu: str | None
    max_tokens: int
    max_seqs: int
    max_context: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How it is measured."""

    attention: str | None
    precision: float
    budget_s: float
    load_s: float
    seed: int

    def stopping(self) -> Stopping:
        """Return when a row is known well enough."""
        from servesim.profiler import Stopping

        return Stopping(precision_ratio=self.precision, budget_s=self.budget_s)


def list_plan(subject: Subject, method: Method, *, as_json: bool) -> int:
    """Print what would be measured and how long it would take."""
    from servesim.catalog.gpus import gpu
    from servesim.profiler.estimate import default_attention, estimates, loads_s

    if subject.gpu is None:
        raise ServesimError(
            "--gpu: missing. expected the catalog's name of the GPU: --dry-run asks no device",
            hint="such as --gpu h100-sxm",
        )
    ranks, found = ranks_of(subject.tensor_parallel), gpu(subject.gpu)
    windows = _model(subject).sliding_layers > 0
    joint = (method.attention or default_attention(found, windows=windows)) != "sdpa"
    plan = _planned(subject, found, gpus=max(ranks), joint=joint, windows=joint)
    tables = estimates(plan, method.stopping())
    seconds = sum(table.seconds for table in tables) + loads_s(method.load_s)
    if as_json:
        facts = {"gpu": plan.gpu.name, "model": plan.model.name, "rows": len(plan.cases), "seconds": seconds}
        write_json({**facts, "tables": [asdict(table) for table in tables], "left_out": plan.left_out})
    else:
        write(_plan_text(plan, tables, method, seconds))
    return OK


def profile_gpu(subject: Subject, method: Method, *, out: Path | None, as_json: bool, quiet: bool) -> int:
    """Measure, and print what came of it."""
    from servesim.catalog.gpus import gpu
    from servesim.cli.progress import RowsProgress
    from servesim.profiler import profile
    from servesim.profiler.identify import check_gpu, gpu_of
    from servesim.profiler.torch_device import open_device

    stopping = method.stopping()
    windows = _model(subject).sliding_layers > 0
    if out is None:
        raise ServesimError("--out: missing. expected a folder for the tables, or --dry-run")
    with open_device(seed=method.seed, attention=method.attention, windows=windows) as device:
        facts = device.facts()
        found = gpu_of(facts) if subject.gpu is None else gpu(subject.gpu)
        check_gpu(facts, found)
        plan = _planned(subject, found, gpus=facts.gpus, joint=facts.joint_attention, windows=facts.windows)
        with RowsProgress(enabled=not quiet and sys.stderr.isatty()) as progress:
            try:
                result = profile(
                    plan,
                    device,
                    out,
                    stopping=stopping,
                    seed=method.seed,
                    load_s=method.load_s,
                    on_done=progress,
                )
            except KeyboardInterrupt:
                sys.stderr.write(f"interrupted: what is measured is in {out}; the same command goes on\n")
                return INTERRUPTED
    if as_json:
        write_json({**asdict(result), "path": str(result.path), "warnings": result.warnings})
    else:
        write(result_text(result))
    return OK


def ranks_of(text: str) -> list[int]:
    """Return degrees of tensor parallelism from ``1,2,4``."""
    try:
        found = sorted({int(each) for each in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise ServesimError(
            f"--tensor-parallel: no degrees (got {text!r}). expected whole numbers such as 1,2,4"
        )
    return found


def result_text(result: ProfileResult) -> str:
    """Return what ``servesim profile`` prints."""
    lines = [f"{result.rows:,} rows measured, {result.kept_rows:,} were there"]
    if result.clocks_mhz is not None:
        low, high = result.clocks_mhz
        lines.append(f"SM clock {low:,.0f} to {high:,.0f} MHz")
    if result.power_w:
        lines.append(
            "power: " + ", ".join(f"{state} {watts:,.0f} W" for state, watts in result.power_w.items())
        )
    if result.lasting_share:
        shares = ", ".join(f"{state} {share:.2f}" for state, share in result.lasting_share.items())
        lines.append(f"speed under a load that lasts, of that of its kernels alone: {shares}")
    lines += [f"not measured: {each}" for each in result.left_out]
    lines += [f"warning: {each}" for each in result.warnings]
    lines.append(f"written to {result.path}: latency: {{name: table, path: {result.path}}} takes it")
    return "\n".join(lines) + "\n"


def _model(subject: Subject) -> ModelArchitecture:
    from servesim.catalog import model

    return model(subject.model, dtype=subject.dtype)


def _planned(subject: Subject, found: Any, *, gpus: int, joint: bool, windows: bool = True) -> Plan:
    from servesim.profiler import Limits, plan_of

    return plan_of(
        _model(subject),
        found,
        ranks=ranks_of(subject.tensor_parallel),
        limits=Limits(
            tokens=subject.max_tokens, sequences=subject.max_seqs, context_tokens=subject.max_context
        ),
        gpus=gpus,
        joint_attention=joint,
        windows=windows,
    )


def _plan_text(plan: Plan, tables: Sequence[TableEstimate], method: Method, seconds: float) -> str:
    from rich.markup import escape
    from rich.table import Table

    from servesim.cli.summary import rendered

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("table", no_wrap=True)
    for heading in ("GPUs", "rows", "about"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("shapes")
    for each in tables:
        ranges = ", ".join(f"{name} {low:,} to {high:,}" for name, (low, high) in each.ranges.items())
        table.add_row(each.table, str(each.ranks), f"{each.rows:,}", _duration(each.seconds), ranges)
    head = f"[bold]{escape(plan.model.name)}[/bold] in {plan.model.dtype} on {plan.gpu.name}: "
    parts: list[Any] = [f"{head}{len(plan.cases):,} rows, about {_duration(seconds)}", "", table, ""]
    if method.load_s:
        states = "when idle, in prefill and in decode"
        parts.append(f"and power, clock and lasting speed {states}, {method.load_s:g} s each")
    parts += [f"not measured: {escape(each)}" for each in plan.left_out]
    return rendered(parts)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds >= 90 else f"{seconds:,.0f} s"
