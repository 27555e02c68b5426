"""Calibration against a known truth: what is found, what is refused, what is kept apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from simulated_measurements import POOL, measured, simulate

from servesim.calibration import calibrate
from servesim.calibration.identify import NotIdentifiedError
from servesim.errors import ScenarioError, ServesimError
from servesim.measurements import Deployment
from servesim.measurements.step_log import Step, StepLog

TRUTH = {"name": "linear", "base_s": 0.008, "per_sequence_s": 1e-4, "per_prefill_token_s": 2e-5}
ELSEWHERE = [
    f"{POOL}.latency={{name: linear, base_s: 0.02, per_sequence_s: 3.0e-5, per_prefill_token_s: 5.0e-5}}"
]
NAMES = ("base_s", "per_sequence_s", "per_prefill_token_s")


@pytest.fixture(scope="module")
def one_by_one():
    """Return a run at concurrency 1."""
    return measured("one by one", simulate(TRUTH, concurrency=1, requests=40))


@pytest.fixture(scope="module")
def many():
    """Return a run at concurrency 32."""
    return measured("many", simulate(TRUTH, concurrency=32, requests=200))


@pytest.fixture(scope="module")
def found(one_by_one, many):
    """Return the calibration of both, a fifth of their time held out."""
    return calibrate([one_by_one, many], overrides=ELSEWHERE, parameters=NAMES, workers=1)


def test_the_truth_lies_within_the_intervals(found):
    """Noise of 2 % per request: three parameters within 5 %, and their intervals hold the true values."""
    for parameter in found.parameters:
        truth = TRUTH[parameter.key.removeprefix("latency.")]
        assert parameter.value == pytest.approx(truth, rel=0.05)
        assert parameter.low < truth < parameter.high
        assert parameter.high / parameter.low < 1.2
        assert not parameter.at_bound
    assert found.warnings == ()


def test_held_out_requests_are_told_apart_and_predicted(found):
    """The last fifth of each run was not fitted; errors fall from more than half to the noise."""
    held_out, fitted = found.errors("held out"), found.errors("fitted")
    assert set(held_out) == {"ttft_s_mean", "tpot_s_mean", "e2e_s_mean"} == set(fitted)
    assert held_out["tpot_s_mean"].before > 0.5
    assert held_out["tpot_s_mean"].after < 0.01
    assert fitted["tpot_s_mean"].after < 0.01
    assert held_out["ttft_s_mean"].rows == 2
    # By hand: 32 of 40 and 160 of 200 requests were fitted.
    assert {target.requests for target in split_targets(found)} == {(0, 32), (32, 40), (0, 160), (160, 200)}


def split_targets(found):
    """Return the targets that errors were told of, made anew."""
    from servesim.calibration.targets import split_runs

    runs = [measured("one by one", simulate(TRUTH, concurrency=1, requests=40))]
    runs.append(measured("many", simulate(TRUTH, concurrency=32, requests=200)))
    assert found.rows.height == sum(len(split.judged) for split in split_runs(runs, "0.2"))
    return [target for split in split_runs(runs, "0.2") for target in split.judged]


def test_the_same_measurements_give_the_same_file(found, one_by_one, many):
    """However many processes simulate."""
    again = calibrate([one_by_one, many], overrides=ELSEWHERE, parameters=NAMES, workers=2)
    assert again.to_yaml() == found.to_yaml()


def test_validity_is_the_range_of_what_was_fitted(found, many):
    """Largest batch of the replays, shortest and longest prompts and outputs."""
    validity = found.calibration.validity
    assert validity.batch_sequences == 32
    assert validity.prompt_tokens[1] >= many.requests["prompt_tokens"].max()


def test_what_moves_together_is_refused_and_tells_what_to_add(many):
    """At one concurrency the costs of a step and of its sequences are one number."""
    with pytest.raises(NotIdentifiedError, match="base_s and per_sequence_s move together") as caught:
        calibrate([many], overrides=ELSEWHERE, parameters=["base_s", "per_sequence_s"], workers=1)
    assert caught.value.hint == "add runs at concurrency 1, or fit one of them: --fit base_s"


def test_what_does_not_show_is_refused(many):
    """The linear model is a whole step: the host's time is in it."""
    with pytest.raises(NotIdentifiedError, match="launch_s does not show in these runs"):
        calibrate([many], overrides=ELSEWHERE, parameters=["launch_s"], workers=1)


