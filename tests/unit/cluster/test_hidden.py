"""Images and reasoning in the engine: encoder time, and when the user sees a first token."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import servesim
from servesim.errors import ServesimError

STEP = {"name": "constant", "step_s": 1.0}


def scenario(rows: list[dict[str, Any]], path: Any, **engine: Any) -> servesim.Scenario:
    """Return a scenario of one replica with steps of 1 s that serves *rows*."""
    pl.DataFrame(rows).write_parquet(path / "requests.parquet")
    return servesim.Scenario.model_validate(
        {
            "name": "hidden",
            "workload": {"source": {"reader": "table", "path": str(path / "requests.parquet")}},
            "cluster": {
                "pools": [
                    {
                        "name": "main",
                        "model": "llama-3.1-8b",
                        "gpu": "h100-sxm",
                        "latency": STEP,
                        "engine": {"kv_blocks": 1000, **engine},
                    }
                ]
            },
        }
    )


def row(arrival_s: float, prompt: int, output: int, **parts: int) -> dict[str, Any]:
    """Return a request."""
    return {
        "arrival_s": arrival_s,
        "prompt_tokens": prompt,
        "output_tokens": output,
        "image_tokens": parts.get("image_tokens"),
        "reasoning_tokens": parts.get("reasoning_tokens"),
    }


@pytest.mark.parametrize("leap", [True, False])
def test_the_first_visible_token(tmp_path, leap):
    """Steps of 1 s: token k comes at k s; after 2 tokens of reasoning the third is seen, at 3 s."""
    rows = [row(0.0, 8, 5, reasoning_tokens=2), row(0.0, 8, 5), row(0.0, 8, 5, reasoning_tokens=0)]
    result = servesim.run(scenario(rows, tmp_path, leap=leap))
    assert result.requests["ttft_s"].to_list() == [1.0, 1.0, 1.0]
    assert result.requests["ttft_visible_s"].to_list() == [3.0, 1.0, 1.0]
    assert result.summary["ttft_visible_s_mean"] == pytest.approx(5.0 / 3.0)


@pytest.mark.parametrize("leap", [True, False])
def test_reasoning_to_the_end_and_to_the_last_token_but_one(tmp_path, leap):
    """All 4 tokens reasoning: nothing is seen; 3 of 4: the last one is, when the request ends."""
    rows = [row(0.0, 8, 4, reasoning_tokens=4), row(0.0, 8, 4, reasoning_tokens=3)]
    requests = servesim.run(scenario(rows, tmp_path, leap=leap)).requests
    assert requests["ttft_visible_s"].to_list() == [None, 4.0]
    assert requests["finished_s"].to_list() == [4.0, 4.0]


@pytest.mark.parametrize("leap", [True, False])
def test_a_preemption_delays_what_is_visible(tmp_path, leap):
    """Two requests of 16 + 30 tokens and 5 blocks of 16: the second one is preempted while it reasons.

    Both emit token 1 at 1 s. At 17 s each holds 32 tokens, 2 blocks each; the step to 18 s needs a third block for both
    and there is one: the second request leaves with 17 tokens. The first emits its last one at 30 s. The second then
    recomputes 33 tokens in one step, which emits its token 18 at 31 s; token 21 comes at 34 s.
    """
    rows = [row(0.0, 16, 30, reasoning_tokens=20), row(0.0, 16, 30, reasoning_tokens=20)]
    result = servesim.run(scenario(rows, tmp_path, leap=leap, kv_blocks=5))
    assert result.requests["preemptions"].to_list() == [0, 1]
    assert result.requests["ttft_visible_s"].to_list() == [21.0, 34.0]


@pytest.mark.parametrize("leap", [True, False])
def test_the_encoder_delays_the_step_that_begins_the_prompt(tmp_path, leap):
    """100 tokens of an image at 20 ms each add 2 s to the first step only, for the whole batch."""
    rows = [row(0.0, 150, 3, image_tokens=100), row(0.0, 50, 3)]
    engine = {"encoder_s_per_token": 0.02, "max_num_batched_tokens": 256}
    result = servesim.run(scenario(rows, tmp_path, leap=leap, **engine))
    assert result.requests["first_token_s"].to_list() == [3.0, 3.0]
    assert result.requests["finished_s"].to_list() == [5.0, 5.0]
    assert result.requests["image_tokens"].to_list() == [100, None]


@pytest.mark.parametrize("leap", [True, False])
def test_a_long_prompt_is_encoded_once(tmp_path, leap):
    """1,000 tokens in chunks of 256: four steps, of which the first has the encoder's 2 s."""
    rows = [row(0.0, 1000, 1, image_tokens=100)]
    engine = {"encoder_s_per_token": 0.02, "max_num_batched_tokens": 256}
    result = servesim.run(scenario(rows, tmp_path, leap=leap, **engine))
    assert result.requests["first_token_s"].to_list() == [6.0]


def test_runs_without_such_requests_have_no_such_columns(tmp_path):
    """What a workload does not have is no column, key or byte of its result."""
    rows = [{"arrival_s": 0.0, "prompt_tokens": 8, "output_tokens": 5}]
    result = servesim.run(scenario(rows, tmp_path))
    assert not {"image_tokens", "reasoning_tokens", "ttft_visible_s"} & set(result.requests.columns)
    assert not [key for key in result.summary if key.startswith("ttft_visible_s")]


def test_a_saved_result_has_the_columns(tmp_path):
    """They are saved with the frame, and taken for what they are when it is loaded."""
    run = scenario([row(0.0, 8, 5, reasoning_tokens=2)], tmp_path)
    servesim.run(run, out=tmp_path / "out")
    loaded = servesim.RunResult.load(tmp_path / "out")
    assert loaded.requests["ttft_visible_s"].to_list() == [3.0]
    assert loaded.fingerprint() == servesim.run(run).fingerprint()


def test_lengths_that_are_scaled_keep_the_shares(tmp_path):
    """Half of 100 tokens, of which 41 are images: 50, of which 20 (rounded down)."""
    run = scenario([row(0.0, 100, 10, image_tokens=41, reasoning_tokens=5)], tmp_path)
    halved = run.model_copy(
        update={
            "workload": run.workload.model_copy(
                update={"prompt_tokens": type(run.workload).model_validate(
                    {"source": {"reader": "azure"}, "prompt_tokens": {"scale": 0.5}}
                ).prompt_tokens}
            )
        }
    )  # fmt: skip
    requests = servesim.run(halved).requests
    assert requests.select("prompt_tokens", "image_tokens", "reasoning_tokens").row(0) == (50, 20, 5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"image_tokens": 9}, "image_tokens: unusable value .got 9.. expected at most prompt_tokens"),
        ({"reasoning_tokens": 6}, "reasoning_tokens: unusable value .got 6.. expected at most output_tokens"),
        ({"image_tokens": -1}, "image_tokens: unusable value"),
    ],
)
def test_parts_beyond_the_whole(tmp_path, parts, message):
    """More images than prompt, or more reasoning than output, is refused."""
    with pytest.raises(ServesimError, match=message):
        servesim.run(scenario([row(0.0, 8, 5, **parts)], tmp_path))
