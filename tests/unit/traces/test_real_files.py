"""``servesim trace info`` on each real file in ../shared/traces: its numbers against those of the README there.

They were measured by other code. Sections of that README are named beside the rows of the tables. Each number is
met to the rounding that the README has, unless a comment says why not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servesim.cli.trace_info import page_of
from servesim.errors import TraceError
from servesim.traces.look import look

Row = tuple[str, Any]
"""Key of ``servesim trace info --json``, and the value, or value and tolerance."""

AZURE = {  # section 4, "Azure LLM 2023"
    "code": [
        ("format", "azure"),
        ("rows", 8819),
        ("span_s", (3436, 0.5)),
        ("rate_per_s", (2.57, 0.005)),
        ("gap_cv", (13.15, 0.005)),
        ("dispersion_1s", (13.2, 0.05)),
        ("peak_1s", 67),
        ("prompt_tokens.mean", (2048, 0.5)),
        ("prompt_tokens.p50", 1469),
        ("prompt_tokens.p99", (7436, 0.5)),
        ("prompt_tokens.max", 7437),
        ("output_tokens.mean", (28, 0.5)),
        ("output_tokens.p50", 13),
        ("output_tokens.p99", (252, 1)),
        ("correlation", (0.00, 0.005)),
    ],
    "conv": [
        ("format", "azure"),
        ("rows", 19_366),
        ("span_s", (3502, 0.5)),
        ("rate_per_s", (5.53, 0.005)),
        ("gap_cv", (1.09, 0.005)),
        ("dispersion_1s", (1.39, 0.005)),
        ("prompt_tokens.mean", (1155, 0.5)),
        ("prompt_tokens.p50", 1020),
        ("prompt_tokens.p99", (4142, 0.5)),
        ("prompt_tokens.max", 14_050),
        ("output_tokens.mean", (211, 0.5)),
        ("output_tokens.p50", 129),
        ("output_tokens.p99", (601, 0.5)),
        ("output_tokens.max", 1000),
        ("correlation", (-0.11, 0.005)),
    ],
}

BURSTGPT_1: list[Row] = [  # section 1, "Slice 1"
    ("format", "burstgpt"),
    ("rows", 400),
    ("notes.failures", 17),  # 4.25 % zero/zero
    ("prompt_tokens.p50", 353),
    ("prompt_tokens.p95", (1639, 1)),
    ("output_tokens.p50", 238),
    ("output_tokens.p95", (842, 1)),
    ("dispersion_1s", (1.01, 0.005)),
]
BURSTGPT_3: list[Row] = [  # section 1, "Slice 3"
    ("rows", 400),
    # 135 with the one session whose only request failed; requests that failed are left out.
    ("sessions.sessions", 134),
    ("sessions.turns.mean", (2.92, 0.02)),
    ("sessions.turns.p50", 2),
    ("sessions.turns.max", 24),
    ("sessions.turn_gap_s.p50", 123),
    ("sessions.turn_gap_s.mean", (536, 0.5)),
    ("sessions.turn_gap_s.p90", (1393, 0.5)),
    ("sessions.turn_gap_s.p99", (5191, 0.5)),
]
MOONCAKE: list[Row] = [  # section 4, "Mooncake"
    ("format", "mooncake"),
    ("rows", 12_031),
    ("span_s", (3537, 0.5)),
    ("rate_per_s", (3.40, 0.005)),
    ("zero_gap_ratio", (0.90, 0.005)),
    ("prompt_tokens.mean", (12_035, 0.5)),
    ("prompt_tokens.p50", 6909),
    ("prompt_tokens.p99", (85_400, 0.5)),
    ("output_tokens.mean", (343, 0.5)),
    ("output_tokens.p50", 350),
    ("prefix.distinct_blocks", 182_790),
    ("prefix.hit_ceiling_ratio", (0.366, 0.0005)),
    ("prefix.block_tokens", 512),
]
RAGPULSE: list[Row] = [  # section 4, "RAGPulse"
    ("format", "ragpulse"),
    ("rows", 7106),
    ("span_s", (7.0 * 86_400, 0.05 * 86_400)),
    ("gap_cv", (3.06, 0.005)),
    ("prompt_tokens.mean", (2944, 0.5)),
    ("prompt_tokens.p50", (3140, 0.5)),
    ("output_tokens.mean", (283, 0.5)),
    ("sessions.sessions", 3990),
    ("sessions.multi_turn_ratio", (0.41, 0.005)),
    ("sessions.turns.max", 25),
]
CLAUDE_CODE: list[Row] = [  # section 4, "Claude Code / WEKA"
    ("format", "claude_code"),
    ("rows", 49_334),
    ("notes.sessions_duplicated", 19),  # 25 files are 6 sessions
    ("notes.blocks_reused_ratio", (0.973, 0.0005)),
]

CLIENTS = {  # section 2, the table of pools
    "language.m-large": [
        ("clients", 162),
        ("clients_without_lengths", 15),
        ("without_lengths_ratio", (0.373, 0.0005)),
        ("requests", (236.9e6, 0.05e6)),
        ("windows", 2016),
        ("rate_per_s.mean", (195.8, 0.05)),
        ("rate_per_s.min", (48, 0.5)),
        ("rate_per_s.max", (583, 0.5)),
        ("active_clients.p50", 49),
        ("active_clients.max", 70),
        ("top_ratio.1", (0.16, 0.005)),
        ("top_ratio.5", (0.43, 0.005)),
        ("top_ratio.10", (0.63, 0.005)),
        ("clients_for_90_percent", 39),
        ("window_cv.p10", (0.94, 0.005)),
        ("window_cv.p50", (1.19, 0.005)),
        ("window_cv.p90", (6.2, 0.05)),
        ("window_cv.p99", (48, 0.5)),
        ("cv_above_1_ratio", (0.85, 0.005)),
        ("pattern_ratio.gamma", (0.70, 0.005)),
        ("pattern_ratio.weibull", (0.30, 0.005)),
        ("lengths.input_tokens.mean", (914, 0.5)),
        ("lengths.input_tokens.p50", 601),
        ("lengths.input_tokens.p90", 2371),
        ("lengths.input_tokens.p99", 5452),
        ("lengths.input_tokens.max", 30_712),
        ("lengths.output_tokens.mean", (155, 0.5)),
        ("lengths.output_tokens.p50", 53),
        ("lengths.output_tokens.p90", 461),
        ("lengths.output_tokens.p99", 872),
        ("lengths.output_tokens.max", 9307),
    ],
    "reason.deepseek-r1": [
        ("clients", 73),
        ("clients_without_lengths", 0),
        ("requests", (1.384e6, 0.0005e6)),
        ("windows", 144),
        ("rate_per_s.mean", (16.0, 0.05)),
        ("rate_per_s.min", (4.3, 0.05)),
        ("rate_per_s.max", (42.5, 0.05)),
        ("active_clients.p50", 22),
        ("active_clients.max", 31),
        ("top_ratio.1", (0.29, 0.005)),
        ("top_ratio.5", (0.53, 0.006)),  # 0.5247, which rounds to .52
        ("top_ratio.10", (0.68, 0.005)),
        ("clients_for_90_percent", 25),
        ("window_cv.p10", (0.74, 0.005)),
        ("window_cv.p50", (1.02, 0.005)),
        ("window_cv.p90", (5.6, 0.05)),
        ("window_cv.p99", (17, 0.5)),
        ("cv_above_1_ratio", (0.60, 0.005)),
        ("pattern_ratio.gamma", (0.74, 0.005)),
        ("lengths.input_tokens.mean", (1268, 0.5)),
        ("lengths.input_tokens.p50", 208),
        ("lengths.input_tokens.p90", 2092),
        ("lengths.input_tokens.p99", 23_423),
        ("lengths.input_tokens.max", 57_284),
        ("lengths.output_tokens.mean", (1527, 0.5)),
        ("lengths.output_tokens.p50", 792),
        ("lengths.output_tokens.p90", 3432),
        ("lengths.output_tokens.p99", 12_607),
        ("lengths.output_tokens.max", 32_768),
        ("lengths.reason_ratio.mean", (0.70, 0.005)),
    ],
    "multimodal.mm-image": [
        ("clients", 35),
        ("clients_without_lengths", 0),
        ("requests", (0.819e6, 0.0005e6)),
        ("windows", 144),
        ("rate_per_s.mean", (9.47, 0.005)),
        ("rate_per_s.min", (4.9, 0.05)),
        ("rate_per_s.max", (13.3, 0.05)),
        ("active_clients.p50", 14),
        ("active_clients.max", 19),
        ("top_ratio.1", (0.14, 0.005)),
        ("top_ratio.5", (0.56, 0.005)),
        ("top_ratio.10", (0.83, 0.005)),
        ("clients_for_90_percent", 15),
        ("window_cv.p10", (0.81, 0.005)),
        ("window_cv.p50", (1.01, 0.005)),
        ("window_cv.p90", (4.9, 0.05)),
        ("window_cv.p99", (12, 0.5)),
        ("cv_above_1_ratio", (0.51, 0.005)),
        ("pattern_ratio.gamma", (0.88, 0.005)),
        ("lengths.text_tokens.mean", (572, 0.5)),
        ("lengths.text_tokens.p50", 106),
        ("lengths.text_tokens.p90", 1914),
        ("lengths.text_tokens.p99", 3064),
        ("lengths.text_tokens.max", 4242),
        ("lengths.output_tokens.mean", (130, 0.5)),
        ("lengths.output_tokens.p50", 100),
        ("lengths.output_tokens.p90", 264),
        ("lengths.output_tokens.p99", 587),
        ("lengths.output_tokens.max", 2000),
        ("lengths.image_count.mean", (1.59, 0.005)),
        ("lengths.image_count.p99", 9),
        ("lengths.image_count.max", 49),
        ("lengths.image_tokens.p50", 540),
        ("lengths.image_tokens.p99", 1271),
    ],
}

COLD_STARTS_R1_R5: list[Row] = [  # section 3, "Real rows here"
    ("format", "huawei_cold_starts"),
    ("cold_starts", 10),
    ("totals_off", 0),  # section 3: total = sum of the four, exactly
    ("span_s", (31 * 86_400, 86_400)),  # first and last rows of 31 days
    ("tables.by_region.0.region", "R1"),
    ("tables.by_region.1.region", "R5"),
]
COLD_STARTS_R2: list[Row] = [  # section 3, "10 of R2 with runtime+trigger"; counted in the file by hand
    ("format", "huawei_cold_starts"),
    ("cold_starts", 10),
    ("totals_off", 0),
    ("tables.by_runtime.0.runtime", "Python3"),
    ("tables.by_runtime.0.cold_starts", 6),
    ("tables.by_trigger.0.trigger", "TIMER-A"),
    ("tables.by_trigger.0.cold_starts", 5),
]
REQUESTS_R5: list[Row] = [
    ("format", "huawei_requests"),
    ("invocations", 10),
    ("notes.without_frontend", 5),
    ("invocations_span_s", (86_400, 1)),  # section 3: day 30 only
]
FUNCTIONS_R2: list[Row] = [
    ("format", "huawei_functions"),
    ("functions", 10),
    ("function_invocations_max", (8.53e9, 0.005e9)),  # section 3: R2's busiest function takes 8.53 G requests
]

FILES: dict[str, list[Row]] = {
    **{f"azure_llm/AzureLLMInferenceTrace_{name}.csv": rows for name, rows in AZURE.items()},
    "burstgpt/burstgpt_1_first400.csv": BURSTGPT_1,
    "burstgpt/burstgpt_3_first400.csv": BURSTGPT_3,
    "mooncake/conversation_trace.jsonl": MOONCAKE,
    "ragpulse/0_trace.jsonl": RAGPULSE,
    "claude_code/requests.parquet": CLAUDE_CODE,
    "lmcache_agent/requests.parquet": [("rows", 1619)],  # the table at its top
    **{f"servegen/{name}.trace.parquet": rows for name, rows in CLIENTS.items()},
    "servegen/reason.deepseek-r1.dataset.parquet": CLIENTS["reason.deepseek-r1"],
    "huawei_coldstart/cold_start_rows_R1_R5.csv": COLD_STARTS_R1_R5,
    "huawei_coldstart/cold_start_rows_R2_runtime_trigger.csv": COLD_STARTS_R2,
    "huawei_coldstart/request_rows_R5.csv": REQUESTS_R5,
    "huawei_coldstart/functions_R2_head_tail.csv": FUNCTIONS_R2,
    "huawei_coldstart/functions_R2_3days.csv": [  # the same function; counted in the file by hand
        ("functions", 10),
        ("function_invocations_max", 133_472_184),
    ],
    "huawei_coldstart/pods_per_func_R5_day30.csv": [("functions", 10)],
    "huawei_coldstart/requests_per_func_R5_day30.csv": [
        ("functions", 10),
        ("function_invocations_max", 1440),
    ],
    "huawei_coldstart/runtime_trigger_rows_R2.csv": [("functions", 10)],
}

NO_TRACES = [
    "burstgpt/burstgpt_1_daily.parquet",
    "burstgpt/burstgpt_1_hour_of_day.parquet",
    "burstgpt/burstgpt_1_hour_of_day_by_service_digitised.csv",
    "burstgpt/burstgpt_1_response_given_request_digitised.csv",
    "burstgpt/burstgpt_1_week1_minutes_tps.parquet",
    "claude_code/conversations.parquet",
    "huawei_coldstart/cdf_points.parquet",
    "huawei_coldstart/cdf_quantiles.parquet",
    "huawei_coldstart/fig14_R2_functions.parquet",
    "huawei_coldstart/fig5_requests_per_minute_normalised.parquet",
    "huawei_coldstart/fig8_R2_pods_per_hour.parquet",
    "huawei_coldstart/fig8_R2_proportions.parquet",
    "huawei_coldstart/fig9_R2_triggers_by_runtime.parquet",
    "huawei_coldstart/hourly_region.parquet",
    "moe_routing/expert_counts.parquet",
    "moe_routing/expert_pairs.parquet",
    "ragpulse/LICENSE",
    "ragpulse/chunks.parquet",
]
"""Aggregates, digitised figures, and parts of traces."""


def wrong(found: dict[str, Any], rows: list[Row]) -> list[tuple[str, Any, Any]]:
    """Return the rows that *found* does not agree with: key, what it has, what is expected."""
    missed = []
    for key, expected in rows:
        value: Any = found
        for part in key.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        value_of, within = expected if isinstance(expected, tuple) else (expected, None)
        agrees = value == value_of if within is None else abs(value - value_of) <= within + 1e-9
        if not agrees:
            missed.append((key, value, expected))
    return missed


@pytest.mark.parametrize("name", FILES)
def test_info_says_what_the_readme_says(name: str, shared: Callable[[str], Path]) -> None:
    """Every number of the README that info tells, and a page that can be printed."""
    info = look(shared(f"traces/{name}"))
    assert wrong(info.to_dict(), FILES[name]) == []
    assert page_of(info).count("\n") > 3


@pytest.mark.parametrize("name", ["language/m-large", "reason/deepseek-r1", "multimodal/mm-image"])
def test_native_pools_are_told_from_their_folder(name: str, shared: Callable[[str], Path]) -> None:
    """Five clients of each pool are there in the native form (first table of the README)."""
    found = look(shared(f"traces/servegen/native/{name}")).to_dict()
    assert wrong(found, [("form", "native"), ("clients", 5), ("clients_without_lengths", 0)]) == []


@pytest.mark.parametrize("name", NO_TRACES)
def test_what_is_no_trace_is_refused_with_the_known_formats(name: str, shared: Callable[[str], Path]) -> None:
    """None is taken for one."""
    with pytest.raises(TraceError, match="no known format") as caught:
        look(shared(f"traces/{name}"))
    assert "client pools" in str(caught.value)
    assert "huawei_cold_starts" in str(caught.value)


def test_no_file_is_forgotten(shared: Callable[[str], Path]) -> None:
    """Every data file there is in a table above, or in a folder that is read as a whole."""
    folder = shared("traces")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    others = {"README.md"} | {f"servegen/{name}.dataset.parquet" for name in CLIENTS}
    native = {name for name in names if name.startswith("servegen/native/")}
    assert names - native - others - set(FILES) == set(NO_TRACES)


def test_duplicates_and_failures_kept_give_the_other_numbers(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    """The README counts every row of Claude Code and of BurstGPT's first slice; info leaves out what is no request."""
    spec = tmp_path / "all.yaml"
    claude = shared("traces/claude_code/requests.parquet")
    spec.write_text(
        f"workload: {{source: {{reader: claude_code, path: {claude}, duplicates: true}}, closed_loop: true}}\n"
    )
    rows: list[
        Row
    ] = [  # section 4, "Claude Code / WEKA"; its quantiles are values of the data, not between them
        ("requests", 49_334),
        ("prompt_tokens.p50", (103_662, 5)),
        ("prompt_tokens.p90", (233_633, 5)),
        ("prompt_tokens.p99", (498_617, 100)),
        ("output_tokens.p50", 216),
        ("output_tokens.p90", 898),
        ("output_tokens.p99", (3687, 1)),
        ("sessions.think_s.p50", (10, 0.5)),
        ("prompt_tokens.mean", (122_379, 0.5)),  # of the issue
    ]
    assert wrong(look(spec).to_dict(), rows) == []
    burst = shared("traces/burstgpt/burstgpt_1_first400.csv")
    spec.write_text(f"workload: {{source: {{reader: burstgpt, path: {burst}, failures: keep}}}}\n")
    assert wrong(look(spec).to_dict(), [("requests", 400), ("gap_cv", (4.56, 0.005))]) == []
