"""Generators of closed loops: who waits for whom, how contexts grow, and that a seed fixes it all."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest
from workloads import collect

from servesim.errors import ScenarioError
from servesim.generators.closed_loop import ClosedLoop
from servesim.generators.lengths import ConstantLength, ExponentialLength, LognormalLength, UniformLength
from servesim.generators.sessions import Sessions
from servesim.generators.times import ConstantTime, ExponentialTime, LognormalTime
from servesim.rng import stream

SHORT = UniformLength(low=1, high=40)


def frame(generator, seed=0):
    """Return all requests of a generator."""
    return pl.concat(list(generator.frames(seed)))


def clients(**options):
    """Return a closed loop."""
    defaults = {"clients": 3, "requests": 10, "think_s": ExponentialTime(mean_s=5.0)}
    return ClosedLoop(prompt_tokens=SHORT, output_tokens=SHORT, **(defaults | options))


def talks(**options):
    """Return sessions."""
    defaults = {"rate_per_s": 2.0, "turns": ExponentialLength(mean=4), "think_s": ExponentialTime(mean_s=5.0)}
    return Sessions(prompt_tokens=SHORT, output_tokens=SHORT, **(defaults | {"requests": 500} | options))


def test_clients_take_turns():
    """Ten requests for three clients: 4, 3 and 3, each client's behind each other, its first when it has thought."""
    made = frame(clients())
    counts = made["session"].value_counts().sort("session")
    assert counts.rows() == [("0", 4), ("1", 3), ("2", 3)]
    assert made["arrival_s"].is_sorted()
    for (_,), own in made.group_by("session"):
        assert own["arrival_s"].n_unique() == 1
        assert own["think_s"].is_null().to_list() == [True] + [False] * (len(own) - 1)


def test_clients_without_think_time_come_at_once():
    """The default is what a benchmark does: everybody asks at 0, and again when answered."""
    made = frame(ClosedLoop(clients=2, requests=4, prompt_tokens=SHORT, output_tokens=SHORT))
    assert made["arrival_s"].to_list() == [0.0] * 4
    assert made["think_s"].to_list() == [None, 0.0, None, 0.0]


def test_more_clients_than_requests():
    """Clients that get no request do not appear."""
    assert frame(clients(clients=50, requests=7))["session"].n_unique() == 7


def test_a_longer_closed_loop_begins_with_the_shorter_one():
    """Each client goes on where the shorter run ended it."""
    short, long = frame(clients(requests=1000)), frame(clients(requests=70_000))
    for (session,), own in short.group_by("session"):
        assert own.equals(long.filter(pl.col("session") == session).head(len(own)))


def test_contexts_grow():
    """The prompt of a turn is the system prompt, all earlier prompts and outputs, and something new."""
    made = frame(talks(system_prompt_tokens=100))
    for _, own in made.group_by("session", maintain_order=True):
        prompt, output = own["prompt_tokens"].to_list(), own["output_tokens"].to_list()
        before = [100, *(p + o for p, o in zip(prompt, output, strict=True))]
        new = [p - b for p, b in zip(prompt, before, strict=False)]
        assert all(1 <= tokens <= 40 for tokens in new)
        assert own["think_s"].is_null().to_list() == [True] + [False] * (len(own) - 1)
    assert made["arrival_s"].is_sorted()


def test_the_oldest_is_cut():
    """Where the history is longer than allowed the prompt is as long as allowed."""
    free, cut = frame(talks()), frame(talks(max_prompt_tokens=90))
    assert cut["prompt_tokens"].to_list() == free["prompt_tokens"].clip(upper_bound=90).to_list()
    assert (free["prompt_tokens"] > 90).any()


