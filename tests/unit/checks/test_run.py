"""Check files from YAML to exit code: what is refused, baselines, reports, the pytest fixture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml

import servesim
from servesim.checks.output import junit_text, markdown_text
from servesim.checks.run import check
from servesim.cli import main
from servesim.errors import ServesimError

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = """
name: small
workload:
  generator: {name: poisson, rate_per_s: 20, requests: 40,
    prompt_tokens: {distribution: exponential, mean: 300},
    output_tokens: {distribution: exponential, mean: 40}}
cluster:
  pools:
    - {name: main, model: llama-3.1-8b, gpu: h100-sxm, replicas: 2,
       latency: {name: linear, base_s: 0.01, per_sequence_s: 0.002}}
"""
CHECK = """
scenario: small.yaml
seeds: 4
variants:
  slow: {cluster.pools.main.latency.base_s: 0.02}
  fast: {}
baseline: base.json
expect:
  - {kind: bound, variant: fast, metric: requests_rejected, at_most: 0}
  - {kind: ratio, metric: tpot_s_p50, of: slow, to: fast, at_least: 1.2, at_most: 2.5}
  - {kind: no_regression, variant: fast, metric: e2e_s_p99}
"""


@pytest.fixture
def check_file(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SCENARIO, encoding="utf-8")
    path = tmp_path / "check.yaml"
    path.write_text(CHECK, encoding="utf-8")
    return path


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_baseline_then_pass_then_regression(check_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stored, found again, and red when steps take longer with the scenario unchanged in what it says."""
    assert main(["check", str(check_file), "--workers", "1"]) == 2
    assert "--update-baseline writes it" in capsys.readouterr().err
    assert main(["check", str(check_file), "--workers", "1", "--update-baseline"]) == 0
    assert main(["check", str(check_file), "--workers", "1"]) == 0
    assert "3 passed: passed" in capsys.readouterr().out
    stored = json.loads((check_file.parent / "base.json").read_text(encoding="utf-8"))
    values = stored["variants"]["fast"]["values"]["e2e_s_p99"]
    stored["variants"]["fast"]["values"]["e2e_s_p99"] = [value / 2 for value in values]
    (check_file.parent / "base.json").write_text(json.dumps(stored), encoding="utf-8")
    assert main(["check", str(check_file), "--workers", "1"]) == 1
    assert "1 failed: FAILED" in capsys.readouterr().out
    assert main(["check", str(check_file), "--workers", "1", "--update-baseline"]) == 0
    assert "fast: e2e_s_p99:" in capsys.readouterr().out, "what moved is told"


def test_a_baseline_of_another_scenario_is_refused(check_file: Path) -> None:
    """The message says which keys differ."""
    check(check_file, update_baseline=True, workers=1)
    changed(check_file.with_name("small.yaml"), "mean: 40", "mean: 50")
    with pytest.raises(ServesimError, match=r"another scenario(.|\n)*output_tokens.mean: 40\.?0? -> 50"):
        check(check_file, workers=1)


def test_a_baseline_does_not_know_where_it_lies(check_file: Path, tmp_path: Path) -> None:
    """No path of a machine is in it: a clone elsewhere compares as well."""
    check(check_file, update_baseline=True, workers=1)
    assert str(tmp_path) not in (tmp_path / "base.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seeds": [0]}', "\x00"])
def test_a_broken_baseline_is_refused(check_file: Path, content: str) -> None:
    """Empty, cut off, of another form."""
    check_file.with_name("base.json").write_text(content, encoding="utf-8")
    with pytest.raises(ServesimError, match="not a baseline"):
        check(check_file, workers=1)


