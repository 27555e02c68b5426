"""Overrides from the command line."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("seed=7", lambda s: s.seed == 7),
        ("cluster.pools.main.engine.leap=false", lambda s: s.cluster.pools[0].engine.leap is False),
        ("cluster.pools.1.replicas=5", lambda s: s.cluster.pools[1].replicas == 5),
        ("cluster.pools.spare.replicas=5", lambda s: s.cluster.pools[1].replicas == 5),
        ("policies.router=least_requests", lambda s: s.policies.router.name == "least_requests"),
        ("policies={router: {name: random}}", lambda s: s.policies.router.name == "random"),
        ("run.warm_up_s=2.5", lambda s: s.run.warm_up_s == 2.5),
        ("slo.classes.chat.ttft_s=1", lambda s: s.slo.targets("chat").ttft_s == 1.0),
        ("workload.max_requests=", lambda s: s.workload.max_requests is None),
        ("name='a=b'", lambda s: s.name == "a=b"),
    ],
)
def test_an_override_changes_one_thing(load, minimal, override, read):
    """Items of lists are found by position or name, the value is YAML, and missing sections are added."""
    assert read(load(minimal, override))


def test_a_component_written_as_a_name_has_keys(load, minimal):
    """``router: random`` is short for ``{name: random}``, to overrides as well."""
    scenario = load(minimal, "policies.router=random", "policies.router.name=least_tokens")
    assert scenario.policies.router.name == "least_tokens"
    scenario = load(
        minimal,
        "policies.scheduler=sjf",
        "policies.scheduler.predictor=constant",
        "policies.scheduler.predictor.tokens=7",
    )
    assert scenario.policies.scheduler.parameters == {"predictor": {"name": "constant", "tokens": 7}}


def test_the_last_override_wins(load, minimal):
    """Overrides apply in their order."""
    assert load(minimal, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set seed: not an override. expected KEY=VALUE with keys separated by dots."),
        ("=1", "--set =1: not an override. expected KEY=VALUE with keys separated by dots."),
        ("a..b=1", "--set a..b=1: not an override. expected KEY=VALUE with keys separated by dots."),
        (
            "cluster.pools.mian.replicas=2",
            "--set cluster.pools.mian.replicas=2: cluster.pools has no item 'mian'. "
            "expected a position below 2 or one of main, spare.\n  hint: did you mean 'main'?",
        ),
        (
            "cluster.pools.2.replicas=2",
            "--set cluster.pools.2.replicas=2: cluster.pools has no item '2'. "
            "expected a position below 2 or one of main, spare.",
        ),
        (
            "cluster.pools.main.gpu.memory=2",
            "--set cluster.pools.main.gpu.memory=2: cluster.pools.0.gpu has no keys (got 'h100-sxm' there). "
            "expected a mapping to find 'memory' in.",
        ),
        ("seed=[1", "--set seed=[1:1:3: not valid YAML: "),
        (
            "cluster.pools.main.replcas=2",
            "--set cluster.pools.main.replcas=2: cluster.pools.0.replcas: unknown key (got 2). expected one"
            " of ",
        ),
        ("clster.pools=[]", "--set clster.pools=[]: clster: unknown key (got a mapping). expected one of "),
        (
            "policies.router.nam=random",
            "--set policies.router.nam=random: policies.router.nam: unknown key (got 'random'). expected one of "
            "name.\n  hint: did you mean 'name'?",
        ),
        (
            "cluster.pools.main.latency.gemm_scale=1",
            "--set cluster.pools.main.latency.gemm_scale=1: cluster.pools.0.latency.name: missing key. "
            "expected the name of a component.",
        ),
        (
            "cluster.pools.main.replicas=0",
            "--set cluster.pools.main.replicas=0: cluster.pools.0.replicas: too small",
        ),
        ("run={drain: 3}", "--set run={drain: 3}: run.drain: neither true nor false (got 3)."),
    ],
)
def test_a_wrong_override_is_quoted(errors, minimal, override, message):
    """A mistake that comes from the command line is reported there and not at a line of the file."""
    assert "\n".join(errors(minimal, override)).startswith(message)


def test_all_wrong_overrides_are_reported(errors, minimal):
    """Overrides that lead nowhere are named together."""
    assert [line.split(":")[0] for line in errors(minimal, "seed", "name")] == ["--set seed", "--set name"]


def test_a_long_override_is_quoted_once(errors, minimal):
    """The second mistake in one override is told by its key alone."""
    override = "cluster.pools.main={model: llama-3.1-8b, gpu: h100-sxm, replicas: 0, tensor_parallel: 0}"
    first, second = errors(minimal, override)
    assert first.startswith(f"--set {override}: cluster.pools.0.")
    assert second.startswith("--set cluster.pools.main=...: cluster.pools.0.")
