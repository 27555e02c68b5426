"""Checks of traces: what earns a warning, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.rng import stream
from servesim.traces.info import trace_info
from servesim.traces.quality import assess
from servesim.traces.tally import Tally


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
    "name",
    [
        "azure_llm/AzureLLMInferenceTrace_code.csv",
        "azure_llm/AzureLLMInferenceTrace_conv.csv",
        "burstgpt/burstgpt_1_first400.csv",
        "burstgpt/burstgpt_3_first400.csv",
        "claude_code/requests.parquet",
        "lmcache_agent/requests.parquet",
        "mooncake/conversation_trace.jsonl",
        "ragpulse/0_trace.jsonl",
    ],
)
def test_real_traces_are_not_taken_for_made_up(name: str, shared: Callable[[str], Path]):
    """Recorded traffic has no sign of fabrication."""
    info = trace_info(shared(f"traces/{name}"))
    assert [each.level for each in info.findings if each.check == "regularity"] == ["ok"]


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


@pytest.mark.parametrize("failures", [0.027, 0.0726])
def test_failures_hide_no_regularity(failures: float, tmp_path: Path):
    """Seconds 0, 1, 2, ..., models in turn, lengths as real as you like: rows that are left out break no rule."""
    rng = stream(7, "better fake")
    rows = ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"]
    for second in range(2000):
        prompt, output = (int(rng.lognormal(mean, 1)) + 1 for mean in (6, 5))
        output *= rng.random() >= failures
        model = ("ChatGPT", "GPT-4")[second % 2]
        rows.append(f"{second},{model},{prompt},{output},{prompt + output},API log")
    path = tmp_path / "BurstGPT_1.csv"
    path.write_text("\n".join(rows) + "\n")
    (found,) = (each for each in trace_info(path).findings if each.check == "regularity")
    assert found.level == "warning"
    assert "a request every 1 s; model repeats itself every 2 requests" in found.text


def test_a_few_exceptions_hide_nothing():
    """Of 2,000 rows 2 % are missing: no second look helps, but what holds for 95 % is a sign."""
    frame = recorded(arrival_s=np.arange(2000.0), model=["a", "b", "c", "c"] * 500)
    kept = frame.filter(stream(8, "missing").random(2000) >= 0.01)
    level, text = findings(kept)["regularity"]
    assert level == "warning"
    assert "a request every 1 s (in 9" in text
    assert "model repeats itself every 4 requests (in 9" in text
    steps = pl.Series(range(1, 4001, 2)).set(pl.Series([i % 50 == 0 for i in range(2000)]), 5)
    assert (
        "prompt_tokens grows by 2 from request to request (in 9"
        in findings(recorded(prompt_tokens=steps))["regularity"][1]
    )


def test_tags_that_seldom_change_are_no_cycle():
    """One model for hours and then another, or nearly always the same, is how real logs look."""
    rng = stream(9, "tags")
    for tags in (["a"] * 1000 + ["b"] * 1000, np.where(rng.random(2000) < 0.02, "b", "a").tolist()):
        assert findings(recorded(model=tags))["regularity"][0] == "ok"


def test_drawn_arrivals_are_not_judged():
    """What the reader made up has no order, grid or drift of the trace's; sessions left out as duplicates are told."""
    notes = {"starts_drawn": 7, "rows_sorted": 1900, "sessions_duplicated": 2, "rows_duplicated": 31}
    found = findings(recorded(), **notes)
    assert not {"time grid", "drift", "long bursts", "daily cycle"} & set(found)
    assert found["monotone time"] == (
        "note",
        "the trace does not tell when sessions began (here 7): their arrivals are drawn at random",
    )
    assert found["duplicates"] == ("note", "2 sessions, with 31 rows, are there before, and left out")


def test_advice_is_given_to_readers_that_can_take_it(tmp_path: Path):
    """Times on a grid of 3 s: Mooncake's reader can spread them, BurstGPT's cannot."""
    jsonl = "".join(
        f'{{"timestamp": {3000 * (row // 9)}, "input_length": {row + 9}, "output_length": 5}}\n'
        for row in range(900)
    )
    (tmp_path / "m.jsonl").write_text(jsonl)
    header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    rows = "".join(f"{3 * (row // 9)},GPT-4,{row + 9},5,{row + 14},API log\n" for row in range(900))
    (tmp_path / "b.csv").write_text(header + rows)
    texts = {}
    for name in ("m.jsonl", "b.csv"):
        (grid,) = (each for each in trace_info(tmp_path / name).findings if each.check == "time grid")
        assert grid.level == "warning"
        texts[name] = grid.text
    assert texts["m.jsonl"].endswith("the reader's spread_s spreads them")
    assert "spread" not in texts["b.csv"]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3)), min_size=1, max_size=40), st.integers(1, 6))
def test_duplicates_are_counted_across_frames(pairs: list[tuple[int, int]], parts: int):
    """However the requests are cut into frames, those that equal an earlier one are counted once each."""
    pairs.sort()
    frame = pl.DataFrame(
        {
            "arrival_s": [float(time) for time, _ in pairs],
            "prompt_tokens": [length for _, length in pairs],
            "output_tokens": [1] * len(pairs),
        }
    )
    tally = Tally()
    for part in frame.iter_slices(-(-len(pairs) // parts)):
        tally.add(part)
    (found,) = (each for each in tally.findings({}) if each.check == "duplicates")
    repeated = len(pairs) - len(set(pairs))
    assert found.text.startswith(f"{repeated} of {len(pairs)} requests" if repeated else "no request")


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
    level, text = findings(frame, rows_sorted=150, steps_back=1)["monotone time"]
    assert level == "warning"
    assert "time starts over (1 time): 150 rows" in text
    assert "the 2 parts of the file lie over each other" in text
    assert "starts over" not in findings(frame, rows_sorted=150, steps_back=40)["monotone time"][1]
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
