"""Choosing clients, spans and rates of a pool of known numbers, and the requests that come of it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pools import FULL, LENGTHS, pool_of, write
from workloads import build, collect

from servesim.errors import PluginError, ScenarioError, TraceError
from servesim.servegen.compose import Plan, chosen, slots_of, window_rates
from servesim.servegen.draws import arrivals_of
from servesim.servegen.generator import ServeGen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a pool of three clients over six hours: 600, 300 and 60 requests per window; the last fills a tenth."""
    return write(tmp_path / "three.trace.parquet", pool_of())


def block(path: Path, **parameters: Any) -> dict[str, Any]:
    """Return a workload block."""
    return {"generator": {"name": "servegen", "path": str(path), **parameters}}


def counts(requests: pl.DataFrame) -> dict[str, int]:
    """Return how many requests each tenant has."""
    return dict(requests.group_by("tenant").len().rows())


def test_every_client_keeps_its_rate_and_its_name(path: Path) -> None:
    """Over 36 windows the counts are those of the pool, up to five standard errors of renewal counts."""
    found = counts(collect(block(path)))
    for client, per_window in (("a", 600), ("b", 300), ("c", 60)):
        assert found[client] == pytest.approx(36 * per_window, abs=5 * (36 * per_window) ** 0.5)


def test_the_span_ends_the_stream(path: Path) -> None:
    """Without duration or requests it is played once; with a longer duration it starts over."""
    once = build(block(path, span={"start_s": 600, "end_s": 1800}))
    arrivals = pl.concat(list(once.frames()))["arrival_s"]
    assert 1150 < arrivals[-1] < 1200
    twice = collect(block(path, span={"start_s": 600, "end_s": 1800}, duration_s=3000.0))["arrival_s"]
    assert 2950 < twice[-1] < 3000
    assert len(twice) == pytest.approx(960 * 5, rel=0.05)


def test_a_rate_keeps_the_proportions(path: Path) -> None:
    """At 16 requests/s in all, ten times the pool's rate, each client sends ten times as much."""
    found = counts(collect(block(path, rate_per_s=16.0)))
    assert found["a"] == pytest.approx(216_000, rel=0.02)
    assert found["a"] / found["b"] == pytest.approx(2, rel=0.03)
    assert found["b"] / found["c"] == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize(
    "curve",
    [
        [20, 5.0, 10.0],
        [[0, 20.0], [600, 5.0], [1200, 10.0]],
        [[0, 30.0], [300, 10.0], [600, 5.0], [1200, 10]],
    ],
)
def test_a_rate_curve_is_followed(path: Path, curve: list[Any]) -> None:
    """Per window or as steps, within a window as their mean: 12,000, 3,000, 6,000 and, holding on, 6,000 requests."""
    arrivals = collect(block(path, rate_per_s=curve, duration_s=2400.0))["arrival_s"].to_numpy()
    found = np.histogram(arrivals, bins=[0, 600, 1200, 1800, 2400])[0]
    assert found == pytest.approx([12_000, 3_000, 6_000, 6_000], rel=0.06)


def test_rates_of_windows() -> None:
    """A step in the middle of a window counts by its time."""
    assert window_rates(None) == ()
    assert window_rates(7) == (7.0,)
    assert window_rates([[0, 2.0], [900, 4.0]]) == pytest.approx((2.0, 3.0, 4.0))  # type: ignore[list-item]


def test_the_scale_multiplies_the_pools_own_rates(path: Path) -> None:
    """A hundredth: windows of 6, 3 and 0.6 requests, none of which is rounded away."""
    found = counts(collect(block(path, scale=0.01, duration_s=36 * 600 * 50.0)))
    assert found["a"] == pytest.approx(10_800, rel=0.05)
    assert found["c"] == pytest.approx(1_080, rel=0.15)


def test_a_burst_fills_only_its_part_of_a_window(path: Path) -> None:
    """Client c's gaps fill a tenth of a window: requests lie in 61 s, each window elsewhere, a few over its edge."""
    requests = collect(block(path)).filter(pl.col("tenant") == "c")["arrival_s"].to_numpy()
    ends = []
    for window in range(36):
        inside = requests[(requests >= window * 600) & (requests < (window + 1) * 600)] - window * 600
        pauses = np.diff(inside, append=inside[0] + 600)
        assert 600 - pauses.max() < 61
        ends.append(inside[pauses.argmax()])
    assert np.std(ends) > 60


