"""Write docs/accuracy.md, its figures and servesim/results/error_bands.json from the measurements in ../shared.

python scripts/generate_accuracy.py [--check] [--every N]

All measured runs are replayed, which takes about three minutes on one core. With ``--check``, nothing is written: what
is out of date is said. With ``--every N``, only each N-th closed-loop point is replayed and the page goes to stdout: a
quick look.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from servesim.catalog import gpu as find_gpu
from servesim.catalog import model as find_model
from servesim.latency import LATENCY_MODELS
from servesim.measurements import MeasuredRun, read_measured
from servesim.measurements.silicon import OTHER_HARNESS
from servesim.results.error_bands import model_class
from servesim.rng import stream
from servesim.scenario.schema import PoolSpec
from servesim.validation import ValidationResult, validate
from servesim.validation.deployment import pool_of
from servesim.validation.splits import SWEEP_BATCHES, configuration_split, sweep_split

ROOT = Path(__file__).resolve().parents[1]
CALIBRATION = ROOT.parent / "shared" / "calibration"
LOGS = CALIBRATION / "vllm_requests" / "RTXPRO6000"
PROFILES = CALIBRATION / "operator_tables" / "layer_profiles" / "profile_v1" / "RTXPRO6000"
SWEEP = CALIBRATION / "batch_curves" / "vllm_h100_64gb_batch_sweep.parquet"
POINTS = CALIBRATION / "batch_curves" / "silicon_e2e_h200_b200.parquet"

PAGE = ROOT / "docs" / "accuracy.md"
SWEEP_HOSTS = ROOT / "scripts" / "sweep_hosts.json"
FRONT_END = ROOT / "scripts" / "front_end.json"
BANDS = ROOT / "servesim" / "results" / "error_bands.json"
FIGURES = ROOT / "docs" / "img"

FITTED_LOGS = ("Llama-3.1-8B",)
"""Logs that host costs in servesim/catalog/engines.toml were fitted to."""

SATURATED_BATCH = 256

TABLE_RUNS, TABLE_SEED = 60, 0
"""How many closed loops are replayed with operator tables, too, and the seed that draws them: reading the tables takes
longer than the run."""

OPERATOR_TABLES = "cluster.pools.main.latency={name: table, path: aiconfigurator}"
DEFAULT = PoolSpec.model_fields["latency"].default.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Validations:
    """The validations that the page tells of."""

    table: ValidationResult
    logs: ValidationResult
    sweep: ValidationResult
    calibrated: ValidationResult
    points: ValidationResult
    operators: ValidationResult


def validations(every: int = 1) -> Validations:
    """Replay the measured runs; of the closed-loop points each *every*-th."""
    logs, sweep, points = read_measured(LOGS), read_measured(SWEEP), read_measured(POINTS)[::every]
    fitted = [run.name for run in sweep if sweep_split(run) == "fitted"]
    loops = validate(points, fitted=[run.name for run in points if configuration_split(run) == "fitted"])
    drawn = set(drawn_runs(loops))
    return Validations(
        table=_joined(
            [validate([run], overrides=[_table(run)], fitted=_fitted([run], FITTED_LOGS)) for run in logs]
        ),
        logs=validate(logs, fitted=FITTED_LOGS),
        sweep=validate(sweep, fitted=fitted),
        calibrated=_joined(
            [validate([run], overrides=_host(run), fitted=_fitted([run], tuple(fitted))) for run in sweep]
        ),
        points=loops,
        operators=validate([run for run in points if run.name in drawn], overrides=[OPERATOR_TABLES]),
    )


def drawn_runs(points: ValidationResult) -> list[str]:
    """Return the names of the closed loops that are replayed with operator tables: some of those that are judged."""
    names = sorted(points.runs.filter(JUDGED, SAME_HARNESS, pl.col("left_out").is_null())["run"])
    drawn = stream(TABLE_SEED, "accuracy.operators").choice(
        len(names), min(TABLE_RUNS, len(names)), replace=False
    )
    return [names[index] for index in sorted(drawn)]


def _table(run: MeasuredRun) -> str:
    folder = PROFILES / str(run.deployment.model) / str(run.deployment.dtype)
    return f"cluster.pools.main.latency={{name: table, path: {json.dumps(str(folder))}}}"


def _host(run: MeasuredRun) -> list[str]:
    """Return what scripts/fit_sweep_hosts.py fitted to three batches of the run's model."""
    fitted = json.loads(SWEEP_HOSTS.read_text(encoding="utf-8"))[str(run.deployment.model)]["parameters"]
    return [f"cluster.pools.main.{key}={each['value']!r}" for key, each in fitted.items()]


