"""Measure servesim's speed and memory against its bars, and print the table of the README.

    python benchmarks/speed.py [--quick] [--update]

Every run is a process of its own, measured from outside: wall time and peak memory include start-up. Of
several repetitions the fastest counts, since a shared machine only ever adds time; how fast it was is told by a
reference, the time of an empty Python function call, before and after. The number of engine steps and requests
of each run is asserted against `expected.json`, so that a speed-up cannot hide a change of behaviour;
``--update`` rewrites that file after a change that was meant. ``--quick`` leaves out the two long runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import timeit
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
EXPECTED = Path(__file__).with_name("expected.json")
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One whole-process run and its bars."""

    name: str
    arguments: tuple[str, ...]
    wall_s: float
    memory_mib: int | None = None
    repeats: int = 5
    long: bool = False
    saved: bool = False


CASES = (
    Case(
        "Azure conversation trace (19,366 requests), 1 replica",
        ("scenarios/azure_conv.yaml", "--set", "cluster.pools.main.replicas=1"),
        1.0,
    ),
    Case("100,000 requests at 40/s, 8 replicas", ("scenarios/poisson_8x.yaml",), 2.0, 300),
    Case(
        "1,000,000 requests at 320/s, 64 replicas", ("scenarios/poisson_64x.yaml",), 15.0, 1024, 2, long=True
    ),
    Case(
        "10,310,000 requests at 320/s, 64 replicas, saved to Parquet",
        ("scenarios/poisson_64x.yaml", "--set", "workload.generator.requests=10310000"),
        180.0,
        4096,
        1,
        long=True,
        saved=True,
    ),
)


def measure(arguments: list[str]) -> tuple[float, float, str]:
    """Run a command and return its wall time (s), its peak memory (MiB) and what it printed."""
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(arguments)}: exit code {process.returncode}")
        output.seek(0)
        return wall_s, usage.ru_maxrss * 1024 / MIB, output.read()


def run_case(case: Case) -> tuple[float, float, dict[str, int]]:
    """Return the least wall time and the largest peak memory of *case*, and its event counts."""
    walls, memories, counts = [], [], {}
    for _ in range(case.repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "servesim", "run", *case.arguments, "--json", "--quiet"]
            if case.saved:
                command += ["--out", str(Path(folder) / "result")]
            wall_s, memory_mib, text = measure(command)
        summary = json.loads(text)
        counts = {
            "requests_completed": summary["requests_completed"],
            "engine_steps": summary["engine_steps"],
        }
        walls.append(wall_s)
        memories.append(memory_mib)
    return min(walls), max(memories), counts


def reference_ns() -> float:
    """Return how long an empty function call takes, at best: a yardstick of the machine's present speed."""
    return min(timeit.repeat("f()", "def f(): pass", number=1_000_000, repeat=5)) * 1e3


def simulation_s(code: str) -> float:
    """Return the least CPU time of five simulations, each in the same process, without start-up."""
    program = (
        "import time, servesim\n"
        "from servesim.simulation import simulate\n"
        f"scenario = servesim.Scenario.model_validate({code})\n"
        "times = []\n"
        "for _ in range(5):\n"
        "    started = time.process_time()\n"
        "    simulate(scenario)\n"
        "    times.append(time.process_time() - started)\n"
        "print(min(times))\n"
    )
    return float(
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    )


def scenario(
    *, rate_per_s: float, requests: int, prompt: str, output: str, replicas: int, latency: str = "roofline"
) -> str:
    """Return the Python source of a scenario."""
    path = ", 'path': 'aiconfigurator'" if latency == "table" else ""
    return (
        "{'workload': {'generator': {'name': 'poisson', "
        f"'rate_per_s': {rate_per_s}, 'requests': {requests}, "
        f"'prompt_tokens': {prompt}, 'output_tokens': {output}}}}}, "
        "'cluster': {'pools': [{'name': 'main', 'model': 'llama-3.1-8b', 'gpu': 'h100-sxm', "
        f"'replicas': {replicas}, 'latency': {{'name': '{latency}'{path}}}}}]}}, "
        "'policies': {'router': {'name': 'least_requests'}}}"
    )


