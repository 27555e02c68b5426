"""The generator burstgpt against what is published of BurstGPT: volumes, bursts, sessions, lengths and failures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from workloads import build, collect

from servesim.generators.burstgpt_lengths import Conversations, response_tokens
from servesim.generators.burstgpt_streams import Renewal
from servesim.generators.burstgpt_volumes import CONVERSATIONS, DAYS, SERVICES, day, facts, mean_rates_per_s
from servesim.readers.burstgpt import BurstGptReader
from servesim.rng import stream
from servesim.traces.convert import write_frames

HOUR_S, DAY_S = 3600.0, 86_400.0
FIGURES = ("ChatGPT conv", "GPT-4 conv", "ChatGPT api", "GPT-4 api")
"""Services as the digitised figures call them, in the order of `SERVICES`."""


def generate(seed: int = 0, **parameters: Any) -> pl.DataFrame:
    """Return the requests of the generator."""
    return collect({"generator": {"name": "burstgpt", **parameters}}, seed=seed)


def counted(requests: pl.DataFrame, length_s: float) -> np.ndarray:
    """Return the requests in each stretch of *length_s*."""
    times = requests["arrival_s"].to_numpy()
    return np.bincount((times // length_s).astype(int))


def test_hourly_counts_lie_in_the_digitised_quartiles(shared: Callable[[str], Path]) -> None:
    """Over 20 x 61 days: median requests of the hours in which a service is used, for all services and hours."""
    figures = pl.read_csv(shared("traces/burstgpt/burstgpt_1_hour_of_day_by_service_digitised.csv"))
    drawn = np.array([[day(number, "days", seed).requests for number in range(DAYS)] for seed in range(20)])
    for column, name in enumerate(FIGURES):
        rows = figures.filter(pl.col("service") == name, pl.col("measure") == "requests_per_hour").sort(
            "hour"
        )
        counts = drawn[..., column].reshape(-1, 24)
        medians = np.nanmedian(np.where(counts >= 1, counts, np.nan), axis=0)
        q25, q75 = (rows[quantile].to_numpy().astype(float) for quantile in ("q25", "q75"))
        known = ~np.isnan(q25) & ~np.isnan(q75)
        assert known.sum() >= 22
        assert ((medians >= q25) & (medians <= q75))[known].all(), name


def test_hours_of_conversations_are_met_by_the_requests_themselves(shared: Callable[[str], Path]) -> None:
    """Sessions spread over hours, and still the median of each hour lies in the quartiles, but for small counts."""
    figures = pl.read_csv(shared("traces/burstgpt/burstgpt_1_hour_of_day_by_service_digitised.csv"))
    rows = figures.filter(pl.col("service") == "ChatGPT conv", pl.col("measure") == "requests_per_hour")
    rows = rows.sort("hour").filter(pl.col("q25") > 10)
    counts = [
        counted(
            generate(seed, services=["chatgpt_conversation"], failure_ratio=0, duration_s=DAYS * DAY_S),
            HOUR_S,
        )
        for seed in range(3)
    ]
    medians = np.median(np.concatenate([each.reshape(-1, 24) for each in counts]), axis=0)
    ours = medians[rows["hour"].to_numpy()]
    assert rows.height == 18
    assert (ours >= rows["q25"].to_numpy()).all() and (ours <= rows["q75"].to_numpy()).all()


def test_days_have_their_totals(shared: Callable[[str], Path]) -> None:
    """61 days: each within 15 % (sessions end on the next one), all together within 1 %; day 9 is the flood."""
    daily = pl.read_parquet(shared("traces/burstgpt/burstgpt_1_daily.parquet"))["req"].to_numpy()
    counts = counted(generate(failure_ratio=0, duration_s=DAYS * DAY_S), DAY_S)
    assert counts.sum() == pytest.approx(daily.sum(), rel=0.01)
    assert np.abs(counts / daily - 1).max() < 0.15
    assert counts.argmax() == 9
    assert np.median(counts) == pytest.approx(14_457, rel=0.05)
    assert list(facts()["days"]["requests"]) == daily.tolist()


def test_the_hour_of_day_has_its_shape(shared: Callable[[str], Path]) -> None:
    """Mean requests by hour over 20 x 61 days follow the published ones; an average day has them exactly."""
    published = pl.read_parquet(shared("traces/burstgpt/burstgpt_1_hour_of_day.parquet"))["rph"].to_numpy()
    drawn = [[day(number, "days", seed).requests.sum(axis=1) for number in range(DAYS)] for seed in range(20)]
    assert np.corrcoef(np.mean(drawn, axis=(0, 1)), published)[0, 1] > 0.98
    assert day(0, "typical", None).requests.sum(axis=1) == pytest.approx(published, rel=1e-3)


def test_minutes_are_as_empty_as_in_the_first_week(shared: Callable[[str], Path]) -> None:
    """Nothing was fitted to them: minutes without a request by hour, when there were conversations only."""
    minutes = pl.read_parquet(shared("traces/burstgpt/burstgpt_1_week1_minutes_tps.parquet"))["t"].to_numpy()
    theirs = 1 - np.bincount(minutes, minlength=7 * 1440).reshape(7, 24, 60).mean(axis=(0, 2))
    services = ["chatgpt_conversation", "gpt4_conversation"]
    requests = generate(services=services, failure_ratio=0, duration_s=7 * DAY_S)
    ours = (np.append(counted(requests, 60.0), [0] * 60)[: 7 * 1440].reshape(7, 24, 60) == 0).mean(
        axis=(0, 2)
    )
    assert np.corrcoef(ours, theirs)[0, 1] > 0.97
    assert np.abs(ours - theirs).mean() < 0.06


def test_responses_given_requests_lie_in_the_digitised_bands(shared: Callable[[str], Path]) -> None:
    """By length of the request: 5, 50 and 95 % quantiles and the mean of 20,000 responses, with the lines' errors."""
    given = pl.read_csv(shared("traces/burstgpt/burstgpt_1_response_given_request_digitised.csv"))
    ranks = np.random.default_rng(0).random(20_000)
    bounds = {"response_p05": 0.18, "response_median": 0.06, "response_p95": 0.05, "response_mean": 0.05}
    for key, name in zip(CONVERSATIONS, FIGURES, strict=False):
        rows = given.filter(pl.col("service") == name)
        answers = [
            response_tokens(
                facts()[key], facts()["response"]["request_tokens"], np.full(len(ranks), float(x)), ranks
            )
            for x in rows["request_tokens"]
        ]
        ours = {
            "response_p05": np.quantile(answers, 0.05, axis=1),
            "response_median": np.quantile(answers, 0.5, axis=1),
            "response_p95": np.quantile(answers, 0.95, axis=1),
            "response_mean": np.mean(answers, axis=1),
        }
        for column, bound in bounds.items():
            theirs = rows[column].to_numpy().astype(float)
            known = ~np.isnan(theirs)
            assert np.sqrt(np.mean((ours[column] / theirs - 1)[known] ** 2)) < bound, (name, column)
        median = ours["response_median"]
        p05, p95 = (rows[column].to_numpy().astype(float) for column in ("response_p05", "response_p95"))
        known = ~np.isnan(p05) & ~np.isnan(p95)
        assert ((median >= p05) & (median <= p95))[known].all()