def _fitted(runs: list[MeasuredRun], names: tuple[str, ...]) -> list[str]:
    return [run.name for run in runs if run.name in names]


def _joined(results: list[ValidationResult]) -> ValidationResult:
    def stacked(name: str) -> pl.DataFrame:
        frames: list[pl.DataFrame] = [getattr(result, name) for result in results]
        return pl.concat(frames)

    singles = results[0].requests is not None

    return ValidationResult(
        runs=stacked("runs"),
        metrics=stacked("metrics"),
        requests=stacked("requests") if singles else None,
        series=stacked("series") if singles else None,
    )


# -- numbers -------------------------------------------------------------------------------------------------------


def errors(result: ValidationResult, metric: str, *conditions: pl.Expr) -> pl.Series:
    """Return the errors of *metric* over the runs that *conditions* hold for, columns being those of the runs."""
    runs = result.runs.filter(*conditions) if conditions else result.runs
    rows = result.metrics.filter(pl.col("metric") == metric)
    return rows.join(runs, on="run", maintain_order="left")["error"]


HELD_OUT = pl.col("split") == "held out"
UNSATURATED = ~pl.col("saturated_measured")
JUDGED = HELD_OUT & UNSATURATED
SAME_HARNESS = pl.col("engine_version").fill_null("") != OTHER_HARNESS
BATCH = pl.col("run").str.extract(r"batch (\d+)$").cast(pl.Int64)


def percent(value: float, *, sign: bool = False) -> str:
    """Return a ratio as a percentage with one digit, fewer where it is large."""
    digits = 0 if abs(value) >= 0.995 else 1
    return f"{100 * value:{'+' if sign else ''}z.{digits}f} %"


def mean(values: pl.Series) -> float:
    """Return the mean magnitude."""
    return float(values.abs().mean())  # type: ignore[arg-type]


def median(values: pl.Series) -> float:
    """Return the median magnitude."""
    return float(values.abs().median())  # type: ignore[arg-type]


def largest(values: pl.Series) -> float:
    """Return the largest magnitude."""
    return float(values.abs().max())  # type: ignore[arg-type]


