"""Speculative decoding: what is drawn, what a step takes, what memory and results hold, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Linear, engine, run

import servesim
from servesim import Scenario
from servesim.catalog.speculative import Speculation, _entries, length_of, ratio_of
from servesim.cluster.build import build_pool
from servesim.cluster.speculative import Drafts
from servesim.errors import ScenarioError
from servesim.latency.api import BatchShape
from servesim.testing import assert_results_equal, step_by_step


def speculation(draft_tokens: int, ratio: float) -> Speculation:
    """Return how an engine drafts by n-grams."""
    return Speculation(method="ngram", draft_tokens=draft_tokens, acceptance_ratio=ratio)


def scenario(speculative: dict | None, *, concurrency_rate: float = 5.0, **pool) -> Scenario:
    """Return 60 requests to one replica."""
    block = {} if speculative is None else {"speculative": speculative}
    return Scenario.model_validate(
        {
            "name": "s",
            "workload": {
                "generator": {
                    "name": "poisson",
                    "rate_per_s": concurrency_rate,
                    "requests": 60,
                    "prompt_tokens": {"distribution": "constant", "value": 300},
                    "output_tokens": {"distribution": "lognormal", "mean": 150, "sigma": 0.5},
                }
            },
            "cluster": {
                "pools": [
                    {"name": "main", "model": "llama-3.1-8b", "gpu": "h100-sxm", "engine": block, **pool}
                ]
            },
        }
    )


@pytest.mark.parametrize("draft_tokens", [1, 3, 7])
@pytest.mark.parametrize("ratio", [0.3, 0.8])
def test_steps_drawn_have_the_mean_acceptance_length(draft_tokens, ratio):
    """Tokens over steps is the acceptance length, but for what the last step emits too much."""
    drafts = Drafts(speculation(draft_tokens, ratio), seed=1)
    steps = np.array([drafts.steps(number, 2000) for number in range(400)])
    error = steps.std() / len(steps) ** 0.5
    expected = 2000 / length_of(ratio, draft_tokens)
    assert expected - 4 * error < steps.mean() < expected + 1 + 4 * error
    assert (steps >= 2000 / (1 + draft_tokens)).all()


def test_all_or_nothing():
    """Where all is accepted, steps emit 1 + k tokens; where nothing is, one."""
    assert Drafts(speculation(3, 1.0), seed=0).steps(5, 9) == 3
    assert Drafts(speculation(3, 0.0), seed=0).steps(5, 9) == 9


def test_draws_are_those_of_the_request():
    """Order does not matter, the seed does."""
    first, second = (Drafts(speculation(3, 0.5), seed=0) for _ in range(2))
    assert [first.steps(n, 500) for n in range(9)] == [second.steps(n, 500) for n in reversed(range(9))][::-1]
    other = Drafts(speculation(3, 0.5), seed=1)
    assert [first.steps(n, 500) for n in range(9)] != [other.steps(n, 500) for n in range(9)]


def test_tokens_are_spread_over_steps():
    """Ten tokens, all accepted, three drafted: one at the end of the prefill, nine in three steps."""
    result = run([(0, 4, 10)], settings=engine(speculative=speculation(2, 1.0)), latency=Linear(1.0))
    assert result.times("finished_s") == [4.0]
    assert result.outcomes["output_tokens"].tolist() == [10]
    assert result.speculations["decode_steps"].tolist() == [3]


def test_every_measured_length_is_that_of_a_probability():
    """Lengths lie between 1 and 1 + k, and the probability gives them back."""
    for entry in _entries().values():
        for drafted, length in enumerate(entry.lengths, start=1):
            assert length_of(ratio_of(length, drafted), drafted) == pytest.approx(length, abs=1e-9)
        assert entry.source.startswith("https://")


@pytest.mark.parametrize(
    "speculative",
    [
        {"method": "eagle", "draft_tokens": 3, "acceptance_length": 2.5},
        {"method": "eagle3", "draft_tokens": 4, "acceptance": "kimi-k2.5-eagle3-thinking-on"},
        {"method": "ngram", "draft_tokens": 2, "acceptance_ratio": 0.4},
        {"method": "draft_model", "draft_tokens": 2, "acceptance_ratio": 0.7, "draft_model": "qwen3-0.6b"},
    ],
    ids=lambda value: value["method"],
)
@pytest.mark.parametrize("kv_blocks", [None, 90])
def test_a_leap_is_so_many_steps(speculative, kv_blocks):
    """Results are the same step by step, audited, with and without preemptions."""
    asked = scenario(speculative)
    data = asked.model_dump()
    data["cluster"]["pools"][0]["engine"]["kv_blocks"] = kv_blocks
    asked = Scenario.model_validate(data)
    result = servesim.run(asked)
    assert (result.summary["preemptions"] > 0) == (kv_blocks is not None)
    assert_results_equal(result, servesim.run(step_by_step(asked)))
    times = [result.token_times(number) for number in range(60)]
    assert [len(own) for own in times] == result.requests["output_tokens"].to_list()
    assert result.itl_statistics().count == sum(len(np.unique(own)) - 1 for own in times)
    length = result.summary["speculation"]["acceptance_length_mean"]
    asked_for = build_pool(asked.cluster.pools[0]).engine.speculative.acceptance_length
    assert length == pytest.approx(asked_for, rel=0.1)


def test_results_have_no_trace_of_what_is_off():
    """Without it there is no column and no key."""
    result = servesim.run(scenario(None))
    assert "decode_steps" not in result.requests.columns
    assert "speculation" not in result.summary


def test_a_step_is_dearer_and_a_large_batch_pays_more():
    """Verifying costs little beside reading the weights, and much where matrices are bound by computing."""
    plain = build_pool(scenario(None).cluster.pools[0]).latency
    drafting = {"method": "eagle", "draft_tokens": 3, "acceptance_ratio": 0.7}
    latency = build_pool(scenario(drafting).cluster.pools[0]).latency
    ratios = [
        latency.price(batch)[0] / plain.price(batch)[0]
        for batch in (BatchShape(1, 500), BatchShape(256, 256 * 500))
    ]
    assert 1.0 < ratios[0] < 1.35
    assert ratios[1] > 1.4


def test_drafting_much_slows_a_full_server_down():
    """Llama-3.1-70B on four GPUs: seven drafted tokens help one sequence, and 256 have fewer tokens per second."""
    large = {"model": "llama-3.1-70b", "tensor_parallel": 4}
    drafting = {"method": "eagle3", "draft_tokens": 7, "acceptance": "kimi-k2.5-eagle3-thinking-on"}
    plain = build_pool(scenario(None, **large).cluster.pools[0]).latency
    latency = build_pool(scenario(drafting, **large).cluster.pools[0]).latency
    gains = [
        3.71 * plain.price(batch)[0] / latency.price(batch)[0]
        for batch in (BatchShape(1, 1000), BatchShape(256, 256_000))
    ]
    assert gains[0] > 2.0
    assert gains[1] < 1.0


def test_what_drafts_takes_memory():
    """A layer takes its weights and its cache, a model all of its own; n-grams take nothing."""

    def blocks(speculative: dict | None) -> int:
        return build_pool(scenario(speculative).cluster.pools[0]).engine.kv_blocks

    drafting = {"draft_tokens": 3, "acceptance_ratio": 0.7}
    plain = blocks(None)
    assert blocks({"method": "ngram", **drafting}) == plain
    layer = blocks({"method": "eagle", **drafting})
    assert 0.94 * plain < layer < plain * 32 / 33
    assert blocks({"method": "draft_model", "draft_model": "qwen3-0.6b", **drafting}) < layer


@pytest.mark.parametrize(
    ("speculative", "pool", "message"),
    [
        ({"draft_tokens": 0, "acceptance_ratio": 0.5}, {}, "draft_tokens"),
        ({"method": "medusa", "acceptance_ratio": 0.5}, {}, "method"),
        ({"acceptance_ratio": 1.5}, {}, "acceptance_ratio"),
        ({"acceptance_ratio": -0.5}, {}, "acceptance_ratio"),
        ({"acceptance_length": 4.5}, {}, "expected at most 1 \\+ draft_tokens, 4"),
        ({}, {}, "got none"),
        ({"acceptance_ratio": 0.5, "acceptance_length": 2.0}, {}, "acceptance_length and acceptance_ratio"),
        ({"acceptance": "kimi"}, {}, "not in the catalog"),
        ({"acceptance": "qwen3.5-mtp-thinking-on"}, {}, "method: mtp"),
        ({"acceptance": "kimi-k2.5-eagle3-thinking-on", "draft_tokens": 9}, {}, "at most 8"),
        ({"method": "draft_model", "acceptance_ratio": 0.5}, {}, "expected both or none"),
        ({"acceptance_ratio": 0.5, "draft_model": "qwen3-0.6b"}, {}, "expected both or none"),
        ({"method": "draft_model", "draft_model": "gpt-9", "acceptance_ratio": 0.5}, {}, "gpt-9"),
        ({"method": "mtp", "acceptance_ratio": 0.5}, {}, "not known to have layers"),
        ({"acceptance_ratio": 0.5}, {"pipeline_parallel": 2}, "pipeline_parallel: 1"),
        ({"acceptance_ratio": 0.5}, {"data_parallel": 2}, "data_parallel: 1"),
        ({"draft_tokens": 8, "acceptance_ratio": 0.5}, {}, "more drafted tokens than fit a step"),
    ],
)
def test_what_cannot_be_is_refused(speculative, pool, message):
    """Each with a message that says what would do."""
    with pytest.raises((ScenarioError, ValueError), match=message):
        build_pool(scenario({"method": "eagle3", "draft_tokens": 3, **speculative}, **pool).cluster.pools[0])