def test_mean_lengths_of_conversations_are_the_published_ones() -> None:
    """Prompts 655 and 725 are fitted; responses 242 and 251 follow from them, within 5 %."""
    for key, prompt, response in zip(CONVERSATIONS, (655, 725), (242, 251), strict=True):
        turns = Conversations(facts(), key, np.random.default_rng(5)).take(100_000)
        assert turns.prompt_tokens.mean() == pytest.approx(prompt, rel=0.02)
        assert turns.output_tokens.mean() == pytest.approx(response, rel=0.05)


def test_lengths_over_the_61_days_have_the_published_means() -> None:
    """Successful requests: 621 and 126 tokens within 2 %; with the failures 734 a request; no longer than any seen."""
    requests = generate(duration_s=DAYS * DAY_S)
    prompts, outputs = requests["prompt_tokens"].to_numpy(), requests["output_tokens"].to_numpy()
    assert prompts.mean() == pytest.approx(621, rel=0.02)
    assert outputs.mean() == pytest.approx(126, rel=0.02)
    assert (prompts + outputs).mean() * (1 - 0.018) == pytest.approx(734, rel=0.01)
    assert prompts.max() <= 6142
    assert outputs.max() <= 7315


def test_the_first_days_are_conversations() -> None:
    """53.8 % of the first 59,999 rows are API requests: all but those of the flood on day 9 are conversations."""
    rows = generate(failure_ratio=0, requests=59_999)
    assert (rows["tenant"] == "api").mean() == pytest.approx(0.538, abs=0.02)
    assert (rows.filter(pl.col("arrival_s") < 9 * DAY_S)["tenant"] == "conversation").all()


