"""Checks of traces: what earns a warning, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from servesim.rng import stream
from servesim.traces.info import trace_info
from servesim.traces.quality import assess


def findings(frame: pl.DataFrame, **notes: int) -> dict[str, tuple[str, str]]:
    """Return level and text of every check."""
    return {each.check: (each.level, each.text) for each in assess(frame, notes)}


def recorded(n: int = 2000, **columns: object) -> pl.DataFrame:
    """Return requests with nothing odd about them."""
    rng = stream(5, "recorded")
    plain = {
        "arrival_s": np.cumsum(rng.exponential(0.2, n)),
        "prompt_tokens": rng.lognormal(6, 0.5, n).astype(int) + 1,
        "output_tokens": rng.lognormal(5, 0.4, n).astype(int) + 1,
    }
    return pl.DataFrame(plain | columns)


def test_nothing_is_found_in_a_sound_trace():
    """Every check is ok."""
    found = findings(recorded())
    assert {level for level, _ in found.values()} == {"ok"}
    assert len(found) == 13


@pytest.mark.parametrize(
    "name", ["azure_llm/AzureLLMInferenceTrace_code.csv", "burstgpt/burstgpt_1_first400.csv"]
)
def test_real_traces_are_not_taken_for_made_up(name: str, shared: Callable[[str], Path]):
    """Recorded traffic has no sign of fabrication."""
    info = trace_info(shared(f"traces/{name}"))
    assert [each.level for each in info.findings if each.check == "regularity"] == ["ok"]
    assert "warning" not in {each.level for each in info.findings}


def test_the_grid_of_mooncake_is_named(shared: Callable[[str], Path]):
    """Its times jitter around multiples of 3 s; nine of ten requests share one."""
    info = trace_info(shared("traces/mooncake/conversation_trace.jsonl"))
    (grid,) = (each for each in info.findings if each.check == "time grid")
    assert grid.level == "warning"
    assert "grid of 3 s, 90.2% of the requests" in grid.text


def test_cut_lengths_are_named(shared: Callable[[str], Path]):
    """4 % of the coding trace's prompts are at 7,437 tokens, give or take 7."""
    info = trace_info(shared("traces/azure_llm/AzureLLMInferenceTrace_code.csv"))
    assert "4.0% of the requests are at the longest, 7,437: probably cut there" in [
        each.text for each in info.findings
    ]


def test_fabricated_burstgpt_rows_earn_a_warning(tmp_path: Path):
    """A file like a copy that is in circulation: t = 0, 1, 2, ..., models in turn, uniform tokens."""
    rng = stream(6, "fake")
    rows = ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"]
    for second in range(1000):
        model = ("ChatGPT", "GPT-4")[second % 2]
        prompt, output = rng.integers(10, 2000), rng.integers(10, 1000)
        rows.append(f"{second},{model},{prompt},{output},{prompt + output},Conversation log")
    path = tmp_path / "BurstGPT_1.csv"
    path.write_text("\n".join(rows) + "\n")
    (found,) = (each for each in trace_info(path).findings if each.check == "regularity")
    assert found.level == "warning"
    for sign in (
        "a request every 1 s",
        "model repeats itself every 2 requests",
        "prompt_tokens uniform from 1",
        "output_tokens uniform from 1",
    ):
        assert sign in found.text


def test_lengths_that_count_up_are_a_sign():
    """1, 3, 5, ... was never measured."""
    frame = recorded(300, prompt_tokens=range(1, 601, 2))
    assert "prompt_tokens grows by 2 from request to request" in findings(frame)["regularity"][1]


def test_each_defect_has_its_finding():
    """Empty cells, disorder, duplicates, failures, drift."""
    frame = recorded(200)
    level, text = findings(frame.with_columns(tenant=pl.Series([None] * 50 + ["a"] * 150)))["missing values"]
    assert (level, text) == ("note", "empty: tenant in 25.0% of the requests")
    assert findings(frame, rows_sorted=1)["monotone time"][0] == "note"
    assert findings(frame, rows_sorted=50)["monotone time"][0] == "warning"
    twice = pl.concat([frame, frame.head(10)]).sort("arrival_s")
    assert findings(twice)["duplicates"] == (
        "warning",
        "10 of 210 requests equal an earlier one in every column",
    )
    assert findings(frame, failures=8, rows_read=208)["zero outputs"][1].startswith(
        "8 of 208 rows have no output"
    )
    drifting = frame.with_columns(arrival_s=pl.col("arrival_s") ** 2)
    assert "drifts" in findings(drifting)["drift"][1]


def test_equal_blocks_are_needed_for_a_duplicate():
    """Two prompts of one length with other content are two requests."""
    frame = pl.DataFrame(
        {
            "arrival_s": [0.0, 0.0],
            "prompt_tokens": [5, 5],
            "output_tokens": [2, 2],
            "prefix_blocks": [[1], [2]],
        }
    )
    assert findings(frame)["duplicates"][0] == "ok"
    same = frame.with_columns(prefix_blocks=pl.Series([[1], [1]]))
    assert findings(same)["duplicates"][0] == "warning"


def test_a_few_requests_are_judged_without_errors():
    """One, two and a hundred requests at once pass every check."""
    for times in ([0.0], [0.0, 1.0], [2.0] * 100):
        n = len(times)
        findings(pl.DataFrame({"arrival_s": times, "prompt_tokens": [1] * n, "output_tokens": [1] * n}))