def test_bursts_leave_the_time_in_a_window_alone() -> None:
    """Bursts of a tenth to seven tenths of the window: arrivals are as dense at its edges as in its middle."""
    shares = [0.1, 0.3, 0.5, 0.7]
    activity = [
        (f"{share}", window, 30, False, 100.0, 600 * share / 30 / 100)
        for window in range(36 * 40)
        for share in shares
    ]
    lengths = {
        (f"{share}", 0, field): {5: 1.0} for share in shares for field in ("input_tokens", "output_tokens")
    }
    pool = pool_of(activity=activity, lengths=lengths)
    slots = slots_of(pool, range(4), None)
    assert slots[0].active_s == pytest.approx([600 * share for share in shares], rel=0.001)
    parts = [times for _, _, _, times in islice(arrivals_of(Plan(pool, slots), 0), len(slots))]
    density = np.histogram(np.concatenate(parts), bins=12, range=(0, 600))[0] / (4 * 30 * len(slots) / 12)
    # A bin has 1,440 independent windows, whose counts vary about as much as their mean: a standard error of 0.026.
    assert density == pytest.approx(np.ones(12), abs=0.1)


def test_a_client_whose_window_cuts_its_gaps_is_active_throughout() -> None:
    """Nineteen gaps of an exponential client fill 600 s less the two cut ones: it pauses no more than one of 600 s."""
    cut = pool_of(activity=[("a", 0, 20, False, 1.0, 600 / 21)])
    assert slots_of(cut, [0], None)[0].active_s.tolist() == [600.0]


def test_clients_are_chosen(path: Path) -> None:
    """The busiest, by id, or a sample by seed."""
    pool = pool_of()
    assert set(counts(collect(block(path, clients={"top": 2})))) == {"a", "b"}
    assert set(counts(collect(block(path, clients={"ids": ["c", "a"]})))) == {"a", "c"}
    choices = {
        tuple(chosen(pool, ServeGen(path=path, clients=_sample(2)).clients, seed)) for seed in range(20)
    }
    assert choices == {(0, 1), (0, 2), (1, 2)}


def _sample(number: int) -> Any:
    from servesim.servegen.compose import ClientChoice

    return ClientChoice(sample=number)


def test_lengths_are_the_clients_own_and_of_their_time(path: Path) -> None:
    """Client a has prompts of 10 or 20 tokens, one in four of them 20, and 1,000 in the next six hours; b always 7."""
    requests = collect(block(path, duration_s=12 * 3600.0))
    a = requests.filter(pl.col("tenant") == "a")
    early = a.filter(pl.col("arrival_s") < 6 * 3600)
    assert set(early["prompt_tokens"]) == {10, 20}
    assert (early["prompt_tokens"] == 20).mean() == pytest.approx(0.25, abs=0.02)
    assert set(requests.filter(pl.col("tenant") == "b")["prompt_tokens"]) == {7}


def test_six_hours_without_lengths_take_the_latest_before_or_the_first(tmp_path: Path) -> None:
    """A histogram is only in the second and the fourth six hours: the first takes the second's, the third, too."""
    lengths = {("a", 1, field): {5: 1} for field in ("input_tokens", "output_tokens")}
    lengths |= {("a", 3, field): {9: 1} for field in ("input_tokens", "output_tokens")}
    pool = pool_of(
        activity=[("a", window, 10, False, 1.0, 60.0) for window in range(6 * 36)], lengths=lengths
    )
    numbers = pool.histograms("input_tokens")
    values = [pool.lengths.histogram(number)[0][0] for number in numbers[0]]
    assert values == [5, 5, 5, 9, 9, 9]


def test_a_client_without_lengths_borrows_and_says_so(tmp_path: Path) -> None:
    """Client c, nearest to b in rate and CV, has b's lengths, and the notes tell."""
    lengths = {key: value for key, value in LENGTHS.items() if key[0] != "c"}
    activity = [row if row[0] != "c" else ("c", row[1], 280, False, 1.0, 600 / 280) for row in FULL]
    path = write(tmp_path / "lent.trace.parquet", pool_of(activity=activity, lengths=lengths))
    workload = build(block(path))
    requests = pl.concat(list(workload.frames()))
    assert set(requests.filter(pl.col("tenant") == "c")["prompt_tokens"]) == {7}
    assert workload.notes["clients_with_borrowed_lengths"] == 1
    assert workload.notes["borrowed_lengths"] == "c from b"


