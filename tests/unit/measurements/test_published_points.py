"""The batch sweep and the closed-loop points: the real files, and tables that are neither."""

from __future__ import annotations

import polars as pl
import pytest

from servesim.errors import TraceError
from servesim.measurements import read_measured
from servesim.measurements.batch_sweep import OUTPUT_CV
from servesim.validation.splits import configuration_split, sweep_split

SWEEP = "calibration/batch_curves/vllm_h100_64gb_batch_sweep.parquet"
POINTS = "calibration/batch_curves/silicon_e2e_h200_b200.parquet"


def test_the_sweep_has_its_54_runs_with_their_mean_lengths(shared):
    """Loads are drawn, but their means are those of the file, within the rounding of 2,000 whole numbers."""
    path = shared(SWEEP)
    runs = read_measured(path)
    assert len(runs) == 54
    facts = {row["path"]: row for row in pl.read_parquet(path).iter_rows(named=True)}
    for run in runs:
        batch = run.deployment.settings["max_num_seqs"]
        fact = facts[f"background/{run.deployment.model}/_{batch}_"]
        assert run.requests.height == 2000
        assert run.requests["prompt_tokens"].mean() == pytest.approx(fact["inp"] / 2000, rel=0.005)
        assert run.requests["output_tokens"].mean() == pytest.approx(fact["out"] / 2000, rel=0.005)
        assert run.metrics["itl_s_mean"] == fact["itl"] / 1e3


def test_lengths_of_the_sweep_spread_as_its_kv_use_implies(shared):
    """As far as the longest sequence of the benchmark lets them: 1,024 tokens of prompt, 2,048 with the output."""
    for run in read_measured(shared(SWEEP)):
        prompt, output = run.requests["prompt_tokens"], run.requests["output_tokens"]
        assert prompt.is_between(1, 1024).all()
        assert output.min() >= 1 and (prompt + output).max() <= 2048
        assert output.std(ddof=0) / output.mean() == pytest.approx(OUTPUT_CV[run.deployment.model], rel=0.005)


def test_the_engine_of_the_sweep_is_that_of_its_logs(shared):
    """Prompts have steps of their own in vLLM V0."""
    settings = [run.deployment.settings for run in read_measured(shared(SWEEP))]
    assert all(each["prefill_only_steps"] and not each["chunked_prefill"] for each in settings)
    assert {each["max_model_len"] for each in settings} == {2048}


def test_batches_of_the_sweep_are_split_as_published(shared):
    """1, 16 and 128 of each of four models may be fitted."""
    splits = [sweep_split(run) for run in read_measured(shared(SWEEP))]
    assert (splits.count("fitted"), splits.count("held out")) == (12, 42)


def test_points_lose_their_171_exact_repeats(shared):
    """959 rows of vLLM; loads are 10 prompts per connection within [0.8, 1] of the nominal lengths."""
    runs = read_measured(shared(POINTS))
    assert len(runs) == 959 - 171
    assert len({run.name for run in runs}) == len(runs)
    for run in runs[::50]:
        assert run.requests.height == 10 * run.max_concurrency
        nominal = int(run.name.partition("_agg_")[2].partition("x")[0])
        assert run.requests["prompt_tokens"].is_between(int(0.8 * nominal), nominal).all()


def test_a_configuration_is_on_one_side_of_the_split(shared):
    """Concurrencies of one deployment are alike: none may be fitted where another is judged. About a tenth is."""
    sides: dict[tuple, set[str]] = {}
    runs = read_measured(shared(POINTS))
    for run in runs:
        served = run.deployment
        lengths = run.name.partition("_agg_")[2].partition("_")[0]
        key = (served.model, served.gpu, served.dtype, served.tensor_parallel, served.data_parallel, lengths)
        sides.setdefault(key, set()).add(configuration_split(run))
    assert all(len(found) == 1 for found in sides.values())
    share = sum(configuration_split(run) == "fitted" for run in runs) / len(runs)
    assert 0.05 < share < 0.2


def test_points_are_served_as_the_script_of_their_day_did(shared):
    """Kimi-K2.5 in NVFP4 never spread its experts, MiniMax-M2.5 in NVFP4 has groups of one GPU where labelled so."""
    served = [run.deployment for run in read_measured(shared(POINTS))]
    kimi = [each for each in served if "Kimi" in str(each.model) and each.dtype == "nvfp4"]
    assert {(each.data_parallel, each.expert_parallel) for each in kimi} == {(1, 1)}
    minimax = {
        (each.tensor_parallel, each.data_parallel, each.expert_parallel)
        for each in served
        if "MiniMax" in str(each.model) and each.dtype == "nvfp4"
    }
    assert minimax == {(1, 1, 1), (2, 1, 1), (4, 1, 1), (8, 1, 1), (1, 2, 2), (1, 4, 4)}
    assert {each.engine_version for each in served if "Llama-3.1-70B" in str(each.model)} == {"0.10.2"}


def test_tables_of_other_columns_are_refused(tmp_path):
    """Parquet alone is no measurement."""
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": [1]}).write_parquet(path)
    with pytest.raises(TraceError, match="Parquet of unknown columns"):
        read_measured(path)


def test_lengths_of_the_sweep_spread_as_its_cache_was_used(shared):
    """Clipping takes nothing from the stated spread: mean contexts fill as many blocks as the runs of batch 1 show.

    Those hold their mean KV use over the paper's capacity: 23.2, 23.3, 24.8 and 25.0 blocks of 16 tokens.
    """
    measured = {"llama-2-13b": 23.2, "llama-2-7b": 23.3, "opt-1.3b": 24.8, "opt-2.7b": 25.0}
    for run in read_measured(shared(SWEEP)):
        if run.deployment.settings["max_num_seqs"] > 1:
            continue
        prompt, output = run.requests["prompt_tokens"], run.requests["output_tokens"]
        assert (prompt + output).max() <= 2048
        assert prompt.max() <= 1024
        context = (prompt * output + output * output / 2).sum() / output.sum()
        blocks = context / 16 + 0.5  # the last one is half full
        assert blocks == pytest.approx(measured[str(run.deployment.model)], rel=0.01)
