"""Every plugin that a scenario can name passes `check_policy`: built-ins and entry points."""

from __future__ import annotations

import pytest
from profile_format import profile

from servesim.latency import LATENCY_MODELS
from servesim.policies import PREDICTORS, ROUTERS, SCHEDULERS
from servesim.testing import check_policy
from servesim.testing.check import METHODS
from servesim.traces.convert import convert
from servesim.workload.registries import GENERATORS, READERS

REGISTRIES = [ROUTERS, SCHEDULERS, PREDICTORS, LATENCY_MODELS, GENERATORS]

LENGTHS = {
    "prompt_tokens": {"distribution": "lognormal", "mean": 300, "sigma": 1.0},
    "output_tokens": {"distribution": "uniform", "low": 1, "high": 50},
}
BOUNDED = {**LENGTHS, "rate_per_s": 5.0, "requests": 500, "duration_s": 60.0}

PARAMETERS = {
    ROUTERS.kind: {},
    SCHEDULERS.kind: {"sjf": [{"predictor": {"name": name}} for name in ("oracle", "noisy", "constant")]},
    PREDICTORS.kind: {"noisy": [{}, {"sigma": 0.0}]},
    LATENCY_MODELS.kind: {
        "roofline": [{}, {"gemm_scale": 1.1, "collective_scale": 2.0}],
        "table": [{"path": profile()}],
        "constant": [{"step_s": 0.01}],
        "linear": [
            {"base_s": 5e-3},
            {
                "base_s": 5e-3,
                "per_sequence_s": 1e-5,
                "per_context_token_s": 3e-8,
                "per_prefill_token_s": 2e-5,
                "per_prefill_pair_s": 1e-10,
            },
        ],
    },
    GENERATORS.kind: {
        "poisson": [BOUNDED, {**LENGTHS, "rate_per_s": 5.0}],
        "gamma": [{**BOUNDED, "cv": 3.0}],
        "weibull": [{**BOUNDED, "cv": 3.0}, {**BOUNDED, "shape": 0.6}],
        "constant": [BOUNDED],
        "closed_loop": [
            {
                **LENGTHS,
                "clients": 7,
                "requests": 500,
                "think_s": {"distribution": "exponential", "mean_s": 3.0},
            }
        ],
        "sessions": [
            {
                **BOUNDED,
                "turns": {"distribution": "exponential", "mean": 4.0},
                "think_s": {"distribution": "lognormal", "mean_s": 3.0, "sigma": 1.0},
                "system_prompt_tokens": 100,
                "max_prompt_tokens": 2000,
                "block_tokens": 16,
            }
        ],
        "mmpp": [
            {
                **LENGTHS,
                "requests": 500,
                "states": [{"rate_per_s": 20.0, "mean_s": 2.0}, {"rate_per_s": 0.0, "mean_s": 3.0}],
            }
        ],
        "burstgpt": [
            {"requests": 500, "duration_s": 3600.0},
            {"profile": "flat", "rate_per_s": 5.0, "cv": 4.0, "failures": "keep", "requests": 500},
            {"closed_loop": True, "start_day": 9, "start_hour": 14, "requests": 500},
        ],
        "servegen": [
            {"pool": "language", "rate_per_s": 5.0, "requests": 500, "duration_s": 60.0},
            {"pool": "reason", "clients": {"sample": 20}, "scale": 0.5, "copula": 0.3, "duration_s": 700.0},
            {"pool": "multimodal", "mode": "naive", "rate_per_s": [1.0, 3.0], "requests": 500},
        ],
    },
}
"""Parameters to try, for the plugins that need some or have some worth trying."""

SAMPLES = {
    "azure": ["azure_conv_sample.csv", "azure_2024_sample.csv", "azure_lmm_2025_sample.csv"],
    "burstgpt": ["burstgpt_1_sample.csv", "burstgpt_3_sample.csv"],
    "claude_code": ["claude_code_sample.json"],
    "lmcache": ["lmcache_sample.jsonl"],
    "mooncake": ["mooncake_sample.jsonl"],
    "qwen_bailian": ["qwen_bailian_sample.jsonl"],
    "ragpulse": ["ragpulse_sample.jsonl"],
}
"""Bundled traces in the format of each reader; the table reader reads a file made by its test."""

CASES = [
    pytest.param(registry, name, parameters, id=f"{registry.kind}: {name} {index}")
    for registry in REGISTRIES
    for name in registry.names()
    for index, parameters in enumerate(PARAMETERS[registry.kind].get(name, [{}]))
]


@pytest.mark.parametrize(("registry", "name", "parameters"), CASES)
def test_registered_plugins_keep_their_contract(registry, name, parameters):
    """Routers, schedulers, predictors, latency models, generators: kinds are named as the registries do."""
    check_policy(registry.build(name, parameters), kind=registry.kind)


def test_kinds_are_told_by_their_methods():
    """Without a kind, the check finds it: the same as with it."""
    for registry in REGISTRIES:
        name = registry.names()[-1]
        plugin = registry.build(name, PARAMETERS[registry.kind].get(name, [{}])[0])
        assert [kind for kind, method in METHODS.items() if hasattr(plugin, method)] == [registry.kind]
        check_policy(plugin)


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in SAMPLES for file in SAMPLES[name]])
def test_readers_keep_their_contract_on_the_bundled_traces(name, file, root):
    """Columns of the schema, the same requests and counts on every read."""
    check_policy(READERS.build(name, {"path": root / "traces" / file}), kind=READERS.kind)


@pytest.mark.parametrize("zero_output", ["drop", "keep_as_one"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_table_reader_keeps_its_contract(tmp_path, suffix, zero_output):
    """A map of columns, another unit of time, rows out of order, a tag."""
    rows = [(1500, 10, 3, "a"), (500, 20, 4, "b"), (500, 30, 0, "a")]
    path = tmp_path / f"table.{suffix}"
    if suffix == "csv":
        path.write_text("ts,in,out,tenant\n" + "".join(f"{t},{p},{o},{who}\n" for t, p, o, who in rows))
    else:
        path.write_text(
            "".join(f'{{"ts": {t}, "in": {p}, "out": {o}, "tenant": "{who}"}}\n' for t, p, o, who in rows)
        )
    columns = {"arrival_s": "ts", "prompt_tokens": "in", "output_tokens": "out"}
    parameters = {"path": path, "columns": columns, "time_unit": "ms", "zero_output": zero_output}
    check_policy(READERS.build("table", parameters), kind=READERS.kind)


@pytest.mark.parametrize("zero_output", ["drop", "keep_as_one"])
def test_servesims_own_reader_keeps_its_contract(tmp_path, root, zero_output):
    """A converted trace with failures, tags and sessions."""
    convert(root / "traces" / "burstgpt_3_sample.csv", tmp_path / "own.parquet")
    parameters = {"path": tmp_path / "own.parquet", "zero_output": zero_output}
    check_policy(READERS.build("servesim", parameters), kind=READERS.kind)


def test_every_reader_is_tried():
    """A reader that is registered without a sample here fails."""
    assert set(READERS.names()) == {*SAMPLES, "table", "servesim"}


def test_check_leaves_the_object_alone():
    """Copies are tried: a router in the middle of a run stays where it is."""
    router = ROUTERS.build("round_robin", {})
    check_policy(router)
    assert vars(router) == {}
