"""Generators: mean gaps, burstiness, ends, and that nothing but the seed decides."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from workloads import arrivals, build, collect

from servesim.errors import ScenarioError
from servesim.generators.arrivals import weibull_shape
from servesim.workload.registries import GENERATORS
from servesim.workload.schema import CHUNK_ROWS

LENGTHS: dict[str, Any] = {
    "prompt_tokens": {"distribution": "lognormal", "mean": 512, "sigma": 0.8},
    "output_tokens": {
        "distribution": "mixture",
        "components": [
            {"weight": 1, "tokens": {"distribution": "exponential", "mean": 300}},
            {"weight": 2, "tokens": {"distribution": "zipf", "a": 1.1, "max": 1000}},
        ],
    },
}
BURSTS = [{"rate_per_s": 100.0, "mean_s": 1.0}, {"rate_per_s": 0.0, "mean_s": 4.0}]
GAPS: dict[str, dict[str, Any]] = {
    "poisson": {"rate_per_s": 40},
    "gamma": {"rate_per_s": 40, "cv": 2.5},
    "weibull": {"rate_per_s": 40, "cv": 2.5},
    "constant": {"rate_per_s": 40},
    "mmpp": {"states": BURSTS},
}


def generator(name: str, **parameters: Any) -> dict[str, Any]:
    """Return a workload block with one generator."""
    return {"generator": {"name": name, **LENGTHS, **GAPS[name], **parameters}}


def gaps(name: str, **parameters: Any) -> np.ndarray:
    """Return gaps between arrivals, the first one from 0."""
    return np.diff(np.array([0.0, *arrivals(generator(name, **parameters))]))


TESTED_ELSEWHERE = {"burstgpt", "servegen", "closed_loop", "sessions"}


def test_every_built_in_generator_is_tested_here() -> None:
    """A new one has to join the tests below, or have tests of its own."""
    assert set(GAPS) | TESTED_ELSEWHERE == set(GENERATORS.builtin)


@pytest.mark.parametrize(
    ("name", "cv"), [("poisson", 1.0), ("gamma", 2.5), ("gamma", 0.5), ("weibull", 2.5), ("weibull", 0.5)]
)
def test_gaps_have_the_asked_mean_and_variation(name: str, cv: float) -> None:
    """300,000 gaps: the mean within five standard errors of 1/rate, the coefficient of variation within 5
    %.
    """
    n = 300_000
    parameters = {} if name == "poisson" else {"cv": cv}
    drawn = gaps(name, requests=n, **parameters)
    assert abs(drawn.mean() - 1 / 40) < 5 * cv / 40 / n**0.5
    assert drawn.std() / drawn.mean() == pytest.approx(cv, rel=0.05)


def test_a_weibull_shape_may_be_given_directly() -> None:
    """Shape 1/2 has a coefficient of variation of sqrt(5), by the moments 1! and 4!/2 of its gamma
    functions.
    """
    drawn = gaps("weibull", requests=300_000, cv=None, shape=0.5)
    assert drawn.mean() == pytest.approx(1 / 40, rel=0.03)
    assert drawn.std() / drawn.mean() == pytest.approx(5**0.5, rel=0.05)


@pytest.mark.parametrize("shape", [0.4176, 1.0, 2.0, 10.0])
def test_the_weibull_shape_of_a_variation(shape: float) -> None:
    """From a shape to its variation and back."""
    cv = math.sqrt(math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1)
    assert weibull_shape(cv) == pytest.approx(shape, rel=1e-9)


def test_constant_arrivals_are_exact() -> None:
    """The k-th arrival is k/rate, without the drift of a sum."""
    times = arrivals(generator("constant", rate_per_s=3, requests=CHUNK_ROWS + 5))
    assert times[:4] == [0.0, 1 / 3, 2 / 3, 1.0]
    assert times[CHUNK_ROWS + 4] == (CHUNK_ROWS + 4) / 3


def test_on_off_bursts_have_their_mean_rate_and_dispersion() -> None:
    """100/s for 1 s in 5 s is 20/s; the counts' dispersion far exceeds Poisson's, as theory says.

    For an on-off process of rates (r, 0), leaving on at 1/1 s and off at 1/4 s, the asymptotic index of
    dispersion of counts is 1 + 2 * r^2 * p * q / (a + b) / (r * p) with p = 0.2, q = 0.8, a + b = 1.25: 1 +
    2*100*0.8/1.25 = 129.
    """
    times = np.array(arrivals(generator("mmpp", duration_s=100_000)))
    window_s = 100
    counts = np.histogram(times, bins=np.arange(0, 100_001, window_s))[0]
    assert len(times) / 100_000 == pytest.approx(20, abs=5 * (129 * 20 / 100_000) ** 0.5)
    assert counts.var() / counts.mean() == pytest.approx(129, rel=0.2)


def test_a_burst_process_starts_in_equilibrium() -> None:
    """Over 600 seeds, the first second has the mean rate's arrivals: not always on (66 %), nor always off (9
    %).
    """
    one = {"distribution": "constant", "value": 1}
    states = [{"rate_per_s": 10_000.0, "mean_s": 1.0}, {"rate_per_s": 0.0, "mean_s": 4.0}]
    parameters = {"states": states, "prompt_tokens": one, "output_tokens": one, "duration_s": 1.0}
    process = GENERATORS.build("mmpp", parameters)
    counts = [next(process.frames(seed)).height for seed in range(600)]
    assert np.mean(counts) == pytest.approx(2000, abs=4 * np.std(counts) / 600**0.5)


def test_states_of_one_rate_are_a_poisson_process() -> None:
    """If switching changes nothing, gaps are exponential."""
    states = [{"rate_per_s": 40, "mean_s": 0.01}, {"rate_per_s": 40, "mean_s": 0.5}]
    drawn = gaps("mmpp", states=states, requests=200_000)
    assert drawn.mean() == pytest.approx(1 / 40, rel=0.015)
    assert drawn.std() / drawn.mean() == pytest.approx(1.0, rel=0.015)


@pytest.mark.parametrize("name", GAPS)
def test_a_longer_run_begins_with_the_shorter_one(name: str) -> None:
    """Not a request changes when more are asked for, nor when time ends the stream, nor by how much is
    consumed.
    """
    long = collect(generator(name, requests=2 * CHUNK_ROWS + 10))
    short = collect(generator(name, requests=CHUNK_ROWS + 100))
    assert short.equals(long.head(CHUNK_ROWS + 100))
    end_s = long["arrival_s"][CHUNK_ROWS + 7]
    assert collect(generator(name, duration_s=end_s)).equals(long.filter(pl.col("arrival_s") < end_s))
    assert collect(generator(name) | {"max_requests": 1000}).equals(long.head(1000))
    some = build(generator(name, requests=2 * CHUNK_ROWS)).frames()
    assert pl.concat(list(itertools.islice(some, 1))).equals(long.head(CHUNK_ROWS))


@pytest.mark.parametrize("name", GAPS)
def test_arrivals_are_in_order_and_lengths_positive(name: str) -> None:
    """What the schema promises, over three chunks."""
    requests = collect(generator(name, requests=150_000))
    assert requests["arrival_s"].is_sorted()
    assert requests["arrival_s"][0] >= 0
    assert requests["prompt_tokens"].min() >= 1  # type: ignore[operator]
    assert requests["prompt_tokens"].mean() == pytest.approx(512, rel=0.02)


def test_another_seed_gives_other_requests() -> None:
    """And the same seed the same ones."""
    first, again, other = (collect(generator("poisson", requests=100), seed=seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not other["arrival_s"].equals(first["arrival_s"])
    assert not other["prompt_tokens"].equals(first["prompt_tokens"])


def test_lengths_do_not_depend_on_the_arrivals() -> None:
    """Streams are named: another process of arrivals leaves the lengths as they are."""
    poisson, bursts = collect(generator("poisson", requests=100)), collect(generator("mmpp", requests=100))
    assert poisson["prompt_tokens"].equals(bursts["prompt_tokens"])


def test_prompt_and_output_lengths_are_independent() -> None:
    """No common random number: the rank correlation of 50,000 requests is nil."""
    requests = collect(generator("poisson", requests=50_000))
    correlation = requests.select(pl.corr("prompt_tokens", "output_tokens", method="spearman")).item()
    assert abs(correlation) < 5 / 50_000**0.5


def test_the_hash_seed_does_not_matter(root: Path) -> None:
    """Processes whose strings hash differently generate the same bytes."""
    code = (
        "import json, sys, hashlib; from servesim.workload.spec import WorkloadSpec;"
        "from servesim.workload.build import build_workload;"
        "w = build_workload(WorkloadSpec.model_validate(json.loads(sys.argv[1])), seed=3);"
        "[print(hashlib.sha256(f.write_csv().encode()).hexdigest()) for f in"
        " (f.drop('prefix_blocks') for f in w.frames())]"
    )
    spec = generator("gamma", requests=500)
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(spec)],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    here = collect(spec, seed=3).drop("prefix_blocks").write_csv()
    assert digests == {hashlib.sha256(here.encode()).hexdigest()}


def test_weibull_takes_one_of_cv_and_shape() -> None:
    """Both and none are refused before the run."""
    for parameters in ({"cv": None}, {"shape": 1.0}):
        with pytest.raises(ScenarioError, match="expected exactly one"):
            build(generator("weibull", requests=1, **parameters))


def test_silence_alone_is_refused() -> None:
    """A process all of whose states have rate 0 would never send a request."""
    with pytest.raises(ScenarioError, match="every state is silent"):
        build(generator("mmpp", states=[{"rate_per_s": 0, "mean_s": 1}], requests=1))
