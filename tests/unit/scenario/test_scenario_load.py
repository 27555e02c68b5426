"""Loading scenario files: what is accepted, and where mistakes are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from servesim.errors import ScenarioError
from servesim.scenario import load_scenario

POOL = "    - {name: main, model: llama-3.1-8b, gpu: h100-sxm}\n"
ENGINE = "    - {name: main, model: llama-3.1-8b, gpu: h100-sxm, engine: {%s}}\n"


def test_a_minimal_scenario_gets_every_default(load, minimal):
    """What a file leaves out has the documented default, components included."""
    scenario = load(minimal)
    pool = scenario.cluster.pools[0]
    assert (scenario.seed, pool.replicas, pool.tensor_parallel, pool.dtype) == (0, 1, 1, None)
    assert (pool.engine.max_num_seqs, pool.engine.max_num_batched_tokens) == (256, 2048)
    assert (pool.engine.kv_block_tokens, pool.engine.gpu_memory_utilization) == (16, 0.9)
    assert pool.engine.chunked_prefill and pool.engine.leap and not pool.engine.prefix_caching
    assert pool.latency.name == "roofline"
    assert pool.latency.parameters["memory_scale"] == 1.0
    assert scenario.policies.scheduler.name == "fcfs"
    assert (scenario.run.horizon_s, scenario.run.warm_up_s, scenario.run.drain) == (None, 0.0, True)
    assert scenario.cost.gpu_usd_per_h is None


def test_the_quickstart_is_the_contract(root):
    """The quickstart has the keys and values that users are promised."""
    scenario = load_scenario(root / "scenarios" / "quickstart.yaml")
    assert scenario.name == "quickstart"
    assert scenario.workload.source.reader == "azure"
    assert scenario.workload.source.parameters["path"] == str(root / "traces" / "azure_conv_sample.csv")
    assert [(pool.name, pool.replicas) for pool in scenario.cluster.pools] == [("main", 4)]
    assert (scenario.slo.ttft_s, scenario.slo.tpot_s) == (1.0, 0.05)


@pytest.mark.parametrize("name", ["azure_conv", "poisson_8x", "poisson_64x", "two_models"])
def test_the_other_examples_load(root, name):
    """Every example scenario is valid, whether its trace is there or not."""
    assert load_scenario(root / "scenarios" / f"{name}.yaml").name == name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "name: minimal",
            "nmae: minimal",
            "s.yaml:1:1: nmae: unknown key (got 'minimal'). expected one of "
            "name, seed, workload, cluster, policies, run, slo, cost.\n  hint: did you mean 'name'?",
        ),
        (POOL, "    - {gpu: h100-sxm}\n", "s.yaml:11:7: cluster.pools.0.model: missing key. "),
        (POOL, POOL.replace("8b", "8c"), "s.yaml:11:27: cluster.pools.0.model: neither in the catalog nor a"),
        (
            POOL,
            POOL.replace("h100", "h101"),
            "s.yaml:11:46: cluster.pools.0.gpu: not in the catalog (got 'h101-",
        ),
        (
            "replicas: 2",
            "replicas: 0",
            "s.yaml:12:67: cluster.pools.1.replicas: too small (got 0). expected at least 1.",
        ),
        (
            "replicas: 2",
            "replicas: two",
            "s.yaml:12:67: cluster.pools.1.replicas: not a whole number (got 'two'). expected a whole "
            "number.",
        ),
        (
            "replicas: 2",
            "replicas: true",
            "s.yaml:12:67: cluster.pools.1.replicas: not a whole number (got True). expected a whole number.",
        ),
        (
            "spare",
            "main",
            "s.yaml:12:14: cluster.pools.1.name: the name of pools.0 too (got 'main'). expected distinct "
            "names.",
        ),
        (
            POOL,
            ENGINE % "max_batched_tokens: 4096",
            "s.yaml:11:65: cluster.pools.0.engine.max_batched_tokens: unknown key (got 4096). expected one "
            "of ",
        ),
        (
            POOL,
            ENGINE % "max_num_seqs: 4096",
            "s.yaml:11:79: cluster.pools.0.engine.max_num_seqs: more sequences than tokens in a step (got "
            "4096). expected at most max_num_batched_tokens, 2048.",
        ),
        (
            POOL,
            ENGINE % "gpu_memory_utilization: .nan",
            "s.yaml:11:89: cluster.pools.0.engine.gpu_memory_utilization: not a finite number (got nan).",
        ),
        (
            POOL,
            ENGINE % "prefix_caching: true",
            "s.yaml:11:81: cluster.pools.0.engine.prefix_caching: not yet supported (got True). expected "
            "false.",
        ),
        (
            POOL,
            ENGINE % "preemption: swap",
            "s.yaml:11:77: cluster.pools.0.engine.preemption: not yet supported (got 'swap'). expected "
            "'recompute'.",
        ),
        (
            POOL,
            ENGINE % "preemption: recomputed",
            "s.yaml:11:77: cluster.pools.0.engine.preemption: unknown value (got 'recomputed'). "
            "expected one of recompute, swap.\n  hint: did you mean 'recompute'?",
        ),
        (
            POOL,
            ENGINE % "prefill_only_steps: true",
            "s.yaml:11:85: cluster.pools.0.engine.prefill_only_steps: steps that carry prompts alone cannot"
            " carry chunks of them (got True). expected chunked_prefill: false beside it.",
        ),
        (
            POOL,
            ENGINE % "chunked_prefill: false",
            "s.yaml:11:56: cluster.pools.0.engine.max_num_batched_tokens: too small for whole prompts (got "
            "2048). expected at least the longest sequence, 131072 tokens, with chunked_prefill: false.\n  "
            "hint: set engine.max_model_len",
        ),
        (
            POOL,
            ENGINE % "max_model_len: 200000",
            "s.yaml:11:80: cluster.pools.0.engine.max_model_len: longer than the model allows (got 200000). "
            "expected at most 131072 tokens.",
        ),
        (
            POOL,
            POOL.replace("}", ", latency: {name: constant}}"),
            "s.yaml:11:56: cluster.pools.0.latency.step_s: missing key. ",
        ),
        (
            POOL,
            POOL.replace("}", ", latency: {name: constant, step_s: 0}}"),
            "s.yaml:11:90: cluster.pools.0.latency.step_s: too small (got 0). expected more than 0",
        ),
        (
            POOL,
            POOL.replace("}", ", latency: {name: constnat}}"),
            "s.yaml:11:72: cluster.pools.0.latency.name: unknown latency model (got 'constnat'). "
            "expected one of roofline, table, constant, linear.\n  hint: did you mean 'constant'?",
        ),
        (
            POOL,
            POOL.replace("}", ", role: prefill}"),
            "s.yaml:11:56: cluster.pools.0.role: not yet supported",
        ),
        (
            POOL,
            POOL.replace("}", ", tensor_parallel: 3}"),
            "s.yaml:11:73: cluster.pools.0.tensor_parallel: does not divide llama-3.1-8b",
        ),
        (
            POOL,
            POOL.replace("3.1-8b", "3.1-70b"),
            "s.yaml:11:27: cluster.pools.0.model: memory: llama-3.1-70b does",
        ),
        (POOL, POOL.replace("}", ", dtype: fp9}"), "s.yaml:11:63: cluster.pools.0.dtype: "),
        (
            "poisson",
            "poison",
            "s.yaml:4:11: workload.generator.name: unknown workload generator (got 'poison').",
        ),
        (
            "constant,",
            "const,",
            "s.yaml:7:35: workload.generator.prompt_tokens.distribution: unknown value (got 'con",
        ),
        (
            "round_robin",
            "round_robbin",
            "s.yaml:14:18: policies.router.name: unknown router (got 'round_robbin').",
        ),
        (
            "policies:",
            "autoscaler: {}\npolicies:",
            "s.yaml:13:1: autoscaler: not yet supported (got a mapping).",
        ),
        ("policies:", "run: {horizon_s: -1}\npolicies:", "s.yaml:13:18: run.horizon_s: too small (got -1)."),
        (
            "policies:",
            "run: {drain: 1}\npolicies:",
            "s.yaml:13:14: run.drain: neither true nor false (got 1).",
        ),
        (
            "policies:",
            "run: {horizon_s: 5, warm_up_s: 5}\npolicies:",
            "s.yaml:13:32: run.warm_up_s: no arrival would count (got 5.0). expected less than horizon_s, "
            "5.0.",
        ),
        ("policies:", "slo: {ttft: 1}\npolicies:", "s.yaml:13:7: slo.ttft: unknown key (got 1)."),
        (
            "policies:",
            "slo: {classes: {a: {ttft_s: 0}}}\npolicies:",
            "s.yaml:13:29: slo.classes.a.ttft_s: too small",
        ),
        (
            "rate_per_s: 2",
            'rate_per_s: "2"',
            "s.yaml:5:17: workload.generator.rate_per_s: not a number (got '2'). expected a number.",
        ),
        (
            "requests: 10",
            "requests: true",
            "s.yaml:6:15: workload.generator.requests: not a whole number (got True).",
        ),
        (
            "sigma: 0.5",
            'sigma: "0.5"',
            "s.yaml:8:63: workload.generator.output_tokens.sigma: not a number (got '0.5').",
        ),
        (
            "{distribution: constant, value: 100}",
            '{distribution: mixture, components: [{weight: "1", '
            "tokens: {distribution: constant, value: 1}}]}",
            "s.yaml:7:66: workload.generator.prompt_tokens.components.0.weight: not a number (got '1').",
        ),
        (
            "workload:\n",
            'workload:\n  rate_scale: "2"\n',
            "s.yaml:3:15: workload.rate_scale: not a number (got '2'). expected a number.",
        ),
        (
            "workload:\n",
            "workload:\n  max_requests: true\n",
            "s.yaml:3:17: workload.max_requests: not a whole number (got True).",
        ),
        (
            "- {name: main, ",
            '- {name: main, latency: {name: constant, step_s: "0.1"}, ',
            "s.yaml:11:54: cluster.pools.0.latency.step_s: not a number (got '0.1'). expected a number.",
        ),
        ("policies:", "seed: -1\npolicies:", "s.yaml:13:7: seed: too small (got -1). expected at least 0."),
        (
            "workload:\n",
            "workload:\n  model: llama-2-7b\n",
            "s.yaml:3:10: workload.model: no pool serves this model",
        ),
        (
            "workload:\n",
            "workload:\n  model_map: {gpt-4: llama-2-7b}\n",
            "s.yaml:3:22: workload.model_map.gpt-4: no pool serves this model (got 'llama-2-7b'). "
            "expected one of llama-3.1-8b.",
        ),
    ],
)
def test_a_mistake_is_named_at_its_line_and_column(errors, minimal, old, new, message):
    """One mistake gives one message, which begins with the place of the key or the value that is wrong."""
    assert old in minimal
    text = "\n".join(errors(minimal.replace(old, new, 1)))
    assert text.startswith(message)
    assert sum(line.startswith("s.yaml:") for line in text.splitlines()) == 1


def test_a_misspelt_required_key_is_missing_too(errors, minimal):
    """The key that is there is unknown, the one that should be there is missing: both are said."""
    lines = [line for line in errors(minimal.replace("rate_per_s", "rate_pers")) if "hint" not in line]
    assert lines[0].startswith("s.yaml:3:3: workload.generator.rate_per_s: missing key.")
    assert lines[1].startswith("s.yaml:5:5: workload.generator.rate_pers: unknown key (got 2).")
    lines = errors(minimal.replace("sigma:", "sgima:"))
    assert lines[0].startswith("s.yaml:8:5: workload.generator.output_tokens.sigma: missing key.")
    assert lines[1].startswith("s.yaml:8:56: workload.generator.output_tokens.sgima: unknown key (got 0.5).")
    assert lines[2] == "  hint: did you mean 'sigma'?"


def test_a_nested_component_is_checked_at_its_line(errors, minimal):
    """The parameters of a scheduler's predictor are checked like those of the scheduler itself."""
    wrong = minimal + "  scheduler: {name: sjf, predictor: {name: noisy, sigm: 1}}\n"
    assert errors(wrong)[0] == (
        "s.yaml:15:51: policies.scheduler.predictor.sigm: unknown key (got 1). expected one of sigma."
    )
    wrong = minimal + "  scheduler: {name: sjf, predictor: {name: oracel}}\n"
    assert errors(wrong)[0].startswith(
        "s.yaml:15:44: policies.scheduler.predictor.name: unknown length predictor (got 'oracel')."
    )
    assert errors(minimal + "  scheduler: sjf\n")[0].startswith(
        "s.yaml:15:3: policies.scheduler.predictor: missing key."
    )


