"""How many replicas does a load need, and how many do generators that know no clients say?

Six hours of a client pool at a tenth of its rates, on replicas of Llama-3.1-70B over four A100; p99 of the time to
first token at most 2 s. For each span of six hours the least number of replicas is searched for: for client-composed
load, for another seed of it, for two naive forms (the same rate per 600 s, one CV, shuffled lengths; and the same at
the mean rate), and for two forms between, which tell what drives the difference:

- ``shuffled``: the arrivals of the composed load, its lengths in random order;
- ``drifting``: the arrivals of the naive load, the composed load's lengths in their order in time.

``python benchmarks/provisioning.py --path POOL.trace.parquet --spans 40 51``; without a path, on the pool that ships.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import polars as pl

import servesim
from servesim.rng import stream
from servesim.servegen.compose import Span
from servesim.servegen.generator import Mode, ServeGen

SCENARIO = Path(__file__).resolve().parents[1] / "scenarios" / "servegen.yaml"
SIX_HOURS_S = 21_600
SLO = "ttft_s_p99<=2"
FORMS = ["clients", "other_seed", "naive", "naive_constant", "shuffled", "drifting"]


def requests(pool: Path | None, span: int, scale: float, mode: Mode, seed: int) -> pl.DataFrame:
    """Return the requests of one form of the load."""
    generator = ServeGen(
        pool=None if pool else "language",
        path=pool,
        span=Span(start_s=span * SIX_HOURS_S, end_s=(span + 1) * SIX_HOURS_S),
        scale=scale,
        mode=mode,
    )
    return pl.concat(list(generator.frames(seed))).drop("tenant")


def forms(pool: Path | None, span: int, scale: float) -> dict[str, pl.DataFrame]:
    """Return every form of the load."""
    composed = requests(pool, span, scale, "clients", 0)
    naive = requests(pool, span, scale, "naive", 0)
    order = stream(0, "shuffle").permutation(composed.height)
    lengths = composed.select("prompt_tokens", "output_tokens")
    rows = min(composed.height, naive.height)
    return {
        "clients": composed,
        "other_seed": requests(pool, span, scale, "clients", 1),
        "naive": naive,
        "naive_constant": requests(pool, span, scale, "naive_constant", 0),
        "shuffled": composed.select("arrival_s").hstack(lengths[order]),
        "drifting": naive.select("arrival_s").head(rows).hstack(lengths.head(rows)),
    }


def replicas(load: pl.DataFrame, folder: Path) -> int:
    """Return the least number of replicas that meets the objective."""
    file = folder / "load.parquet"
    load.write_parquet(file)
    found = servesim.capacity(
        SCENARIO,
        slo=[SLO],
        find="min-replicas",
        overrides=[f"workload={{source: {{reader: table, path: {file}}}}}"],
        seeds=1,
        workers=1,
    )
    return int(found.value)


def peak_tokens(pool: Path | None, span: int, scale: float, mode: Mode, seed: int) -> float:
    """Return the p99 over 10 s of the prompt tokens that arrive: what a cluster without queues must take."""
    load = requests(pool, span, scale, mode, seed)
    tokens = load.group_by((pl.col("arrival_s") // 10).cast(pl.Int64)).agg(pl.col("prompt_tokens").sum())
    counts = tokens["prompt_tokens"].extend_constant(0, SIX_HOURS_S // 10 - tokens.height)
    peak = counts.quantile(0.99, interpolation="linear")
    assert peak is not None, "there are requests"
    return peak


def print_peaks(pool: Path | None, spans: list[int], scale: float) -> None:
    """Print a row per span: by how much the peaks of other forms are below those of client-composed load."""
    for span in spans:
        composed = peak_tokens(pool, span, scale, "clients", 0)
        other = peak_tokens(pool, span, scale, "clients", 1)
        naive = [peak_tokens(pool, span, scale, mode, 0) for mode in ("naive", "naive_constant")]
        short = "  ".join(f"{1 - peak / composed:6.1%}" for peak in (other, *naive))
        print(f"span {span:2d}  other seed, naive, naive_constant short by {short}", flush=True)


def main() -> None:
    """Print a row per span: the replicas that each form needs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", type=Path, help="a released pool's trace")
    parser.add_argument("--spans", type=int, nargs="+", default=[2, 3, 40, 51])
    parser.add_argument("--forms", nargs="+", default=FORMS)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument(
        "--peaks", action="store_true", help="compare peaks of prompt tokens; nothing is simulated"
    )
    options = parser.parse_args()
    if options.peaks:
        print_peaks(options.path, options.spans, options.scale)
        return
    with tempfile.TemporaryDirectory() as folder:
        for span in options.spans:
            loads = forms(options.path, span, options.scale)
            found = {
                name: replicas(load, Path(folder)) for name, load in loads.items() if name in options.forms
            }
            rate = loads["clients"].height / SIX_HOURS_S
            row = "  ".join(f"{name} {number:3d}" for name, number in found.items())
            print(f"span {span:2d}  {rate:5.1f} requests/s  {row}", flush=True)


if __name__ == "__main__":
    main()