def test_turns_and_gaps_are_those_of_the_slice(shared: Callable[[str], Path]) -> None:
    """135 sessions and 259 gaps of file 3 do not tell the generator's from their own (Kolmogorov-Smirnov, 5 %)."""
    from scipy import stats

    sample = pl.read_csv(shared("traces/burstgpt/burstgpt_3_first400.csv")).drop_nulls("Session ID")
    gaps = sample.select(pl.col("Timestamp").diff().over("Session ID")).to_series().drop_nulls().to_numpy()
    turns = sample.group_by("Session ID").len()["len"].to_numpy()
    drawn = Conversations(facts(), "chatgpt_conversation", np.random.default_rng(3)).take(100_000)
    ours = np.bincount(drawn.session)
    assert abs(ours.mean() - turns.mean()) < 2 * turns.std() / len(turns) ** 0.5
    assert stats.ks_2samp(turns, ours).pvalue > 0.05  # conservative, since turns are whole numbers
    own = drawn.gap_s[drawn.turn > 0]
    assert abs(own.mean() - gaps.mean()) < 2 * gaps.std() / len(gaps) ** 0.5
    assert stats.ks_2samp(gaps, own).pvalue > 0.05


def test_contexts_grow_and_are_cut(shared: Callable[[str], Path]) -> None:
    """What was said stays in the prompt, or a part of it: never more than the context that file 1 had."""
    turns = Conversations(facts(), "chatgpt_conversation", np.random.default_rng(0)).take(20_000)
    follows = turns.turn[1:] > 0
    said = (turns.prompt_tokens + turns.output_tokens)[:-1][follows]
    prompt = turns.prompt_tokens[1:][follows]
    assert 0.5 < (prompt > said).mean() < 0.756  # cut by the context, too, where the slice's was longer
    assert prompt.max() <= facts()["chatgpt_conversation"]["prompt_tokens_max"]
    ratio = (prompt / said)[prompt <= said]
    assert np.median(ratio) == pytest.approx(0.87, abs=0.03)


@pytest.mark.parametrize("share", [0.018, 0.019, 0.0726])
def test_failures_have_the_share_of_each_file(share: float) -> None:
    """Kept, they are requests of 1 output token, and of 1 prompt token in conversations; dropped, they are missing."""
    parameters: dict[str, Any] = {"profile": "typical", "rate_per_s": 20, "duration_s": 5000.0}
    whole = generate(failure_ratio=0, **parameters)
    kept = generate(failure_ratio=share, failures="keep", **parameters)
    left = generate(failure_ratio=share, **parameters)
    assert kept.height == whole.height > 60_000
    changed = kept.filter(kept["output_tokens"] != whole["output_tokens"])
    failed = kept.height - left.height
    assert failed / kept.height == pytest.approx(share, abs=4 * (share / kept.height) ** 0.5)
    assert changed["output_tokens"].to_list() == [1] * changed.height
    of_conversations = changed.filter(pl.col("tenant") == "conversation")
    assert of_conversations["prompt_tokens"].to_list() == [1] * of_conversations.height
    assert changed.filter(pl.col("tenant") == "api")["prompt_tokens"].mean() > 100  # type: ignore[operator]


def test_tags_and_sessions_are_as_the_reader_gives_them() -> None:
    """Models and tenants of the trace; sessions of conversations only, which stay with their model."""
    requests = generate(rate_per_s=5, profile="typical", start_hour=12, duration_s=7200)
    assert set(requests["model"]) == {"ChatGPT", "GPT-4"}
    has_session = requests["session"].is_not_null()
    assert (has_session == (requests["tenant"] == "conversation")).all()
    per_session = requests.filter(has_session).group_by("session").agg(pl.col("model").n_unique())
    assert per_session["model"].max() == 1