def bias(values: pl.Series) -> float:
    """Return the median with its sign."""
    return float(values.median())  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A line of the table of bars."""

    case: str
    runs: int
    quantity: str
    most: float
    got: float

    @property
    def line(self) -> str:
        """The line in Markdown."""
        met = "met" if self.got <= self.most else "**not met**"
        return _line(self.case, self.runs, self.quantity, f"{100 * self.most:.0f} %", percent(self.got), met)


def bars(found: Validations) -> list[Bar]:
    """Return the bars of the first table."""
    return [
        *_log_bars(found.table),
        *_sweep_bars(found.calibrated),
        *_point_bars(found.points),
        *_default_bars(found),
        *_saturated_bars(found),
    ]


def _log_bars(table: ValidationResult) -> list[Bar]:
    run = table.runs.filter(HELD_OUT).row(0, named=True)
    case = f"request log, profiled: {run['run']} on {run['tensor_parallel']} RTX PRO 6000, `table`"
    ttft = mean(errors(table, "ttft_s_mean", HELD_OUT))
    values = (
        ("TPOT of a request, mean", 0.02, run["tpot_s_mape"]),
        ("E2E of a request, mean", 0.02, run["e2e_s_mape"]),
        ("mean TTFT", 0.06, ttft),
        ("running requests each second", 0.05, run["running_requests_error"]),
        ("waiting requests each second", 0.05, run["waiting_requests_error"]),
    )
    return [Bar(case=case, runs=1, quantity=name, most=most, got=got) for name, most, got in values]


def _sweep_bars(sweep: ValidationResult) -> list[Bar]:
    """Return the bars of the sweep with a host that was fitted to batches 1, 16 and 128 of each model."""
    lines = []
    for name, metric in (("ITL", "itl_s_mean"), ("output throughput", "output_tokens_per_s")):
        found = errors(sweep, metric, HELD_OUT)
        for what, most, got in (("mean", 0.06, mean(found)), ("largest", 0.15, largest(found))):
            case = f"batch sweep, H100 64 GB, four models, `{DEFAULT}`, host fitted"
            lines.append(Bar(case=case, runs=len(found), quantity=f"{name}, {what}", most=most, got=got))
    return lines


def _point_bars(points: ValidationResult) -> list[Bar]:
    lines = []
    for case, judged in (
        (f"closed loops below saturation, H200 and B200, `{DEFAULT}`", (JUDGED,)),
        ("of these, those of InferenceX's harness", (JUDGED, SAME_HARNESS)),
    ):
        for name, metric, most in (("TPOT", "tpot_s_mean", 0.08), ("TTFT", "ttft_s_mean", 0.15)):
            found = errors(points, metric, *judged)
            quantity = f"mean {name}, median"
            lines.append(Bar(case=case, runs=len(found), quantity=quantity, most=most, got=median(found)))
    return lines


def _default_bars(found: Validations) -> list[Bar]:
    lines = []
    for case, judged in (
        (f"general default, all runs above: `{DEFAULT}`", (JUDGED,)),
        ("the same without the other harness", (JUDGED, SAME_HARNESS)),
    ):
        for name, metric, most in (("TPOT", "tpot_s_mean", 0.10), ("TTFT", "ttft_s_mean", 0.15)):
            of_logs, of_sweep = errors(found.logs, metric, HELD_OUT), errors(found.sweep, metric)
            told = pl.concat([of_logs, of_sweep, errors(found.points, metric, *judged)])
            quantity = f"mean {name}, mean"
            lines.append(Bar(case=case, runs=len(told), quantity=quantity, most=most, got=mean(told)))
    return lines


def _saturated_bars(found: Validations) -> list[Bar]:
    metric = "output_tokens_per_s"
    log = errors(found.table, metric, HELD_OUT)
    large = errors(found.calibrated, metric, HELD_OUT, BATCH >= SATURATED_BATCH)
    return [
        Bar(
            case="saturated throughput: request log, `table`",
            runs=len(log),
            quantity="output tokens/s",
            most=0.06,
            got=mean(log),
        ),
        Bar(
            case=f"saturated throughput: sweep from batch {SATURATED_BATCH}, `{DEFAULT}`, host fitted",
            runs=len(large),
            quantity="output tokens/s, mean",
            most=0.06,
            got=mean(large),
        ),
    ]


# -- the page ------------------------------------------------------------------------------------------------------


def page(found: Validations) -> str:
    """Return the page in Markdown."""
    template = (ROOT / "docs" / "accuracy.md.in").read_text(encoding="utf-8")
    parts = {
        "bars": _table_of(
            ("case", "runs", "error of", "bar", "measured", ""),
            [bar.line for bar in bars(found)],
            right=(1, 3, 4),
        ),
        "logs_table": _logs_table(found.table),
        "logs_default": _logs_table(found.logs),
        "sweep": _sweep_table(found.calibrated),
        "points": _points_table(found.points),
        "concurrency": _concurrency_table(found.points),
        "operators": _operators_table(found),
        "left_out": _left_out(found.points),
        "one_left_out": _one_left_out(),
        **_facts(found),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _table_of(headings: tuple[str, ...], lines: list[str], right: tuple[int, ...]) -> str:
    rule = "|".join(" ---: " if index in right else " --- " for index in range(len(headings)))
    return "\n".join([f"| {' | '.join(headings)} |", f"|{rule}|", *lines])


def _logs_table(result: ValidationResult) -> str:
    lines = []
    for run in result.runs.iter_rows(named=True):
        values = {
            row["metric"]: row
            for row in result.metrics.filter(pl.col("run") == run["run"]).iter_rows(named=True)
        }
        cells = [
            percent(values[metric]["error"], sign=True)
            for metric in (
                "ttft_s_mean",
                "ttft_s_p99",
                "tpot_s_mean",
                "tpot_s_p99",
                "e2e_s_mean",
                "e2e_s_p99",
                "output_tokens_per_s",
            )
        ]
        cells += [percent(run[name]) for name in ("running_requests_error", "waiting_requests_error")]
        lines.append(f"| {run['run']} | {run['split']} | {' | '.join(cells)} |")
    headings = (
        *("run", "", "TTFT mean", "p99", "TPOT mean", "p99", "E2E mean", "p99"),
        *("output tokens/s", "running", "waiting"),
    )
    return _table_of(headings, lines, right=tuple(range(2, 11)))


def _sweep_table(sweep: ValidationResult) -> str:
    lines = []
    for model in sorted(set(sweep.runs["model"])):
        for split in ("fitted", "held out"):
            of = (pl.col("model") == model, pl.col("split") == split)
            itl, rate = errors(sweep, "itl_s_mean", *of), errors(sweep, "output_tokens_per_s", *of)
            cells = [
                percent(bias(itl), sign=True),
                *map(percent, (mean(itl), largest(itl), mean(rate), largest(rate))),
            ]
            lines.append(f"| {model} | {split} | {len(itl)} | {' | '.join(cells)} |")
    headings = ("model", "", "runs", "ITL median", "mean", "largest", "output tokens/s mean", "largest")
    return _table_of(headings, lines, right=tuple(range(2, 8)))


def _points_table(points: ValidationResult) -> str:
    groups = (
        points.runs.filter(pl.col("left_out").is_null())
        .select("model", "gpu", "dtype")
        .unique()
        .sort("model", "gpu", "dtype")
    )
    lines = []
    for model, gpu, dtype in groups.iter_rows():
        of = (pl.col("model") == model, pl.col("gpu") == gpu, pl.col("dtype").eq_missing(dtype))
        below = [errors(points, metric, *of, JUDGED) for metric in ("tpot_s_mean", "ttft_s_mean")]
        beyond = errors(points, "tpot_s_mean", *of, HELD_OUT, ~UNSATURATED)
        cells = [
            text
            for values in below
            for text in (percent(bias(values), sign=True), percent(median(values)), percent(_p90(values)))
        ]
        short = model.rpartition("/")[2]
        lines.append(_line(short, gpu, dtype or "as published", len(below[0]), *cells, len(beyond) or "-"))
    headings = (
        *(
            "model",
            "GPU",
            "format",
            "runs",
            "TPOT median",
            "magnitude",
            "p90",
            "TTFT median",
            "magnitude",
            "p90",
        ),
        "beyond saturation",
    )
    return _table_of(headings, lines, right=tuple(range(3, 11)))


def _p90(values: pl.Series) -> float:
    return float(values.abs().quantile(0.9, interpolation="linear"))  # type: ignore[arg-type]


def _concurrency_table(points: ValidationResult) -> str:
    lines = []
    for low, high in ((1, 8), (9, 32), (33, 128), (129, 1024)):
        of = (pl.col("max_concurrency").is_between(low, high), JUDGED, SAME_HARNESS)
        values = [errors(points, metric, *of) for metric in ("tpot_s_mean", "ttft_s_mean")]
        cells = [text for each in values for text in (percent(bias(each), sign=True), percent(median(each)))]
        lines.append(f"| {low} to {high} | {len(values[0])} | {' | '.join(cells)} |")
    return _table_of(
        ("concurrency", "runs", "TPOT median", "magnitude", "TTFT median", "magnitude"),
        lines,
        right=tuple(range(1, 6)),
    )


def _operators_table(found: Validations) -> str:
    """Return the errors with operator tables beside those of the default on the same runs."""
    lines = []
    for case, moe in (("dense", False), ("mixtures of experts", True), ("all", None)):
        names = [
            row["run"]
            for row in found.operators.runs.filter(pl.col("left_out").is_null()).iter_rows(named=True)
            if moe in (None, _has_experts(row["model"], row["gpu"]))
        ]
        for latency, result in (("table", found.operators), (DEFAULT, found.points)):
            values = [
                errors(result, metric, pl.col("run").is_in(names))
                for metric in ("tpot_s_mean", "ttft_s_mean")
            ]
            cells = [
                text
                for each in values
                for text in (percent(bias(each), sign=True), *map(percent, (median(each), mean(each))))
            ]
            lines.append(_line(case, f"`{latency}`", len(values[0]), *cells))
    headings = (
        *("models", "latency model", "runs"),
        *("TPOT median", "magnitude", "mean", "TTFT median", "magnitude", "mean"),
    )
    return _table_of(headings, lines, right=tuple(range(2, 9)))


def _has_experts(model: str, gpu: str) -> bool:
    return _served(model, gpu)[1] == model_class(moe=True)


def _one_left_out() -> str:
    """Return what scripts/fit_front_end.py found without each model and each GPU, on what it had left out."""
    fit = json.loads(FRONT_END.read_text(encoding="utf-8"))
    lines = []
    for each in fit["left_out"]:
        eager_s, stream_s, share = each["parameters"].values()
        cells = [
            text
            for metric in ("tpot_s_mean", "ttft_s_mean")
            for text in (
                percent(each[metric]["bias"], sign=True),
                *map(percent, (each[metric]["median"], each[metric]["mean"])),
            )
        ]
        name = each["name"].rpartition("/")[2]
        values = (f"{eager_s * 1e6:g} us", f"{stream_s * 1e3:g} ms", f"{share:g}")
        lines.append(_line(name, *values, each["runs"], *cells))
    headings = (
        *("left out", "experts", "stream", "lasting share", "runs", "TPOT median", "magnitude", "mean"),
        *("TTFT median", "magnitude", "mean"),
    )
    return _table_of(headings, lines, right=tuple(range(1, 11)))


def _left_out(points: ValidationResult) -> str:
    counts = points.runs["left_out"].drop_nulls().value_counts().sort("left_out")
    return "\n".join(f"- {count} closed loops: {reason}" for reason, count in counts.iter_rows()) or "- none"


def _facts(found: Validations) -> dict[str, str]:
    """Return single numbers that sentences of the page quote."""
    points, sweep = found.points, found.sweep
    small = errors(sweep, "itl_s_mean", BATCH <= 32, pl.col("model").str.starts_with("opt"))
    large = errors(sweep, "itl_s_mean", BATCH >= SATURATED_BATCH, pl.col("model").str.starts_with("llama"))
    full = (HELD_OUT, BATCH > SATURATED_BATCH, pl.col("model") == "opt-1.3b")
    other = (HELD_OUT, ~SAME_HARNESS, pl.col("model").str.contains("8B"))
    return {
        "points_runs": str(points.runs.height),
        "table_seed": str(TABLE_SEED),
        "eager_factor": _eager_factor(),
        "fitted_batches": ", ".join(map(str, SWEEP_BATCHES)),
        "small_opt": percent(bias(small), sign=True),
        "large_llama": percent(bias(large), sign=True),
        "large_opt": percent(bias(errors(found.calibrated, "itl_s_mean", *full)), sign=True),
        "other_runs": str(len(errors(points, "tpot_s_mean", *other))),
        "other_tpot": percent(bias(errors(points, "tpot_s_mean", *other)), sign=True),
        "other_ttft": percent(bias(errors(points, "ttft_s_mean", *other)), sign=True),
        "moe_tpot": percent(
            bias(errors(points, "tpot_s_mean", JUDGED, ~pl.col("model").str.contains("Llama"))),
            sign=True,
        ),
        "dense_tpot": percent(
            bias(errors(points, "tpot_s_mean", JUDGED, SAME_HARNESS, pl.col("model").str.contains("Llama"))),
            sign=True,
        ),
        "saturated_wrong": _saturation(points),
    }


def _eager_factor() -> str:
    """Return how far the interval of the experts' start reaches, as a factor around its middle."""
    eager = json.loads(FRONT_END.read_text(encoding="utf-8"))["parameters"]["engine.host.eager_experts_s"]
    return f"{math.sqrt(eager['high'] / eager['low']):.1f}"


