"""Check files of traces: what they tell, what they refuse, and the reproductions that are among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from servesim.checks.report import CheckReport
from servesim.checks.run import check, prepare
from servesim.checks.trace_files import flat
from servesim.checks.trace_run import TraceCheck
from servesim.cli import main
from servesim.errors import ServesimError

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
SPEC = """
seed: 5
workload:
  generator: {name: poisson, rate_per_s: 10, requests: 400,
    prompt_tokens: {distribution: exponential, mean: 300},
    output_tokens: {distribution: exponential, mean: 40}}
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., CheckReport]:
    """Return a function that runs a check file; beside it are a trace of four requests and a description."""
    rows = "".join(
        f"2024-05-10 00:00:{second:02}.000000+00:00,{tokens},10\n"
        for second, tokens in ((1, 10), (2, 20), (4, 30), (8, 40))
    )
    (tmp_path / "four.csv").write_text(HEAD + rows, encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")

    def run(traces: str, expect: str, seeds: str = "1", workers: int = 1) -> CheckReport:
        path = tmp_path / "check.yaml"
        path.write_text(f"traces:\n{traces}\nseeds: {seeds}\nexpect:\n{expect}", encoding="utf-8")
        return check(path, workers=workers)

    return run


FOUR = "  four: {file: four.csv}"


def test_numbers_of_a_file(run: Callable[..., CheckReport]) -> None:
    """Four requests in 7 s; prompts of 25 tokens in the mean; nothing is random, so numbers are exact."""
    report = run(
        FOUR,
        "  - {kind: bound, metric: requests, at_least: 4, at_most: 4}\n"
        "  - {kind: bound, metric: span_s, at_least: 8}\n"
        "  - {kind: bound, metric: prompt_tokens.mean, at_least: 25, at_most: 25}\n"
        "  - {kind: bound, metric: findings.warning, at_most: 0}\n",
    )
    assert [verdict.outcome for verdict in report.verdicts] == ["passed", "failed", "passed", "passed"]
    assert [verdict.measured for verdict in report.verdicts] == ["4", "7", "25", "0"]
    assert not report.random
    assert not report.passed()


def test_a_distance_to_a_law(run: Callable[..., CheckReport]) -> None:
    """Gaps 1, 2, 4 against an exponential law of mean 2: F(1) = 0.393 before the first jump is the largest."""
    law = "{name: weibull, shape: 1, scale: 2}"
    report = run(FOUR, f"  - {{kind: ks, column: gap_s, law: {law}, at_most: 0.394, at_least: 0.393}}\n")
    assert report.passed(strict=True), report.verdicts
    assert report.verdicts[0].name == "KS of gap_s of four to weibull"


def test_two_files_apart(run: Callable[..., CheckReport]) -> None:
    """The numbers of ``servesim trace compare``: a trace is no distance from itself in another form."""
    report = run(
        FOUR + "\n  other: {file: four.csv, convert: [servesim]}",
        "  - {kind: distance, of: four, to: other, metric: distributions.gap_s.ks, at_most: 0}\n"
        "  - {kind: equal, of: four, to: other, metric: requests}\n"
        "  - {kind: ratio, of: four, to: other, metric: output_tokens.mean, at_least: 1, at_most: 1}\n"
        "  - {kind: identical, of: four, to: other}\n"
        "  - {kind: identical, of: four, to: other, same: false}\n",
    )
    outcomes = [verdict.outcome for verdict in report.verdicts]
    assert outcomes == ["passed", "passed", "passed", "failed", "passed"]


def test_there_and_back(run: Callable[..., CheckReport]) -> None:
    """Through servesim's Parquet a file is the same to the last byte; what a form cannot hold is refused."""
    back = FOUR + "\n  back: {file: four.csv, convert: [servesim, %s]}"
    expect = "  - {kind: identical, of: four, to: back}\n"
    assert run(back % "azure-2024", expect).passed()
    with pytest.raises(ServesimError, match=r"check.yaml: back: .*unknown form .got 'azure-2022'"):
        run(back % "azure-2022", expect)


def test_generated_files_have_seeds(run: Callable[..., CheckReport]) -> None:
    """From the description's own seed on, with an interval; worker processes give the same numbers and bytes."""
    traces = "  one: {generate: spec.yaml}\n  same: {generate: spec.yaml}\n" + FOUR
    traces += "\n  next: {generate: spec.yaml, set: {seed: 6}}"
    expect = (
        "  - {kind: bound, variant: one, metric: gap_cv, at_least: 0.8, at_most: 1.2}\n"
        "  - {kind: ks, variant: one, column: gap_s, law: {name: weibull, shape: 1, scale: 0.1}, at_most: 0.1}\n"
        "  - {kind: identical, of: one, to: same}\n"
        "  - {kind: identical, of: one, to: next, same: false}\n"
        "  - {kind: distance, of: four, to: one, metric: distributions.prompt_tokens.ks, at_least: 0.5}\n"
    )
    report = run(traces, expect, seeds="3")
    assert report.passed(strict=True), report.verdicts
    assert report.seeds == [5, 6, 7]
    assert report.random
    assert "[" in report.verdicts[0].measured
    assert run(traces, expect, seeds="3", workers=2).verdicts == report.verdicts
    assert run(traces, expect, seeds="[9, 4]").seeds == [9, 4]


def test_rows_of_tables_are_named_by_what_is_first_in_them(
    root: Path, run: Callable[..., CheckReport]
) -> None:
    """Lists of a log's page, and of a pool's."""
    report = run(
        f"  log: {{file: {root}/traces/huawei_cold_starts_sample.csv}}\n"
        f"  pool: {{file: {root}/traces/servegen_sample}}",
        "  - {kind: bound, variant: log, metric: tables.by_pool.pool22-300-128.cold_starts, at_least: 1}\n"
        "  - {kind: bound, variant: pool, metric: clients, at_least: 5, at_most: 5}\n",
    )
    assert report.passed(), report.verdicts
    rows = {"rows": [{"name": "a", "x": 1}, {"name": "b", "x": None}], "text": "c"}
    assert dict(flat(rows)) == {"rows.a.x": 1.0, "rows.b.x": None}


@pytest.mark.parametrize(
    ("traces", "expect", "message"),
    [
        ("  a: {}", "{kind: bound, metric: x, at_most: 1}", "traces.a: file and generate .got neither"),
        ("  a: {file: four.csv, to: servesim}", "{kind: bound, metric: x, at_most: 1}", "with generate only"),
        (
            FOUR,
            "{kind: bound, metric: requets, at_most: 1}",
            "check.yaml: four: unknown metric .got 'requets'",
        ),
        (FOUR, "{kind: bound, metric: sessions, at_most: 1}", "no value .got 'sessions'"),
        (FOUR, "{kind: bound, variant: for, metric: x, at_most: 1}", "unknown trace .got 'for'"),
        (FOUR, "{kind: trend, metric: requests, direction: increasing}", "a trend along one .got four"),
        (FOUR, "{kind: no_regression, metric: x}", "expected one of bound, ratio, trend, equal, ks"),
        (FOUR, "{kind: ks, column: gap_s, at_most: 1}", "law and points .got neither"),
        (FOUR, "{kind: ks, column: gaps, law: {name: gamma, shape: 1, scale: 1}, at_most: 1}", "'gaps'"),
        (FOUR + "\n  b: {file: four.csv}", "{kind: bound, metric: x, at_most: 1}", "which trace"),
        ("  a: {file: none.csv}", "{kind: bound, metric: x, at_most: 1}", "check.yaml: a: .*no such file"),
        ("  a: {generate: none.yaml}", "{kind: bound, metric: x, at_most: 1}", "no such file"),
        (
            FOUR,
            "{kind: distance, of: four, to: four, metric: ks, at_most: 1}",
            "servesim trace compare --json",
        ),
    ],
)
def test_what_is_refused(run: Callable[..., CheckReport], traces: str, expect: str, message: str) -> None:
    """With the place in the file, or the trace."""
    with pytest.raises(ServesimError, match=message):
        run(traces, f"  - {expect}\n")


def test_objects_are_for_simulations(tmp_path: Path) -> None:
    """A policy has no place in a check of traces."""
    path = tmp_path / "check.yaml"
    path.write_text(f"traces:\n{FOUR}\nexpect: [{{kind: bound, metric: x, at_most: 1}}]", encoding="utf-8")
    with pytest.raises(ServesimError, match=r"a check of traces .got objects four"):
        check(path, objects={"four": {"router": object()}})


def test_reproductions_are_ready_to_run(root: Path, shared: Callable[[str], Path]) -> None:
    """All files in scenarios/reproductions are read, and what they name is there."""
    shared("traces/README.md")
    found = {
        path.stem: prepare(path, objects={}) for path in (root / "scenarios/reproductions").glob("*.yaml")
    }
    traces = {name for name, each in found.items() if isinstance(each, TraceCheck)}
    assert traces == {"burstgpt", "client_pools", "cold_starts", "round_trips"}


def test_round_trips(root: Path, shared: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Native files come back to the last byte, and what is generated depends on the seed alone."""
    shared("traces/README.md")
    path = root / "scenarios" / "reproductions" / "round_trips.yaml"
    assert main(["check", str(path), "--workers", "1", "--strict"]) == 0
    assert "15 passed: passed" in capsys.readouterr().out