def test_a_renewal_process_keeps_its_rate_and_variation_through_cells() -> None:
    """Cells of 0.3, 0 and 50 expected events: counts as expected, gaps in events of mean 1 and cv 2."""
    renewal, times, begin = Renewal(2.0, stream(0, "test")), [], 0.0
    for expected in [0.3, 0.0, 50.0] * 4000:
        times.append(begin + renewal.events(expected) * expected)
        begin += expected
    gaps = np.diff(np.concatenate(times))
    assert len(gaps) == pytest.approx(begin, abs=5 * 2 * begin**0.5)
    assert gaps.mean() == pytest.approx(1.0, abs=5 * 2 / begin**0.5)
    assert gaps.std() == pytest.approx(2.0, rel=0.03)


def test_the_first_event_of_a_renewal_process_is_in_equilibrium() -> None:
    """The mean time to it is (1 + cv^2) / 2 gaps, not one gap: time 0 falls into long gaps more often."""
    waits = [Renewal(2.0, stream(seed, "test"))._left for seed in range(4000)]
    assert np.mean(waits) == pytest.approx(2.5, abs=5 * np.std(waits) / 4000**0.5)


def test_a_higher_rate_does_not_flatten_bursts() -> None:
    """Twenty times the API requests, the same cv of gaps and the same variance to mean of counts per mean gap."""
    for rate in (1.0, 20.0):
        parameters = {"services": ["chatgpt_api"], "profile": "flat", "rate_per_s": rate, "failure_ratio": 0}
        requests = generate(requests=200_000, **parameters)
        gaps = np.diff(requests["arrival_s"].to_numpy())
        assert 1 / gaps.mean() == pytest.approx(rate, rel=0.03)
        assert gaps.std() / gaps.mean() == pytest.approx(2.0, rel=0.03)
        counts = counted(requests, 10 / rate)[:-1]
        # Asymptotically cv^2 = 4; in windows of 10 gaps somewhat less.
        assert 2.9 < counts.var() / counts.mean() < 4.0


@pytest.mark.parametrize("profile", ["days", "typical", "flat"])
def test_the_rate_is_the_mean_over_the_profile(profile: Any) -> None:
    """Requests of a whole profile, whatever services are taken."""
    services = ["gpt4_conversation", "gpt4_api"]
    length_s = DAY_S * (DAYS if profile == "days" else 20)
    requests = generate(
        profile=profile, services=services, rate_per_s=0.1, failure_ratio=0, duration_s=length_s
    )
    assert requests.height / length_s == pytest.approx(0.1, rel=0.05)
    assert set(requests["model"]) == {"GPT-4"}
    assert mean_rates_per_s("days").sum() == pytest.approx(1_429_737 / (DAYS * DAY_S), rel=0.001)


def test_time_zero_is_the_day_and_hour_asked_for() -> None:
    """Day 9 at noon is flooded; the same hours of a quiet day are not, and sessions are under way at once."""
    flood = generate(start_day=9, start_hour=12, duration_s=6 * HOUR_S)
    quiet = generate(start_day=3, start_hour=12, duration_s=6 * HOUR_S)
    assert flood.height > 20 * quiet.height
    busy = generate(profile="flat", services=["chatgpt_conversation"], rate_per_s=20, duration_s=HOUR_S)
    counts = counted(busy, 600.0)
    assert counts[0] == pytest.approx(counts.mean(), rel=0.08)


@pytest.mark.parametrize("parameters", [{}, {"closed_loop": True}, {"profile": "flat", "cv": 6.0}])
def test_a_longer_run_begins_with_the_shorter_one(parameters: dict[str, Any]) -> None:
    """Not a request changes when more are asked for, nor when time ends the stream."""
    long = generate(requests=150_000, rate_per_s=30, **parameters)
    assert generate(requests=70_001, rate_per_s=30, **parameters).equals(long.head(70_001))
    end_s = long["arrival_s"][100_000]
    timed = generate(duration_s=end_s, rate_per_s=30, **parameters)
    assert timed.equals(long.filter(pl.col("arrival_s") < end_s))
    assert not generate(1, requests=1000, rate_per_s=30, **parameters).equals(long.head(1000))