def lognormal(mean: int) -> str:
    """Return the source of a lognormal length distribution."""
    return f"{{'distribution': 'lognormal', 'mean': {mean}, 'sigma': 0.8}}"


def constant(value: int) -> str:
    """Return the source of a constant length."""
    return f"{{'distribution': 'constant', 'value': {value}}}"


def long_outputs_ratio() -> float:
    """Return the cost per request, outputs ten times as long at a tenth of the rate, over the plain cost."""
    ratios = []
    for _ in range(3):
        plain, long = (
            simulation_s(
                scenario(
                    rate_per_s=r, requests=20_000, prompt=lognormal(512), output=lognormal(o), replicas=8
                )
            )
            for r, o in ((40.0, 256), (4.0, 2560))
        )
        ratios.append(long / plain)
    return median(ratios)


def tables_ratio() -> float:
    """Return the cost per further request with operator tables, over that with the default: reading them costs once."""

    def further_s(latency: str) -> float:
        most, least = (
            simulation_s(
                scenario(
                    rate_per_s=40.0,
                    requests=requests,
                    prompt=lognormal(512),
                    output=lognormal(256),
                    replicas=8,
                    latency=latency,
                )
            )
            for requests in (40_000, 5_000)
        )
        return most - least

    return median(further_s("table") / further_s("roofline") for _ in range(3))


def long_prompt_in_short_ones() -> float:
    """Return what a 128,000-token prompt costs, in prompts of 512 tokens with the same output."""
    ratios = []
    for _ in range(3):
        long, short = (
            simulation_s(
                scenario(rate_per_s=r, requests=n, prompt=constant(p), output=constant(16), replicas=1)
            )
            / n
            for r, n, p in ((0.01, 500, 128_000), (5.0, 20_000, 512))
        )
        ratios.append(long / short)
    return median(ratios)


def main() -> int:
    """Run what was asked for, print the table and return 1 if a count is not what it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="leave out the runs of a million requests and more"
    )
    parser.add_argument("--update", action="store_true", help="rewrite expected.json")
    options = parser.parse_args()
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    rows, wrong = [], []
    before_ns = reference_ns()
    for case in CASES:
        if case.long and options.quick:
            continue
        wall_s, memory_mib, counts = run_case(case)
        memory_bar = "" if case.memory_mib is None else f", {case.memory_mib:,} MiB"
        rows.append((case.name, f"{case.wall_s:g} s{memory_bar}", f"{wall_s:.2f} s, {memory_mib:,.0f} MiB"))
        if options.update:
            expected[case.name] = counts
        elif counts != expected.get(case.name):
            wrong.append(f"{case.name}: counted {counts}, expected {expected.get(case.name)}")
        print(rows[-1], file=sys.stderr)
    version_s = min(measure([sys.executable, "-m", "servesim", "--version"])[0] for _ in range(5))
    rows.append(("`servesim --version`", "0.3 s", f"{version_s:.2f} s"))
    rows.append(
        (
            "cost per request, outputs 10 times longer at a tenth of the rate",
            "< +15 %",
            f"{long_outputs_ratio() - 1:+.0%}",
        )
    )
    rows.append(
        (
            "cost of a 128,000-token prompt",
            "<= 50 short ones",
            f"{long_prompt_in_short_ones():.1f} short ones",
        )
    )
    rows.append(
        ("cost per request with operator tables, over the default", "< +15 %", f"{tables_ratio() - 1:+.0%}")
    )
    print("| run | bar | measured |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(
        f"\nPython {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}; an empty function "
        f"call took {before_ns:.0f} ns before and {reference_ns():.0f} ns after the runs."
    )
    if options.update:
        EXPECTED.write_text(json.dumps(expected, indent=2) + "\n")
    for line in wrong:
        print(f"not the same simulation: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
