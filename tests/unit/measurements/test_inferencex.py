"""How InferenceX's scripts started vLLM: which version of a script applies, and what it makes of a point's labels."""

from __future__ import annotations

import pytest

from servesim.measurements.inferencex import RECIPES, Recipe, recipe


def test_the_version_of_a_script_is_that_of_its_day():
    """MiniMax-M2.5 in fp8 on B200: another script from 2026-04-03 on; points without a date are the oldest."""
    found = [recipe("MiniMax-M2.5", "b200_sxm", "fp8", day) for day in (None, "2026-04-02", "2026-04-03")]
    assert [each.experts for each in found] == ["always", "always", "labelled"]
    assert recipe("Qwen3-235B-A22B-FP8", "h200_sxm", "fp8", None) is None


def test_versions_are_in_order_of_their_days():
    """The newest that is not newer than the point is taken from the end; the first one has no day."""
    for versions in RECIPES.values():
        days = [each.since for each in versions]
        assert days == sorted(set(days))
        assert days[0] == ""


@pytest.mark.parametrize(
    ("how", "data", "experts", "expected"),
    [
        (Recipe(), 1, 1, (4, 1, 1)),
        (Recipe(), 1, 4, (4, 1, 4)),
        (Recipe(), 4, 16, (4, 1, 4)),
        (Recipe(experts="always"), 1, 1, (4, 1, 4)),
        (Recipe(experts="never"), 4, 16, (4, 1, 1)),
        (Recipe(groups=True), 4, 16, (1, 4, 4)),
        (Recipe(groups=True), 1, 1, (4, 1, 1)),
    ],
)
def test_labels_count_where_the_script_reads_them(how, data, experts, expected):
    """Tensor, data and expert parallelism on four GPUs."""
    assert how.parallelism(gpus=4, data=data, experts=experts) == expected


def test_settings_follow_the_load():
    """Some scripts take the concurrency for max_num_seqs, some two prompts for a step's budget."""
    how = Recipe(settings={"graph_tokens_max": 2048}, as_many_sequences=True, prompts_in_step=2)
    assert how.engine(concurrency=32, prompt_tokens=1024) == {
        "graph_tokens_max": 2048,
        "max_num_seqs": 32,
        "max_num_batched_tokens": 2048,
    }