def test_all_mistakes_are_reported_together_in_the_order_of_lines(errors, minimal):
    """A user corrects a file once, not once per mistake."""
    wrong = minimal.replace("minimal", "3").replace("poisson", "poison").replace("h100-sxm", "h100", 1)
    wrong = (
        wrong.replace("replicas: 2", "replicas: 0")
        .replace("round_robin", "robin")
        .replace("workload:", "workload:\n  rate_scal: 2")
    )
    found = [line.split(" ")[1] for line in errors(wrong) if line.startswith("s.yaml")]
    assert found == [
        "name:",
        "workload.rate_scal:",
        "workload.generator.name:",
        "cluster.pools.0.gpu:",
        "cluster.pools.1.replicas:",
        "policies.router.name:",
    ]


def test_each_of_several_sources_is_checked(errors, minimal):
    """A mistake in the parameters of a merged source is reported at that source."""
    generator = (
        "{name: constant, rate_per_s: 1, requests: 1, prompt_tokens: {distribution: constant, value: 1}, "
        "output_tokens: {distribution: constant, value: %s}}"
    )
    head, _, tail = minimal.partition("  generator:")
    tail = tail[tail.index("cluster:") :]
    right, wrong = generator % 1, generator % 0
    text = f"{head}  sources:\n    - generator: {right}\n    - generator: {wrong}\n{tail}"
    (message,) = [line for line in errors(text) if line.startswith("s.yaml")]
    assert message.startswith(
        "s.yaml:5:161: workload.sources.1.generator.output_tokens.value: too small (got 0)."
    )