def _saturation(points: ValidationResult) -> str:
    runs = points.runs.filter(HELD_OUT, pl.col("saturated_measured"))
    early = errors(points, "ttft_s_mean", HELD_OUT, pl.col("saturated_measured"))
    return (
        f"{runs.height} runs, of which the median mean TTFT is {bias(early) + 1:.2g} times what was measured"
    )


# -- bands ---------------------------------------------------------------------------------------------------------


def bands(found: Validations) -> dict[str, Any]:
    """Return the expected errors by latency model, GPU and kind of model, over runs that nothing was fitted to."""
    entries = []
    for latency, results in (
        ("table", [(found.table, (HELD_OUT,))]),
        (
            DEFAULT,
            [(found.logs, (HELD_OUT,)), (found.sweep, ()), (found.points, (JUDGED, SAME_HARNESS))],
        ),
    ):
        for result, conditions in results:
            entries += _bands_of(latency, result, conditions)
    return {"written_by": "scripts/generate_accuracy.py", "bands": entries}


def _bands_of(
    latency: str, result: ValidationResult, conditions: tuple[pl.Expr, ...]
) -> list[dict[str, Any]]:
    runs = result.runs.filter(pl.col("left_out").is_null(), *conditions)
    groups: dict[tuple[str, str], list[str]] = {}
    for row in runs.iter_rows(named=True):
        served = _served(row["model"], row["gpu"])
        groups.setdefault(served, []).append(row["run"])
    return [_band(latency, result, gpu, kind, names) for (gpu, kind), names in sorted(groups.items())]