def test_other_seeds_are_refused(check_file: Path) -> None:
    """Numbers of other seeds are no pairs."""
    check(check_file, update_baseline=True, workers=1)
    with pytest.raises(ServesimError, match="other seeds"):
        check(changed(check_file, "seeds: 4", "seeds: 5"), workers=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "variant: fast, metric: requests_rejected",
            "variant: fats, metric: requests_rejected",
            "did you mean 'fast'",
        ),
        ("metric: requests_rejected", "metric: requests_reject", "did you mean 'requests_rejected'"),
        ("at_most: 0}", "at_mots: 0}", "did you mean 'at_most'"),
        (", at_most: 0}", "}", "expected at_least, at_most or both"),
        ("kind: bound", "kind: bounds", "bound"),
        ("latency.base_s", "latency.bsae_s", "did you mean 'base_s'"),
        ("seeds: 4", "seeds: [1, 1]", "a value stands twice"),
        ("scenario: small.yaml", "scenario: none.yaml", "no such file"),
        ("baseline: base.json", "", "expected the key baseline"),
        ("variants:", "variant:", "did you mean 'variants'"),
    ],
)
def test_bad_check_files(
    check_file: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, the place, and what to do."""
    changed(check_file, old, new)
    assert main(["check", str(check_file), "--workers", "1", "--update-baseline"]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


UNDECIDED = (
    "\nscenario: small.yaml\nseeds: 3\nexpect:\n  - {kind: bound, metric: ttft_s_p99, at_most: LIMIT}\n"
)


def test_undecided_fails_only_when_strict(check_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The limit is the mean of the runs themselves: no seeds will decide; it is said, not hidden."""
    values = [
        servesim.run(
            servesim.load_scenario(check_file.with_name("small.yaml"), overrides=[f"seed={seed}"])
        ).summary["ttft_s_p99"]
        for seed in range(3)
    ]
    text = UNDECIDED.replace("LIMIT", repr(1.001 * sum(values) / 3))
    check_file.write_text(text, encoding="utf-8")
    assert main(["check", str(check_file), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "undecided" in out and "seeds" in out
    assert main(["check", str(check_file), "--workers", "1", "--strict"]) == 1


def test_reports_for_ci(check_file: Path, tmp_path: Path) -> None:
    """JUnit counts and Markdown rows; a name cannot break either."""
    evil = "a | b <script> \\x07 & *c*"
    changed(check_file, "metric: requests_rejected", f'name: "{evil}", metric: requests_rejected')
    changed(check_file, "at_least: 1.2, at_most: 2.5", "at_most: 1.0")
    check(check_file, update_baseline=True, workers=1)
    report = check(check_file, workers=1)
    suites = JUnitXml.fromstring(junit_text([report], strict=False))
    assert (suites.tests, suites.failures) == (3, 1)
    page = markdown_text([report])
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 1 + 3 and "<script>" not in page
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows)
    arguments = ["--junit", str(tmp_path / "j.xml"), "--markdown", str(tmp_path / "m.md"), "--workers", "1"]
    assert main(["check", str(check_file), *arguments, "--json", "--quiet"]) == 1
    assert main(["check", str(check_file), *arguments, "--json", "--quiet"]) == 1
    assert (tmp_path / "m.md").read_text(encoding="utf-8") == 2 * page, "a job summary is added to"


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "scenarios/checks").glob("*.yaml")))
def test_the_projects_own_checks_pass(name: str) -> None:
    """Everything after this proves itself so."""
    assert check(ROOT / "scenarios/checks" / name, workers=1).passed(strict=True)


def test_objects_are_checked_in_place_of_named_policies(check_file: Path) -> None:
    """A policy author's router, as an object; an unknown variant is refused."""

    class First:
        def reset(self, context: Any) -> None: ...

        def route(self, request: Any, replicas: Any) -> int:
            return 0

    check(check_file, update_baseline=True, workers=1)
    report = check(check_file, objects={"fast": {"router": First()}}, workers=1)
    assert not report.passed()
    with pytest.raises(ServesimError, match="did you mean 'fast'"):
        check(check_file, objects={"fsat": {}}, workers=1)


def test_the_pytest_fixture(check_file: Path, pytester: pytest.Pytester) -> None:
    """A test of a policy author's suite is green or red with the check, and shows its table."""
    check(check_file, update_baseline=True, workers=1)
    pytester.makepyfile(
        f"""
        class First:
            def reset(self, context): ...
            def route(self, request, replicas): return 0

        def test_green(servesim_check):
            assert servesim_check({str(check_file)!r}).passed()

        def test_red(servesim_check):
            servesim_check({str(check_file)!r}, objects={{"fast": {{"router": First()}}}})
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*no worse than*failed*"])