def test_exactly_one_origin_of_requests(errors, minimal):
    """A workload with both a trace and a generator is refused."""
    wrong = minimal.replace("workload:\n", "workload:\n  source: {reader: azure, path: x.csv}\n")
    assert errors(wrong)[0].startswith(
        "s.yaml:3:3: workload: expected exactly one of source, generator, sources"
    )


def test_a_missing_section_is_named(errors, minimal):
    """A file without a cluster says so, and points to its beginning."""
    head = minimal[: minimal.index("cluster:")]
    assert errors(head) == [
        "s.yaml:1:1: cluster: missing key. expected a value for 'cluster' (the replicas that serve them)."
    ]


def test_an_abbreviation_keeps_its_letters(errors, minimal):
    """A description that begins with CSV is quoted so within a sentence."""
    assert errors(minimal.replace("constant, value: 100", "empirical")) == [
        "s.yaml:7:5: workload.generator.prompt_tokens.file: missing key. "
        "expected a value for 'file' (CSV or Parquet file; counts may be probabilities)."
    ]


def test_a_list_whose_items_are_wrong_is_not_too_short(errors, minimal):
    """Both states of a process are there; what is wrong with them is all that is said."""
    states = "states: [{rate: 1, mean_s: 2}, {rate: 2, mean_s: 2}]"
    text = minimal.replace("poisson", "mmpp").replace("rate_per_s: 2", states)
    found = [line.split(" ")[1] for line in errors(text) if line.startswith("s.yaml")]
    assert found == [
        f"workload.generator.states.{index}.{key}:" for index in (0, 1) for key in ("rate_per_s", "rate")
    ]