def rank_correlation(requests: pl.DataFrame) -> float:
    """Return Spearman's coefficient of prompt and output lengths."""
    return float(requests.select(pl.corr("prompt_tokens", "output_tokens", method="spearman")).item())


@pytest.mark.parametrize("copula", [-0.6, 0.0, 0.4, 1.0])
def test_prompt_and_output_have_the_asked_rank_correlation(tmp_path: Path, copula: float) -> None:
    """On lengths without ties, Spearman's coefficient is what was asked, and the marginals stay."""
    wide = dict.fromkeys(range(1, 50001), 1)
    lengths = {("a", 0, field): wide for field in ("input_tokens", "output_tokens")}
    activity = [("a", window, 600, False, 1.0, 1.0) for window in range(36)]
    path = write(tmp_path / "wide.trace.parquet", pool_of(activity=activity, lengths=lengths))
    requests = collect(block(path, copula=copula, requests=20_000))
    assert rank_correlation(requests) == pytest.approx(copula, abs=0.025)
    assert requests["output_tokens"].mean() == pytest.approx(25_000, rel=0.03)


def test_reasoning_tokens_are_a_share_of_the_output(tmp_path: Path) -> None:
    """A share of 334/501 of 300 tokens is 200."""
    lengths = {
        ("a", 0, "input_tokens"): {5: 1},
        ("a", 0, "output_tokens"): {300: 1},
        ("a", 0, "reason_ratio"): {334: 1},
    }
    pool = pool_of(activity=[("a", 0, 10, False, 1.0, 60.0)], lengths=lengths)
    requests = collect(block(write(tmp_path / "r.trace.parquet", pool)))
    assert set(requests["reasoning_tokens"]) == {200}


def test_images_are_part_of_the_prompt(tmp_path: Path) -> None:
    """Text of 50 tokens and 0 or 2 images of 100 or 300 tokens each: 50, 250, 450 or 650, in binomial shares."""
    lengths: dict[tuple[str, int, str], dict[int, float]] = {
        ("a", 0, "text_tokens"): {50: 1},
        ("a", 0, "image_count"): {0: 1, 2: 1},
        ("a", 0, "image_tokens"): {100: 1, 300: 1},
        ("a", 0, "output_tokens"): {9: 1},
    }
    activity = [("a", window, 600, False, 1.0, 1.0) for window in range(36)]
    requests = collect(
        block(write(tmp_path / "m.trace.parquet", pool_of(activity=activity, lengths=lengths)))
    )
    assert set(requests["image_tokens"]) == {0, 200, 400, 600}
    assert (requests["prompt_tokens"] - requests["image_tokens"] == 50).all()
    assert (requests["image_tokens"] == 400).mean() == pytest.approx(0.25, abs=0.02)
    assert requests["audio_tokens"].sum() == 0


def test_the_naive_mode_knows_no_clients(path: Path) -> None:
    """The same number of requests in each window, the same lengths over all, but evenly mixed: no burst is left."""
    composed, naive = collect(block(path)), collect(block(path, mode="naive"))
    assert set(naive["tenant"]) == {"all"}
    assert naive.height == pytest.approx(composed.height, rel=0.03)
    assert naive["prompt_tokens"].mean() == pytest.approx(composed["prompt_tokens"].mean(), rel=0.03)  # type: ignore[arg-type]
    gaps = [np.diff(requests["arrival_s"].to_numpy()) for requests in (composed, naive)]
    cvs = [float(gap.std() / gap.mean()) for gap in gaps]
    assert cvs[1] == pytest.approx(cvs[0], rel=0.05)


def test_the_naive_mode_starts_over_at_the_end_of_the_span(tmp_path: Path) -> None:
    """A pool whose second half sends nine times as much, played one and a half times: as composed load does."""
    requests = [60] * 18 + [540] * 18
    activity = [("a", window, count, False, 1.0, 600 / count) for window, count in enumerate(requests)]
    lengths = {("a", 0, field): {5: 1.0} for field in ("input_tokens", "output_tokens")}
    path = write(tmp_path / "p.trace.parquet", pool_of(activity=activity, lengths=lengths))
    for mode in ("clients", "naive"):
        arrivals = collect(block(path, mode=mode, duration_s=32_400.0))["arrival_s"].to_numpy()
        found = np.histogram(arrivals, bins=[0, 10_800, 21_600, 32_400])[0]
        assert found == pytest.approx([1080, 9720, 1080], rel=0.25), mode


