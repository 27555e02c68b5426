"""Statistics of serverless logs, on logs small enough to count by hand."""

from __future__ import annotations

import polars as pl
import pytest

from servesim.errors import TraceError
from servesim.serverless import ServerlessLog, generate_functions, summary
from servesim.serverless.contract import check, typed
from servesim.serverless.curves import Curve, bent, law_cdf, law_quantile, mapping
from servesim.serverless.schema import FRAMES
from servesim.serverless.summary import component_correlation, peak_to_trough


def cold_starts(**columns: list[object]) -> pl.DataFrame:
    """Return cold starts with some columns."""
    return typed(pl.DataFrame(columns, strict=False), "cold_starts", "test")


SMALL = {
    "start_s": [0.0, 1.0, 4.0, 10.0],
    "region": ["R1", "R1", "R2", "R1"],
    "trigger": ["a", "a", "b", None],
    "cpu_limit_mcpu": [300.0, 300.0, 1000.0, 400.0],
    "memory_limit_mb": [128.0, 128.0, 1024.0, 256.0],
    "total_s": [1.0, 2.0, 9.0, 3.0],
    "useful_s": [0.5, 8.0, 90.0, None],
    "pod_allocation_s": [0.1, 0.2, 6.0, 0.3],
    "deploy_code_s": [0.2, 0.4, 1.0, 0.6],
    "deploy_dependency_s": [0.0, 0.0, 1.0, 0.0],
    "scheduling_s": [0.7, 1.4, 1.0, 2.5],
}


def test_figures_of_cold_starts() -> None:
    """Rates, gaps within regions, quantiles, pod utility, and the one total that is no sum."""
    figures = summary(ServerlessLog(format="test", cold_starts=cold_starts(**SMALL).lazy())).figures
    wanted = {
        "cold_starts": 4,
        "span_s": 10.0,
        "cold_starts_per_s": 0.4,
        "total_s_mean": 3.75,
        "total_s_p50": 2.5,
        "gap_s_mean": 5.0,  # R1: 1 s and 9 s
        "pod_allocation_s_mean": 1.65,
        "totals_off": 1,  # 3.0 against 3.4
        "large_to_small_total_s_p50": 4.5,  # 9 s against the median of 1, 2 and 3 s
        "pod_utility_ratio_p50": 4.0,  # of 0.5, 4, 10
        "pod_utility_below_1_ratio": 1 / 3,
    }
    assert {name: figures[name] for name in wanted} == pytest.approx(wanted)
    assert figures["cold_starts_per_h_peak_to_trough"] is None


def test_tables_of_cold_starts() -> None:
    """The most frequent first, what is unknown last; shares are of all."""
    tables = summary(ServerlessLog(format="test", cold_starts=cold_starts(**SMALL).lazy())).tables
    assert set(tables) == {"by_region", "by_trigger", "component_correlation"}
    triggers = tables["by_trigger"]
    assert triggers.select("trigger", "cold_starts", "share_ratio", "total_s_p50").rows() == [
        ("a", 2, 0.5, 1.5),
        ("b", 1, 0.25, 9.0),
        (None, 1, 0.25, 3.0),
    ]


def test_rank_correlation_of_parts() -> None:
    """1 for the same order, -1 for the opposite one, null for what does not vary."""
    frame = cold_starts(
        start_s=[0.0, 1.0, 2.0],
        total_s=[3.0, 15.0, 100.0],
        pod_allocation_s=[1.0, 10.0, 99.0],
        deploy_code_s=[2.0, 1.5, 1.0],
        deploy_dependency_s=[0.0, 0.0, 0.0],
        scheduling_s=[0.0, 3.5, 0.1],
    )
    found = {(first, second): value for first, second, value in component_correlation(frame).iter_rows()}
    assert found["pod_allocation_s", "total_s"] == pytest.approx(1)
    assert found["pod_allocation_s", "deploy_code_s"] == pytest.approx(-1)
    assert found["pod_allocation_s", "scheduling_s"] == pytest.approx(0.5)
    assert found["deploy_dependency_s", "total_s"] is None


def test_peak_to_trough_leaves_the_ends_out() -> None:
    """Hours of 9, 2, 4 and 1 cold starts: the first and the last are not whole."""
    hours = [0] * 9 + [1] * 2 + [2] * 4 + [3]
    assert peak_to_trough(pl.Series([3600.0 * hour + 1 for hour in hours])) == 2.0
    assert peak_to_trough(pl.Series([], dtype=pl.Float64)) is None


