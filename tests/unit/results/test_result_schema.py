"""Tests of the declared columns and metrics, and of their reference pages."""

from __future__ import annotations

import inspect
import re

import pytest

from servesim.cluster.records import EVENT, SAMPLE, SEGMENT
from servesim.report import vllm_bench
from servesim.results import RunResult
from servesim.results.parity import PARITY, SERVESIM_ONLY, SOURCES
from servesim.results.reference import columns_page, metrics_page
from servesim.results.schema import FRAMES, LATENCY_METRICS, STATISTICS, SUMMARY


def test_every_declaration_has_a_meaning():
    """No column, metric or key lacks a unit or a description, and none is declared twice."""
    for declarations in (*FRAMES.values(), SUMMARY):
        for declaration in declarations:
            assert declaration.unit
            assert len(declaration.description.split()) >= 2, declaration.name
        names = [declaration.name for declaration in declarations]
        assert len(set(names)) == len(names)
    for metric in LATENCY_METRICS:
        assert metric.start
        assert metric.end
        assert metric.description


def test_request_columns():
    """The columns of requests are these, in this order."""
    expected = (
        "request_id model tenant priority session slo_class replica arrival_s scheduled_s first_token_s "
        "finished_s prompt_tokens output_tokens output_tokens_target queue_s ttft_s tpot_s e2e_s preemptions "
        "state finish_reason"
    )
    assert [column.name for column in FRAMES["requests"]] == expected.split()


@pytest.mark.parametrize(("name", "layout"), [("segments", SEGMENT), ("events", EVENT), ("replicas", SAMPLE)])
def test_columns_are_the_fields_of_the_rows(name, layout):
    """Frames made of packed rows have exactly their fields, in their order."""
    assert [column.name for column in FRAMES[name]] == list(layout.fields)


def test_summary_has_the_promised_keys():
    """The keys that users rely on are there."""
    names = {key.name for key in SUMMARY}
    promised = [f"requests_{state}" for state in ("arrived", "completed", "rejected", "unfinished")]
    promised += ["preemptions", "duration_s", "requests_per_s", "output_tokens_per_s", "kv_used_ratio_max"]
    promised += [
        f"{m}_s_{s}" for m in ("ttft", "tpot", "e2e", "queue") for s in ("mean", "p50", "p90", "p99")
    ]
    assert names.issuperset(promised)


def test_columns_page():
    """The page lists every column of every frame in a table."""
    page = columns_page()
    for name, columns in FRAMES.items():
        assert f"## {name}\n" in page
        for column in columns:
            assert f"\n| `{column.name}` | " in page


def test_metrics_page():
    """The page names start and end event of every latency, and every key."""
    page = metrics_page()
    for metric in LATENCY_METRICS:
        assert f" {metric.start} | {metric.end} |" in page
    for key in SUMMARY:
        assert f"\n| `{key.name}` | {key.unit} | " in page


def test_every_metric_is_compared_with_other_benchmarks():
    """Each latency and each key of the summary has a row, or is listed as having no counterpart; none has both."""
    compared = [name for row in PARITY for name in row.metrics]
    latencies = {metric.name for metric in LATENCY_METRICS}
    statistics = {f"{name}_{statistic}" for name in latencies for statistic in STATISTICS}
    keys = {key.name for key in SUMMARY} - statistics
    assert len(set(compared)) == len(compared)
    assert set(compared).isdisjoint(SERVESIM_ONLY)
    assert latencies | keys <= {*compared, *SERVESIM_ONLY}
    calls = {"RunResult.itl_s", "RunResult.itl_statistics", "e2e_s / output_tokens"}
    assert {*compared, *SERVESIM_ONLY} - latencies - keys == calls
    assert all(hasattr(RunResult, call.split(".")[1]) for call in calls if call.startswith("RunResult."))
    assert all(row.vllm_bench or row.aiperf or row.inference_perf for row in PARITY)


def test_the_export_has_the_keys_that_the_page_names():
    """What the page calls vLLM's names is in the export, as it is or as the stem of its statistics."""
    source = inspect.getsource(vllm_bench)
    for row in PARITY:
        if row.vllm_bench is not None:
            assert f'"{row.vllm_bench}"' in source, row.vllm_bench


def test_sources_are_permanent():
    """Every definition is cited with the commit it was read at, and the page links it."""
    page = metrics_page()
    for files in SOURCES.values():
        for label, address in files:
            assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/blob/[0-9a-f]{40}/\S+", address)
            assert f"[{label}]({address})" in page


def test_tables_are_well_formed():
    """Every line of a table has the columns of its header."""
    for page in (columns_page(), metrics_page()):
        for block in page.split("\n\n"):
            lines = [line for line in block.splitlines() if line.startswith("|")]
            assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1