def _served(model: str, gpu: str) -> tuple[str, str]:
    from servesim.measurements import Deployment

    pool = pool_of(Deployment(model=model, gpu=gpu))
    return pool["gpu"], model_class(moe=find_model(pool["model"]).moe is not None)


def _band(latency: str, result: ValidationResult, gpu: str, kind: str, names: list[str]) -> dict[str, Any]:
    of = pl.col("run").is_in(names)
    parameters = {
        name: field.get_default()
        for name, field in LATENCY_MODELS.parameters(latency).model_fields.items()
        if name != "path"
    }
    band: dict[str, Any] = {
        "latency": {"name": latency, **parameters},
        "gpu": gpu,
        # Tables are those of one GPU, and say nothing about another.
        "generation": None if latency == "table" else find_gpu(gpu).generation,
        "data": "layer profiles of LLMServingSim" if latency == "table" else None,
        "model_class": kind,
        "engine": "vllm",
        "runs": len(names),
    }
    for name in ("ttft_s", "tpot_s"):
        values = errors(result, f"{name}_mean", of)
        band[name] = {"median": _rounded(median(values)), "p90": _rounded(_p90(values))}
    return band


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


# -- files ---------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def alike(one: str, other: str) -> bool:
    """Return whether two texts are equal but for the last digit of numbers, which rounding may change."""
    if _NUMBER.sub("#", one) != _NUMBER.sub("#", other):
        return False
    pairs = zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=0.02, abs_tol=0.11) for a, b in pairs)