def test_arrivals_are_in_order_and_lengths_positive() -> None:
    """What the schema promises, over many blocks of all sizes."""
    requests = generate(rate_per_s=300, requests=700_000, start_day=8)
    assert requests["arrival_s"].is_sorted()
    assert requests["arrival_s"][0] >= 0
    assert requests.select(pl.min_horizontal(pl.col("prompt_tokens", "output_tokens").min())).item() == 1


def test_a_closed_loop_sends_sessions_whole() -> None:
    """Follow-ups stand behind their predecessors with its session's begin, and pauses are the gaps less the answers."""
    parameters: dict[str, Any] = {"services": ["gpt4_conversation"], "profile": "flat", "rate_per_s": 1.0}
    loop = generate(requests=30_000, closed_loop=True, **parameters)
    first = loop["session"].is_first_distinct()
    assert (loop["think_s"].is_null() == first).all()
    assert loop.group_by("session").agg(pl.col("arrival_s").n_unique())["arrival_s"].max() == 1
    recorded = generate(requests=30_000, **parameters)
    recorded_gaps = recorded.select(pl.col("arrival_s").diff().over("session")).to_series().drop_nulls()
    assert loop["think_s"].median() < recorded_gaps.median()  # type: ignore[operator]
    # An answer took 0.115 s a token, 250 tokens in the mean: 29 s.
    assert recorded_gaps.median() - loop["think_s"].median() == pytest.approx(25, abs=10)  # type: ignore[operator]


@pytest.mark.parametrize("form", ["burstgpt-6", "burstgpt-8"])
def test_requests_can_be_written_and_read_as_burstgpt(form: str, tmp_path: Path) -> None:
    """To the native CSV and back: all but what the form lacks; six columns have whole seconds and no sessions."""
    requests = generate(requests=2000)
    columns = ["arrival_s", "prompt_tokens", "output_tokens", "model", "tenant", "session"]
    native = tmp_path / "native.csv"
    write_frames([requests], native, to=form, lossy=True)
    back = BurstGptReader(path=native).read().collect()
    shift_s = requests["arrival_s"][0]
    assert back.select(columns[1:5]).equals(requests.select(columns[1:5]))
    if form == "burstgpt-8":
        assert back["session"].equals(requests["session"])
        assert np.abs(back["arrival_s"] - (requests["arrival_s"] - shift_s)).max() < 1e-5
    else:
        assert np.abs(back["arrival_s"] - (requests["arrival_s"] - shift_s)).max() <= 1.0


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"rate_per_s": 0}, "rate_per_s"),
        ({"profile": "weekly"}, "profile"),
        ({"services": []}, "services"),
        ({"services": ["gpt5"]}, "services"),
        ({"start_day": 61}, "start_day"),
        ({"start_hour": 24}, "start_hour"),
        ({"cv": -1}, "cv"),
        ({"failure_ratio": 1.0}, "failure_ratio"),
        ({"failures": "retry"}, "failures"),
    ],
)
def test_wrong_parameters_are_refused_by_name(parameters: dict[str, Any], field: str) -> None:
    """Before anything is drawn."""
    with pytest.raises(ValidationError, match=field):
        build({"generator": {"name": "burstgpt", "requests": 1, **parameters}})


def test_when_a_service_is_used_does_not_depend_on_the_others() -> None:
    """Its requests arrive at the same times with the other services and without, at the same rate of its own."""
    own_per_s = float(mean_rates_per_s("flat")[SERVICES.index("gpt4_api")])
    shared: dict[str, Any] = {"profile": "flat", "failure_ratio": 0, "duration_s": 10_000}
    alone = generate(services=["gpt4_api"], rate_per_s=own_per_s, **shared)
    among = generate(**shared).filter(pl.col("model") == "GPT-4", pl.col("tenant") == "api")
    assert alone.height > 200
    assert alone["arrival_s"].to_list() == pytest.approx(among["arrival_s"].to_list())