def test_a_generator_that_nothing_ends_is_named_at_its_line(errors, load, minimal):
    """Alone and among several sources; a window or max_requests beside it ends it as well."""
    endless = minimal.replace("    requests: 10\n", "")
    assert errors(endless) == [
        "s.yaml:3:3: workload.generator: nothing ends the stream of requests. expected the generator's "
        "requests or duration_s, a window or max_requests."
    ]
    for override in ("max_requests=3", "window={end_s: 5}", "generator.duration_s=5"):
        load(endless, f"workload.{override}")
    head, _, tail = endless.partition("  generator:")
    generator, cluster, end = tail.partition("cluster:")
    source = "    - generator:" + generator.replace("\n    ", "\n        ")
    sources = f"{head}  sources:\n{source}      max_requests: 3\n{source}{cluster}{end}"
    assert errors(sources)[0].startswith("s.yaml:10:7: workload.sources.1.generator: nothing ends")
    load(sources, "workload.max_requests=9")


def test_a_trace_that_is_not_there_is_named_at_its_line(file, load, minimal):
    """It is looked for where that is asked for; a folder is none."""
    head, tail = minimal.split("  generator:")[0], minimal[minimal.index("cluster:") :]
    text = f"{head}  source: {{reader: azure, path: gone.csv}}\n{tail}"
    assert load(text).workload.source is not None
    path = file(text)
    gone = path.parent.resolve() / "gone.csv"
    for wrong in ("no such file", "a folder"):
        with pytest.raises(ScenarioError) as caught:
            load_scenario(path, with_files=True)
        assert str(caught.value) == (
            f"{path}:3:33: workload.source.path: {wrong} (got {str(gone)!r}). expected a trace.\n"
            "  hint: a relative path starts from the scenario file's folder"
        )
        gone.mkdir(exist_ok=True)
    gone.rmdir()
    gone.touch()
    assert load_scenario(path, with_files=True) == load(text)