def test_a_default_set_leaves_out_what_the_data_do_not_tell(many):
    """Nobody asked for the cost per sequence: the base alone is fitted, and that is said."""
    result = calibrate([many], overrides=ELSEWHERE, workers=1)
    assert [parameter.key for parameter in result.parameters] == ["latency.base_s"]
    assert "latency.per_sequence_s is left as it is" in result.warnings[0]


def test_a_fit_at_its_bound_is_warned_of(many):
    """Steps of 8 ms cannot be had by 0.5 ms at most, were it the launch alone that is slow."""
    start = [f"{POOL}.latency={{name: constant, step_s: 1.0e-4}}"]  # bounds are a factor of 30
    result = calibrate([many], overrides=start, parameters=["step_s"], workers=1)
    assert result.parameters[0].at_bound
    assert "latency.step_s ended at a bound of its fit" in result.warnings[0]


def test_runs_can_be_held_out_whole(one_by_one, many):
    """By name, by pattern, or the last: then all requests of the others are fitted."""
    result = calibrate(
        [many, one_by_one], overrides=ELSEWHERE, parameters=["base_s"], hold_out="last", workers=1
    )
    split = dict(result.rows.select("run", "split").unique().iter_rows())
    assert split == {"many": "fitted", "one by one": "held out"}
    with pytest.raises(ScenarioError, match="no run of this name"):
        calibrate([many], overrides=ELSEWHERE, hold_out="nobody", workers=1)
    with pytest.raises(ScenarioError, match="every run is held out"):
        calibrate([many], overrides=ELSEWHERE, hold_out="m*", workers=1)
    with pytest.raises(ScenarioError, match="no share"):
        calibrate([many], overrides=ELSEWHERE, hold_out="1.5", workers=1)


def test_another_gpu_or_model_is_refused(many):
    """Beside other runs, and against the scenario's pool."""
    other = replace(
        many, name="other", deployment=Deployment(model="meta-llama/Llama-3.1-8B", gpu="h200_sxm")
    )
    with pytest.raises(ScenarioError, match=r"other: another gpu than many \(got h200-sxm\)"):
        calibrate([many, other], overrides=ELSEWHERE, workers=1)
    with pytest.raises(ScenarioError, match=r"measured with another gpu \(got h100-sxm\). expected a100"):
        calibrate([many], overrides=[*ELSEWHERE, f"{POOL}.gpu=a100-80gb-sxm"], workers=1)
    with pytest.raises(ScenarioError, match="measured with another model"):
        calibrate([many], overrides=[*ELSEWHERE, f"{POOL}.model=qwen3-32b"], workers=1)


def test_no_measurements_and_too_few_are_refused(many):
    """A fit needs more numbers than parameters."""
    with pytest.raises(ScenarioError, match="nothing was measured"):
        calibrate([])
    bare = replace(
        many,
        requests=many.requests.select("arrival_s", "prompt_tokens", "output_tokens"),
        metrics={"tpot_s_mean": 0.01},
    )
    with pytest.raises(ServesimError, match="too few measurements"):
        calibrate([bare], overrides=ELSEWHERE, parameters=["base_s"], hold_out="0", workers=1)


def test_step_logs_are_fitted_without_a_simulation():
    """By hand: 8 ms and 0.1 ms per sequence, 20 us per prompt token."""
    batches = [(1, ()), (16, ()), (64, ()), (0, ((512, 0),)), (8, ((1024, 0),)), (32, ((256, 256),))]
    steps = tuple(
        Step(
            sequences=count,
            context_tokens=100 * count,
            chunks=chunks,
            duration_s=0.008 + 1e-4 * (count + len(chunks)) + 2e-5 * sum(tokens for tokens, _ in chunks),
        )
        for count, chunks in batches
    )
    log = StepLog(
        name="steps",
        source=Path(__file__),
        steps=steps,
        deployment=Deployment(model="meta-llama/Llama-3.1-8B", gpu="H100_SXM"),
    )
    result = calibrate([log], overrides=ELSEWHERE, parameters=NAMES, workers=1)
    for parameter in result.parameters:
        assert parameter.value == pytest.approx(TRUTH[parameter.key.removeprefix("latency.")], rel=1e-3)
    assert result.errors("fitted")["step_s"].rows == len(steps)
    assert result.warnings == ("nothing was held out: no error is known but that of what was fitted",)