def test_figures_of_invocations() -> None:
    """Counts over windows and single ones; the share of cold ones is of those that are known."""
    rows = {
        "arrival_s": [0.0, 60.0, 70.0, 75.0],
        "window_s": [60.0, 0.0, 0.0, 0.0],
        "invocations": [7, 1, 1, 1],
        "function": ["f", "g", "g", "g"],
        "trigger": ["t", "t", "u", "u"],
        "cold": [None, True, False, False],
        "duration_s": [None, 1.0, 2.0, 3.0],
    }
    log = ServerlessLog(
        format="test", invocations=typed(pl.DataFrame(rows, strict=False), "invocations", "test").lazy()
    )
    found = summary(log)
    wanted = {
        "invocations": 10,
        "functions_invoked": 2,
        "invocations_span_s": 75.0,
        "cold_ratio": 1 / 3,
        "duration_s_p50": 2.0,
        "top_tenth_of_functions_ratio": 0.7,
    }
    assert {name: found.figures[name] for name in wanted} == pytest.approx(wanted)
    assert found.tables["invocations_by_trigger"].select("trigger", "invocations", "functions").rows() == [
        ("t", 8, 2),
        ("u", 2, 1),
    ]


def test_a_generated_log_is_summarised_whole() -> None:
    """Functions, invocations and cold starts at once."""
    found = summary(generate_functions(seed=0, functions=40))
    assert found.figures["functions"] == 40
    assert {"by_region", "by_runtime", "by_trigger", "by_pool", "component_correlation"} <= set(found.tables)
    assert found.figures["totals_off"] == 0


def test_an_empty_log_has_no_statistics() -> None:
    """None, rather than an error."""
    empty = cold_starts(**SMALL).clear()
    figures = summary(ServerlessLog(format="test", cold_starts=empty.lazy())).figures
    assert figures["cold_starts"] == 0
    assert figures["total_s_p50"] is None
    assert figures["cold_starts_per_s"] is None


def test_the_contract_names_what_is_wrong() -> None:
    """Missing columns, unknown ones, unknown loads, text for numbers."""
    with pytest.raises(TraceError, match="columns are not those of cold_starts"):
        typed(pl.DataFrame({"start_s": [0.0]}), "cold_starts", "x")
    with pytest.raises(TraceError, match=r"row 1: load: unknown kind .got 'lorra'.*\n.*did you mean 'lora'"):
        check(pl.DataFrame({"load": ["lorra"]}), "cold_starts", "x")
    with pytest.raises(TraceError, match="total_s: not numbers"):
        check(pl.DataFrame({"total_s": ["1"]}), "cold_starts", "x")


def test_every_column_is_described() -> None:
    """Meaning and, for numbers, unit."""
    for columns in FRAMES.values():
        assert len({column.name for column in columns}) == len(columns)
        assert all(column.description for column in columns)
        assert all(column.unit for column in columns if column.dtype.is_float())


def test_curves_and_laws() -> None:
    """A quantile is the inverse of the distribution; the mapping turns a mixture into the law, and keeps the order."""
    import numpy as np

    u = (np.arange(999) + 0.5) / 999
    low, high = (
        Curve(np.array([0.0, 1.0]), np.array([0.1, 1.0])),
        Curve(np.array([0.0, 1.0]), np.array([0.5, 20.0])),
    )
    assert low.cdf(low.quantile(u)) == pytest.approx(u)
    assert low.scaled(2.0).quantile(u) == pytest.approx(2 * low.quantile(u))
    for law in (("lognormal", 0.3, 1.3), ("weibull", 0.42, 0.42)):
        assert law_cdf(law, law_quantile(law, u)) == pytest.approx(u)  # type: ignore[arg-type]  # literals
        change = mapping({"a": low, "b": high}, {"a": 1.0, "b": 1.0}, law)  # type: ignore[arg-type]
        mixed = np.sort(np.concatenate([low.quantile(u), high.quantile(u)]))
        got = law_cdf(law, change(mixed))  # type: ignore[arg-type]
        assert np.abs(got - (np.arange(len(mixed)) + 0.5) / len(mixed)).max() < 0.005
    assert bent(np.array([1.0, 5.0, 9.5, 12.0]), 0.8) == pytest.approx([0.8, 4.0, 9.5, 12.0])