@pytest.mark.parametrize(
    ("override", "wrong", "bound"),
    [
        ("run.sample_interval_s=1e-6", "small", "at least 0.001"),
        ("workload.rate_scale=1e-20", "small", "at least 1e-06"),
        ("workload.rate_scale=2e6", "large", "at most 1000000.0"),
    ],
)
def test_times_that_the_clock_cannot_resolve_are_refused(errors, minimal, override, wrong, bound):
    """A run would not end, or its arrivals would fall together."""
    (message,) = errors(minimal, override)
    assert f": too {wrong} (got " in message and message.endswith(f"expected {bound}.")


def test_a_constructor_that_refuses_is_heard(errors, minimal):
    """What only a plugin's constructor can check is reported at the component."""
    text = minimal.replace("poisson", "weibull")
    assert errors(text)[0].startswith("s.yaml:4:5: workload.generator: ")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "just a text\n", "- a\n- list\n"])
def test_a_file_that_is_no_mapping_is_refused(errors, text):
    """An empty file, a text and a list are not scenarios."""
    (message,) = errors(text)
    assert "not a scenario" in message and "expected a mapping with the keys name, seed, workload" in message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """A missing file, a folder and a binary file give a message, not a traceback."""
    with pytest.raises(ScenarioError, match=r"nowhere\.yaml: no such file"):
        load_scenario(tmp_path / "nowhere.yaml")
    with pytest.raises(ScenarioError, match="a directory"):
        load_scenario(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(ScenarioError, match="not a text in UTF-8"):
        load_scenario(tmp_path / "b.yaml")


def test_relative_paths_start_from_the_file(tmp_path, minimal, monkeypatch):
    """The folder of the scenario counts, not the working directory."""
    (tmp_path / "deep").mkdir()
    generator = minimal[minimal.index("  generator:") : minimal.index("cluster:")]
    text = minimal.replace(generator, "  source: {reader: azure, path: ../a.csv}\n")
    (tmp_path / "deep" / "s.yaml").write_text(text)
    monkeypatch.chdir(tmp_path / "deep")
    scenario = load_scenario("s.yaml")
    assert scenario.workload.source.parameters["path"] == str(tmp_path.resolve() / "a.csv")
    assert load_scenario(Path("..") / "deep" / "s.yaml") == scenario


def test_a_model_can_be_a_path(load, minimal, tmp_path):
    """A model with a slash or .json in it is a path relative to the file; a missing one is an error there."""
    with pytest.raises(
        ScenarioError, match=r"s\.yaml:11:27: cluster\.pools\.0\.model: neither in the catalog nor"
    ):
        load(minimal.replace("llama-3.1-8b", "mine/config.json", 1))


def test_a_component_without_parameters_is_its_name(load, minimal):
    """`router: least_requests` is short for `router: {name: least_requests}`."""
    short = load(minimal.replace("{name: round_robin}", "least_requests"))
    assert short == load(minimal.replace("round_robin", "least_requests"))
