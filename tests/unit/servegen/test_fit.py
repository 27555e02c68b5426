"""Fitting a pool to requests: from known processes and back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pools import write
from workloads import collect

from servesim.errors import TraceError
from servesim.servegen.compose import Plan, Span, slots_of
from servesim.servegen.draws import requests_of
from servesim.servegen.fit import _fits, fit_pool, gamma_shape
from servesim.servegen.renewal import weibull_cv


def requests(**columns: object) -> pl.DataFrame:
    """Return requests of one token each, with more columns."""
    frame = pl.DataFrame(columns)
    missing = [name for name in ("prompt_tokens", "output_tokens") if name not in frame.columns]
    return frame.with_columns(pl.lit(1).alias(name) for name in missing)


@pytest.mark.parametrize("shape", [0.15, 0.5, 3.0])
@pytest.mark.parametrize("weibull", [False, True])
def test_the_likelier_family_and_its_parameters_are_found(shape: float, weibull: bool) -> None:
    """Eight samples of 20,000 gaps: the family each time, shape and scale as scipy finds them."""
    from scipy import stats

    rng = np.random.default_rng(7)
    gaps = rng.weibull(shape, 160_000) if weibull else rng.gamma(shape, 1.0, 160_000)
    fits = _fits(3.0 * gaps, np.full(8, 20_000))
    assert (fits["weibull"] == weibull).all()
    family = stats.weibull_min if weibull else stats.gamma
    expected, _, scale = family.fit(3.0 * gaps[:20_000], floc=0)
    assert fits["shape"][0] == pytest.approx(expected, rel=1e-3)
    assert fits["scale"][0] == pytest.approx(scale, rel=3e-3)


def test_no_weibull_law_has_a_cv_that_its_sample_cannot_have() -> None:
    """100 samples of 60 gaps whose law has a CV of 8.3, where 60 gaps have 7.7 at most."""
    gaps = np.random.default_rng(3).weibull(0.25, 6_000)
    fits = _fits(gaps, np.full(100, 60))
    kept = weibull_cv(fits["shape"][fits["weibull"]].astype(float))
    assert 10 < len(kept) < 90
    assert kept.max() <= np.sqrt(59)
    assert (fits["cv"] <= np.sqrt(59)).all()


def test_bursty_clients_are_fitted_without_bias() -> None:
    """Gamma gaps with a CV of 4 in six hours: eight seeds of the fitted pool have its rate within 3 %."""
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.gamma(1 / 16, 16 * 4.0, 9_000))
    times = times[times < 21_600]
    pool = fit_pool(requests(arrival_s=times, tenant=["a"] * len(times)))
    plan = Plan(pool, slots_of(pool, [0], Span(end_s=21_600)), None, 1.0)
    found = [sum(frame.height for frame in requests_of(plan, seed, end_s=21_600.0)) for seed in range(8)]
    assert np.mean(found) == pytest.approx(len(times), rel=0.03)


def test_the_equation_of_the_gamma_shape_is_solved() -> None:
    """What is left of ln k minus digamma(k) of the answer is what was given."""
    from scipy.special import digamma

    excess = np.geomspace(1e-4, 50, 40)
    shape = gamma_shape(excess)
    assert np.log(shape) - digamma(shape) == pytest.approx(excess, rel=1e-6)


def test_rates_are_counted_per_window_and_lengths_per_six_hours() -> None:
    """Two clients; the second one sends in the second six hours only."""
    times = [0.0, 1.0, 700.0, 21_600.0, 21_601.0]
    pool = fit_pool(
        requests(
            arrival_s=times,
            tenant=["a", "a", "a", "b", "a"],
            prompt_tokens=[5, 5, 9, 7, 8],
            output_tokens=[1] * 5,
        )
    )
    assert pool.clients == ("a", "b")
    assert pool.windows == 72
    found = pool.activity.select("client", "window", "requests", "weibull", "shape").rows()
    assert found == [(0, 0, 2, False, 1), (0, 1, 1, False, 1), (0, 36, 1, False, 1), (1, 36, 1, False, 1)]
    values, shares = pool.lengths.histogram(int(pool.histograms("input_tokens")[0, 0]))
    assert (values.tolist(), shares.tolist()) == ([5, 9], pytest.approx([2 / 3, 1 / 3]))


def test_a_fitted_pool_generates_what_it_was_fitted_to(tmp_path: Path) -> None:
    """Rate, CV and lengths of two clients come back from requests that are generated from the fit."""
    rng = np.random.default_rng(3)
    gaps = {"calm": rng.gamma(2.0, 0.5, 40_000), "bursty": rng.weibull(0.5, 20_000)}
    given = pl.concat(
        requests(
            arrival_s=np.cumsum(gap), tenant=[name] * len(gap), prompt_tokens=rng.integers(1, 500, len(gap))
        )
        for name, gap in gaps.items()
    )
    path = write(tmp_path / "own.trace.parquet", fit_pool(given))
    made = collect({"generator": {"name": "servegen", "path": str(path), "duration_s": 36_000.0}})
    for name, cv in (("calm", 0.5**0.5), ("bursty", 5**0.5)):
        mine, was = made.filter(pl.col("tenant") == name), given.filter(pl.col("tenant") == name)
        expected = was.filter(pl.col("arrival_s") < 36_000)
        drawn = np.diff(mine["arrival_s"].to_numpy())
        assert mine.height == pytest.approx(expected.height, rel=0.06)
        assert drawn.std() / drawn.mean() == pytest.approx(cv, rel=0.1)
        assert mine["prompt_tokens"].median() == pytest.approx(expected["prompt_tokens"].median(), rel=0.05)  # type: ignore[arg-type]


def test_equal_times_are_spread_over_the_resolution() -> None:
    """Three requests in each whole second are thirds of it apart; pairs at times of microseconds are bursts."""
    coarse = fit_pool(requests(arrival_s=np.repeat(np.arange(0, 100.0), 3), tenant=["a"] * 300))
    row = coarse.activity.row(0, named=True)
    assert row["requests"] == 300
    assert row["cv"] == pytest.approx(0.0, abs=1e-9)
    times = np.repeat(np.round(np.random.default_rng(0).uniform(0, 600, 100), 6), 2)
    row = fit_pool(requests(arrival_s=times, tenant=["a"] * 200)).activity.row(0, named=True)
    assert row["cv"] > 1.4
    assert row["shape"] < 0.5


def test_gaps_below_the_resolution_of_floats_can_be_fitted() -> None:
    """Bursts so short that, late in a trace, requests of different times get the same one, and others nearly so."""
    gaps = np.random.default_rng(5).gamma(0.1, 1.0, 3000)
    times = 50_000 + np.cumsum(gaps)
    steps = np.diff(times)
    assert (steps == 0).any()
    assert (steps[steps > 0].min() > 0) and (steps[steps > 0].min() < 1e-10)
    activity = fit_pool(requests(arrival_s=times, tenant=["a"] * 3000)).activity
    assert activity["shape"].is_finite().all()
    assert np.average(activity["shape"], weights=activity["requests"]) == pytest.approx(0.1, rel=0.15)


def test_reasoning_and_images_become_fields() -> None:
    """A share in 501sts; text, number and tokens of images."""
    base = {"arrival_s": [0.0, 1.0], "tenant": ["a", "a"], "output_tokens": [100, 100]}
    reason = fit_pool(requests(**base, prompt_tokens=[5, 5], reasoning_tokens=[50, 50]))
    assert reason.lengths.histogram(int(reason.histograms("reason_ratio")[0, 0]))[0].tolist() == [250]
    images = fit_pool(requests(**base, prompt_tokens=[500, 80], image_tokens=[420, None]))
    found = {
        field: images.lengths.histogram(int(images.histograms(field)[0, 0]))[0].tolist()
        for field in images.lengths.fields
        if images.histograms(field)[0, 0] >= 0
    }
    assert found["text_tokens"] == [80]
    assert found["image_count"] == [0, 1]
    assert found["image_tokens"] == [420]


def test_the_how_to_fits_a_pool_that_generates(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's code runs; what it writes is a pool of the sample's tenants."""
    page = (root / "docs" / "how-to" / "generate-from-clients.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "traces").symlink_to(root / "traces")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    made = collect({"generator": {"name": "servegen", "path": str(tmp_path / "own.trace.parquet")}})
    sample = pl.read_csv(root / "traces" / "table_sample.csv")
    assert set(made["tenant"]) == set(sample["team"])
    assert made.height == pytest.approx(sample.height, rel=0.2)


def test_sessions_may_be_clients() -> None:
    """By the column that is named."""
    pool = fit_pool(requests(arrival_s=[0.0, 1.0], session=["x", "y"]), by="session")
    assert pool.clients == ("x", "y")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"arrival_s": [], "tenant": []}, "no requests"),
        ({"arrival_s": [0.0]}, "tenant: requests without a client (got 1)"),
        ({"arrival_s": [0.0, 1.0], "tenant": ["a", None]}, "tenant: requests without a client (got 1)"),
        (
            {"arrival_s": [0.0, 0.0], "tenant": ["a", "a"], "think_s": [None, 3.0]},
            "think_s: requests without a time",
        ),
    ],
)
def test_requests_that_say_too_little_are_refused(columns: dict[str, list[object]], message: str) -> None:
    """By what is missing."""
    with pytest.raises(TraceError) as error:
        fit_pool(requests(**columns))
    assert message in str(error.value)