def test_blocks_are_equal_where_prefixes_are():
    """Against the texts themselves: of each pair of prompts, as many whole blocks share an id as the texts share.

    The texts are made of tokens that are all different but for the system prompt.
    """
    size, most, system = 8, 120, 20
    made = frame(talks(requests=60, system_prompt_tokens=system, max_prompt_tokens=most, block_tokens=size))
    free = frame(talks(requests=60, system_prompt_tokens=system))
    fresh = iter(range(10**6))
    preamble = [next(fresh) for _ in range(system)]
    texts, history, session = [], [], None
    for prompt, output, name in free.select("prompt_tokens", "output_tokens", "session").iter_rows():
        if name != session:
            history, session = list(preamble), name
        history += [next(fresh) for _ in range(prompt - len(history))]
        behind = history[system:]
        texts.append(preamble + behind[max(0, len(history) - most) :])
        history = history + [next(fresh) for _ in range(output)]
    assert [len(text) for text in texts] == made["prompt_tokens"].to_list()
    ids = made["prefix_blocks"].to_list()
    assert [len(row) for row in ids] == [len(text) // size for text in texts]
    assert made["prefix_block_tokens"].unique().to_list() == [size]
    for first, one in zip(ids, texts, strict=True):
        for second, other in zip(ids, texts, strict=True):
            for block, (a, b) in enumerate(zip(first, second, strict=False), start=1):
                assert (a == b) == (one[: block * size] == other[: block * size])
    assert any(len(text) == most for text in texts)
    flat = [block for row in ids for block in row]
    assert len(set(flat)) == len(
        {tuple(text[: (n + 1) * size]) for text in texts for n in range(len(text) // size)}
    )


def test_a_longer_run_begins_with_the_sessions_of_a_shorter_one():
    """Whatever ends it: the number of requests, or a time at which no session begins any more."""
    long = frame(talks(requests=30_000, block_tokens=16))
    assert frame(talks(requests=9000, block_tokens=16)).equals(long.head(9000))
    ended = frame(talks(requests=None, duration_s=1000.0, block_tokens=16))
    assert ended.equals(long.filter(pl.col("arrival_s") < 1000.0))
    assert 0 < len(ended) < len(long)


def test_seeds_differ():
    """Another seed makes other sessions."""
    one, other = (frame(talks(block_tokens=16, system_prompt_tokens=64), seed) for seed in (1, 2))
    assert one.equals(frame(talks(block_tokens=16, system_prompt_tokens=64), 1))
    assert not one["arrival_s"].equals(other["arrival_s"])


def test_rates_and_means():
    """A rate of 2 sessions/s with 4 turns of geometric number, think times of mean 5 s; gaps with the cv asked for."""
    made = frame(talks(requests=200_000, cv=3.0))
    starts_s = made.filter(pl.col("think_s").is_null())["arrival_s"].to_numpy()
    assert len(made) / len(starts_s) == pytest.approx(4.0, rel=0.03)
    assert len(starts_s) / starts_s[-1] == pytest.approx(2.0, rel=0.05)
    gaps_s = np.diff(starts_s)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(3.0, rel=0.05)
    assert made["think_s"].mean() == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize(
    ("distribution", "mean", "deviation"),
    [
        (ConstantTime(value_s=2.5), 2.5, 0.0),
        (ExponentialTime(mean_s=3.0), 3.0, 3.0),
        (LognormalTime(mean_s=4.0, sigma=0.5), 4.0, 4.0 * np.sqrt(np.expm1(0.25))),
    ],
)
def test_times(distribution, mean, deviation):
    """Mean and standard deviation are those of the distribution."""
    drawn = distribution.sample(stream(0, "times"), 200_000)
    assert drawn.mean() == pytest.approx(mean, rel=0.01)
    assert drawn.std() == pytest.approx(deviation, rel=0.02, abs=1e-12)


def test_a_system_prompt_that_fills_the_prompt_is_refused():
    """There would be no room for what is asked."""
    with pytest.raises(ScenarioError, match="no room behind the system prompt"):
        talks(system_prompt_tokens=100, max_prompt_tokens=100)


def test_in_a_scenario():
    """Both are found by name, their parameters checked, and pass the checks of generated requests."""
    lengths = {
        "prompt_tokens": {"distribution": "constant", "value": 5},
        "output_tokens": {"distribution": "constant", "value": 7},
    }
    closed = {
        "name": "closed_loop",
        "clients": 2,
        "requests": 6,
        "think_s": {"distribution": "constant", "value_s": 1.5},
    }
    open_ = {
        "name": "sessions",
        "rate_per_s": 1.0,
        "requests": 70_000,
        "turns": {"distribution": "constant", "value": 3},
        "think_s": {"distribution": "lognormal", "mean_s": 2.0, "sigma": 1.0},
        "block_tokens": 4,
    }
    assert collect({"generator": closed | lengths})["think_s"].to_list() == [None, 1.5, 1.5] * 2
    assert collect({"generator": open_ | lengths})["prompt_tokens"].head(4).to_list() == [5, 17, 29, 5]


def test_speed():
    """At least 500,000 requests/s; measured are 2 to 6 million."""
    generator = Sessions(
        rate_per_s=10.0,
        turns=ExponentialLength(mean=5),
        think_s=ExponentialTime(mean_s=1.0),
        prompt_tokens=LognormalLength(mean=100, sigma=1.0),
        output_tokens=ConstantLength(value=100),
        max_prompt_tokens=8000,
        block_tokens=512,
        requests=300_000,
    )
    started_s = time.process_time()
    rows = sum(made.height for made in generator.frames(0))
    assert rows / (time.process_time() - started_s) > 500_000