def test_the_naive_constant_mode_has_the_mean_rate(tmp_path: Path) -> None:
    """A pool whose second half sends nine times as much becomes flat."""
    activity = [("a", window, 60 if window < 18 else 540, False, 1.0, 1.0) for window in range(36)]
    lengths = {("a", 0, field): {5: 1} for field in ("input_tokens", "output_tokens")}
    path = write(tmp_path / "p.trace.parquet", pool_of(activity=activity, lengths=lengths))
    arrivals = collect(block(path, mode="naive_constant"))["arrival_s"]
    assert (arrivals < 10_800).mean() == pytest.approx(0.5, abs=0.05)
    assert len(arrivals) == pytest.approx(18 * 600, rel=0.1)


@pytest.mark.parametrize("mode", ["clients", "naive", "naive_constant"])
def test_a_longer_run_begins_with_the_shorter_one(path: Path, mode: str) -> None:
    """Neither requests nor duration change a request that is there anyway, nor how many frames are taken."""
    long = collect(block(path, mode=mode, duration_s=30_000.0))
    assert collect(block(path, mode=mode, requests=7_000)).equals(long.head(7_000))
    assert collect(block(path, mode=mode, duration_s=3_333.0)).equals(
        long.filter(pl.col("arrival_s") < 3_333.0)
    )
    some = islice(build(block(path, mode=mode, duration_s=30_000.0)).frames(), 1)
    assert next(some).equals(
        long.head(next(build(block(path, mode=mode, duration_s=30_000.0)).frames()).height)
    )
    assert not collect(block(path, mode=mode, requests=100), seed=1).equals(long.head(100))


def test_many_requests_come_in_bounded_frames(path: Path) -> None:
    """A window of 1,200,000 expected requests is made in parts, in order, at its rate."""
    generator = ServeGen(path=path, rate_per_s=2000.0, duration_s=600.0)
    frames = list(generator.frames(0))
    assert max(frame.height for frame in frames) < 400_000
    arrivals = pl.concat(frames)["arrival_s"]
    assert arrivals.is_sorted()
    assert len(arrivals) == pytest.approx(1_200_000, rel=0.02)


def test_slots_leave_idle_windows_empty() -> None:
    """A window in which nobody sends has no client, and a target for it is refused."""
    pool = pool_of(activity=[("a", window, 10, False, 1.0, 60.0) for window in (0, 2)])
    assert [len(slot.clients) for slot in slots_of(pool, [0], None)][:3] == [1, 0, 1]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"clients": {"ids": ["d"]}}, "clients: unknown (got 'd')"),
        ({"clients": {"top": 9}}, "more than the pool 'three' has (got 9)"),
        (
            {"span": {"end_s": 43_200}},
            "span: beyond the pool 'three' (got end_s 43200). expected at most 21600",
        ),
        ({"rate_per_s": 1.0, "scale": 2.0}, "rate_per_s and scale (got both, scale 2.0)"),
        ({"pool": "language"}, "pool and path (got both)"),
        ({"rate_per_s": [[0, 1.0], [0, 2.0]]}, "times are not in order"),
    ],
)
def test_bad_parameters_are_refused(path: Path, parameters: dict[str, Any], message: str) -> None:
    """Each by what is wrong and what was given."""
    with pytest.raises(ScenarioError) as error:
        collect(block(path, **parameters))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "parameters",
    [
        {"clients": {"top": 1, "sample": 1}},
        {"span": {"end_s": 601}},
        {"rate_per_s": []},
        {"rate_per_s": 0.0},
        {"copula": 2.0},
    ],
)
def test_values_out_of_range_are_refused(path: Path, parameters: dict[str, Any]) -> None:
    """By the schema, before anything is read."""
    with pytest.raises(ValueError, match="validation error"):
        build(block(path, **parameters))


def test_a_target_for_a_silent_window_is_refused(tmp_path: Path) -> None:
    """No proportions can be kept where nobody sends."""
    pool = pool_of(activity=[("a", window, 10, False, 1.0, 60.0) for window in (0, 2)])
    path = write(tmp_path / "gap.trace.parquet", pool)
    with pytest.raises(ScenarioError, match="no client is active from 600 s to 1200 s"):
        collect(block(path, rate_per_s=1.0))


def test_neither_pool_nor_path(path: Path) -> None:
    """One must be given; a file that is no pool is refused by name."""
    with pytest.raises(ScenarioError, match="got neither"):
        ServeGen()
    with pytest.raises(
        (TraceError, PluginError), match=r"x.csv: no such file or folder. expected a client pool"
    ):
        build(block(path.with_name("x.csv")))