def stale_files(found: Validations) -> dict[Path, str]:
    """Return the files that do not say what the measurements say, with what they should say."""
    wanted = {PAGE: page(found), BANDS: json.dumps(bands(found), indent=1) + "\n"}
    return {
        path: text
        for path, text in wanted.items()
        if not path.is_file() or not alike(path.read_text(encoding="utf-8"), text)
    }


def write_figures(found: Validations) -> None:
    """Draw the figures of the page."""
    figures = {
        "accuracy_log": found.table.plot.series(found.table.runs.filter(HELD_OUT)["run"][0]),
        "accuracy_sweep": found.calibrated.plot.scatter("itl_s_mean"),
        "accuracy_points_tpot": found.points.plot.scatter("tpot_s_mean"),
        "accuracy_points_ttft": found.points.plot.scatter("ttft_s_mean"),
    }
    for name, figure in figures.items():
        figure.savefig(FIGURES / f"{name}.png", dpi=90, metadata={"Software": None})


def main(arguments: list[str]) -> int:
    """Write or check the files; return 1 if one is stale and was to be checked only."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args(arguments)
    found = validations(options.every)
    if options.every > 1:
        print(page(found))
        return 0
    stale = stale_files(found)
    for path, text in stale.items():
        name = path.relative_to(ROOT).as_posix()
        if options.check:
            print(f"{name} is out of date. expected: python scripts/generate_accuracy.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    if not options.check:
        write_figures(found)
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
