"""Measure what experiments cost against their bars: a comparison, what a sweep adds to its runs, a large report.

    python benchmarks/experiments.py

Whole processes, as in `speed.py`. A sweep's overhead per point is the slope between two sweeps of different size, so
that start-up falls out, times the workers, less the time of the same run by itself. The requests of every run are
counted, so that a speed-up cannot hide a change of behaviour.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
from speed import ROOT, measure, reference_ns

SERVESIM = [sys.executable, "-m", "servesim"]
WORKERS = 2
SMALL, LARGE = 40, 240
"""Points of the two sweeps."""
COMPARED_REQUESTS, SWEPT_REQUESTS, REPORTED_REQUESTS = 776_280, 80_075, 1_000_000
"""Requests of the comparison's 40 runs, of the first `SMALL` points of a sweep, and of the run in the report."""


def compare_s() -> float:
    """Return the time of 4 routers x 10 resampled seeds of the Azure conversation trace over 4 replicas."""
    wall_s, _, text = measure(
        [
            *SERVESIM,
            *("compare", "scenarios/azure_conv.yaml", "--seeds", "10", "--json", "--quiet"),
            *("--vary", "policies.router.name=round_robin,random,power_of_two,least_requests"),
            *("--set", "workload.resample.block_s=60", "--workers", str(WORKERS)),
            *("--metric", "requests_completed", "--metric", "ttft_s_p99"),
        ]
    )
    values = json.loads(text)["values"]
    assert len(values) == 40
    assert sum(row["requests_completed"] for row in values) == COMPARED_REQUESTS
    return wall_s


def sweep_s(folder: Path, points: int) -> float:
    """Return the time of a sweep over *points* seeds of the quickstart."""
    file, out = folder / f"{points}.yaml", folder / f"{points}.parquet"
    scenario = json.dumps(str(ROOT / "scenarios" / "quickstart.yaml"))
    file.write_text(
        f"scenario: {scenario}\nset: {{workload.resample.block_s: 20}}\nseeds: {points}\npoints: [{{}}]\n"
    )
    wall_s, _, _ = measure(
        [*SERVESIM, "sweep", str(file), "--out", str(out), "--quiet", "--workers", str(WORKERS)]
    )
    rows = pl.read_parquet(out)
    assert rows.height == points and rows["error"].null_count() == points
    assert rows.head(SMALL)["requests_completed"].sum() == SWEPT_REQUESTS
    return wall_s


def run_alone_s() -> float:
    """Return the mean time of a run of the quickstart in a process that has done some before."""
    program = (
        "import time, servesim\n"
        "from servesim.simulation import simulate\n"
        "load = lambda seed: servesim.load_scenario('scenarios/quickstart.yaml', "
        "overrides=['workload.resample.block_s=20', f'seed={seed}'])\n"
        "scenarios = [load(seed) for seed in range(45)]\n"
        "for scenario in scenarios[:5]: simulate(scenario)\n"
        "started = time.perf_counter()\n"
        "for scenario in scenarios[5:]: simulate(scenario)\n"
        "print((time.perf_counter() - started) / 40)\n"
    )
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}  # as in the workers
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def report(folder: Path) -> tuple[float, float, float]:
    """Return time (s), peak memory (MiB) and size (MB) of the report of 1,000,000 requests over 64 replicas."""
    run, page = folder / "million", folder / "report.html"
    measure([*SERVESIM, "run", "scenarios/poisson_64x.yaml", "--quiet", "--out", str(run)])
    walls, memories = [], []
    for _ in range(3):
        wall_s, memory_mib, _ = measure([*SERVESIM, "report", str(run), "-o", str(page)])
        walls.append(wall_s)
        memories.append(memory_mib)
    assert (
        f'data-key="requests_completed" title="requests_completed = {REPORTED_REQUESTS}"' in page.read_text()
    )
    return min(walls), max(memories), page.stat().st_size / 1e6


def main() -> None:
    """Measure and print the table."""
    before_ns = reference_ns()
    rows = [
        (
            "compare: 4 routers x 10 resampled seeds of the Azure trace, 4 replicas",
            "20 s",
            f"{compare_s():.1f} s",
        )
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slope_s = (sweep_s(folder, LARGE) - sweep_s(folder, SMALL)) / (LARGE - SMALL)
        report_s, report_mib, report_mb = report(folder)
    alone_s = run_alone_s()
    overhead_ms = (slope_s * WORKERS - alone_s) * 1e3
    rows.append(
        (
            f"sweep: overhead per point beyond its run of {alone_s * 1e3:.0f} ms, {WORKERS} workers",
            "20 ms",
            f"{overhead_ms:.1f} ms",
        )
    )
    rows.append(
        (
            "report of 1,000,000 requests over 64 replicas",
            "10 s, 5 MB",
            f"{report_s:.1f} s, {report_mib:,.0f} MiB, {report_mb:.1f} MB",
        )
    )
    print("| what | bar | measured |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(
        f"\nPython {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}; an empty function "
        f"call took {before_ns:.0f} ns before and {reference_ns():.0f} ns after the runs."
    )


if __name__ == "__main__":
    main()
