"""From a scenario to a result: what is refused before the run, and what the result says it rests on."""

from __future__ import annotations

import gc
import hashlib
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import servesim
from servesim import RunResult, Scenario, registry
from servesim.cluster.build import uses_oracle
from servesim.errors import PluginError, ScenarioError, ServesimError
from servesim.latency.coefficients import MEASURED
from servesim.latency.linear import Linear
from servesim.policies.predictors import Constant, Noisy, Oracle
from servesim.policies.routers import LeastRequests, RoundRobin
from servesim.policies.schedulers import FirstComeFirstServed, ShortestJobFirst
from servesim.results import recorder, run_result
from servesim.scenario import RunSpec

LENGTH = {"distribution": "constant", "value": 4}


def scenario(**policies):
    """Return a scenario of three requests."""
    generator = {"name": "constant", "rate_per_s": 2.0, "requests": 3}
    return Scenario.model_validate(
        {
            "workload": {"generator": {**generator, "prompt_tokens": LENGTH, "output_tokens": LENGTH}},
            "cluster": {
                "pools": [
                    {
                        "name": name,
                        "model": "llama-3.1-8b",
                        "gpu": "h100-sxm",
                        "latency": {"name": "constant", "step_s": 0.125},
                    }
                    for name in ("left", "right")
                ]
            },
            "policies": policies,
        }
    )


class Fixed:
    """Send every request to one replica.

    Parameters
    ----------
    position
        Which.
    helper
        Anything.
    """

    def __init__(self, *, position=0, helper=None):
        self.position = position
        self.helper = helper

    def reset(self, context):
        """Keep no state."""

    def route(self, request, replicas):
        """Return it."""
        return self.position


def test_the_numbers_of_a_small_run():
    """Arrivals at 0, 0.5, 1; four steps of 0.125 s each; the replicas take turns."""
    result = servesim.run(scenario())
    assert result.requests["replica"].to_list() == [0, 1, 0]
    assert result.requests["finished_s"].to_list() == [0.5, 1.0, 1.5]
    assert result.summary["duration_s"] == 1.5


def test_provenance_tells_components_as_the_scenario_does():
    """Name and every parameter, defaults written out, nested components included."""
    result = servesim.run(scenario(scheduler={"name": "sjf", "predictor": {"name": "noisy", "sigma": 0.25}}))
    assert result.provenance["policies"] == {
        "router": {"name": "round_robin"},
        "scheduler": {"name": "sjf", "predictor": {"name": "noisy", "sigma": 0.25}},
    }
    assert result.provenance["oracle_policies"] == ["scheduler"]
    assert [pool["latency_model"] for pool in result.provenance["pools"]] == [
        {"name": "constant", "step_s": 0.125}
    ] * 2


def test_provenance_tells_objects_by_class_and_parameters():
    """What was passed in stands instead of the scenario's, its parameters by repr, nested ones too."""
    result = servesim.run(
        scenario(),
        router=LeastRequests(),
        scheduler=ShortestJobFirst(predictor=Noisy(sigma=0.5)),
        latency=Linear(base_s=0.25),
    )
    assert result.provenance["policies"] == {
        "router": {"class": "servesim.policies.routers.LeastRequests", "parameters": {}},
        "scheduler": {
            "class": "servesim.policies.schedulers.ShortestJobFirst",
            "parameters": {
                "predictor": {
                    "class": "servesim.policies.predictors.Noisy",
                    "parameters": {"sigma": "0.5"},
                }
            },
        },
    }
    for pool in result.provenance["pools"]:
        assert pool["latency_model"]["class"] == "servesim.latency.linear.Linear"
        assert pool["latency_model"]["parameters"]["base_s"] == "0.25"
    # It decides, too: four steps of 0.25 s.
    assert result.requests["e2e_s"].to_list() == [1.0, 1.0, 1.0]


def test_provenance_is_the_same_on_every_run():
    """No address of an object gets into it."""
    first, second = (
        servesim.run(scenario(), router=Fixed(position=1, helper=[lambda: None])).provenance for _ in range(2)
    )
    assert first == second
    parameters = first["policies"]["router"]["parameters"]
    assert parameters["position"] == "1" and "lambda" in parameters["helper"]
    assert "0x" not in json.dumps(first)


def test_what_cannot_be_saved_is_refused_before_the_run(tmp_path: Path):
    """A parameter that YAML cannot hold would lose the run's numbers at its end; without out it may be."""
    unwritable = scenario(scheduler={"name": "sjf", "predictor": Noisy(sigma=0.5)})
    assert servesim.run(unwritable).summary["requests_completed"] == 3

    class Never(Fixed):
        def route(self, request, replicas):
            raise AssertionError("the run has begun")

    with pytest.raises(ScenarioError, match="cannot be written"):
        servesim.run(unwritable, router=Never(), out=tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ServesimError, match="a result cannot be saved here"):
        servesim.run(scenario(), router=Never(), out=tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_run_that_fails_leaves_nothing_behind(tmp_path: Path):
    """The older result stays as it was, and no temporary directory is left."""
    servesim.run(scenario(), out=tmp_path / "out")
    before = RunResult.load(tmp_path / "out").fingerprint()

    class Late(Fixed):
        def route(self, request, replicas):
            if request.request_id == 2:
                raise ZeroDivisionError("a bug of the plugin")
            return 0

    with pytest.raises(PluginError, match="ZeroDivisionError: a bug of the plugin"):
        servesim.run(scenario(), router=Late(), out=tmp_path / "out")
    assert RunResult.load(tmp_path / "out").fingerprint() == before
    gc.collect()  # the rows on disk live as long as the frames of the error's traceback
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overrides_need_a_file():
    """With a Scenario they would be ignored; the error says how to get one that has them."""
    with pytest.raises(
        ScenarioError, match=r"only a file takes them \(got 'seed=1' with a Scenario\)"
    ) as caught:
        servesim.run(scenario(), overrides=["seed=1"])
    assert "load_scenario" in caught.value.hint


def test_progress_is_told(root):
    """Arrived, expected and the simulated time, from the start to the end."""
    told = []
    plain = servesim.load_scenario(
        root / "scenarios" / "quickstart.yaml", overrides=["workload.max_requests=500"]
    )
    servesim.simulate(plain, progress=lambda *state: told.append(state))
    arrived, expected, now = zip(*told, strict=True)
    assert set(expected) == {500}
    assert list(arrived) == sorted(arrived) and list(now) == sorted(now)
    assert (arrived[0], now[0]) == (0, 0.0) and arrived[-1] > 400


def test_ctrl_c_ends_the_run_and_keeps_it(root, tmp_path: Path):
    """The first one ends the run early; afterwards Ctrl-C means what it meant before."""
    before = signal.getsignal(signal.SIGINT)
    plain = servesim.load_scenario(root / "scenarios" / "quickstart.yaml")

    def press(arrived, expected, now):
        if arrived > 500:
            signal.raise_signal(signal.SIGINT)

    result = servesim.simulate(plain, out=tmp_path / "out", progress=press)
    assert result.interrupted and 500 < result.summary["requests_arrived"] < 2000
    assert RunResult.load(tmp_path / "out").fingerprint() == result.fingerprint()
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("moment", ["summarize", "replacing"])
def test_ctrl_c_after_the_end_of_the_run_changes_nothing(moment, tmp_path: Path, monkeypatch):
    """While the finished run is summarised or saved, it is too late to stop it: it is saved whole."""
    before = signal.getsignal(signal.SIGINT)
    press_at(moment, 1, monkeypatch)
    result = servesim.run(scenario(), out=tmp_path / "out")
    assert not result.interrupted and result.summary["requests_completed"] == 3
    loaded = RunResult.load(tmp_path / "out")
    assert loaded.fingerprint() == result.fingerprint() == servesim.run(scenario()).fingerprint()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("moment", ["summarize", "replacing"])
def test_a_second_ctrl_c_gives_up(moment, tmp_path: Path, monkeypatch):
    """Nothing half-written is left, and the older result stays."""
    servesim.run(scenario(), out=tmp_path / "out")
    older = RunResult.load(tmp_path / "out").fingerprint()
    press_at(moment, 2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        servesim.run(scenario(router={"name": "least_requests"}), out=tmp_path / "out")
    assert RunResult.load(tmp_path / "out").fingerprint() == older
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def press_at(moment: str, times: int, monkeypatch) -> None:
    """Send this process real interrupts when the summary is begun, or the saving."""
    module = {"summarize": recorder, "replacing": run_result}[moment]
    original = getattr(module, moment)

    def pressed(*arguments):
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(module, moment, pressed)


def test_provenance_tells_the_inputs(tmp_path: Path):
    """A trace of the same name and size with other numbers in it is another input; the hash is the same."""
    path = tmp_path / "t.csv"
    facts, hashes = [], set()
    for tokens in ("7", "8"):
        path.write_text(f"arrival_s,prompt_tokens,output_tokens\n0.0,5,{tokens}\n")
        values = scenario().model_dump() | {
            "workload": {"source": {"reader": "table", "path": str(path)}},
        }
        told = servesim.run(Scenario.model_validate(values)).provenance
        facts += told["inputs"]
        hashes.add(told["scenario_hash"])
    assert [(fact["key"], fact["name"], fact["size_bytes"]) for fact in facts] == [
        ("workload.source.path", "t.csv", path.stat().st_size)
    ] * 2
    assert facts[1]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() != facts[0]["sha256"]
    assert len(hashes) == 1
    assert servesim.run(scenario()).provenance["inputs"] == []


def test_provenance_tells_a_model_from_disk(tmp_path: Path):
    """Its config.json is an input; a model of the catalog comes with the catalog's version."""
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 1000,
        "max_position_embeddings": 2048,
        "torch_dtype": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    values = scenario().model_dump()
    values["cluster"]["pools"][0]["model"] = str(tmp_path)
    values["cluster"]["pools"] = values["cluster"]["pools"][:1]
    told = servesim.run(Scenario.model_validate(values)).provenance
    assert [(fact["key"], fact["name"]) for fact in told["inputs"]] == [
        ("cluster.pools.0.model", "config.json")
    ]
    assert told["calibration_version"] is None
    package = Path(servesim.__file__).parent
    data = [package / "catalog" / name for name in ("engines.toml", "gpus.toml", "models.toml")]
    data += [package / "latency" / "fitted" / f"{name}.toml" for name in MEASURED]
    content = b"".join(path.read_bytes() for path in data)
    assert told["catalog_version"] == hashlib.sha256(content).hexdigest()[:16]


def test_provenance_tells_the_code_of_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of those that the scenario names, nested ones included, unless an object took their place; of objects, too."""
    (tmp_path / "told_plugins.py").write_text(
        "from servesim.policies.routers import RoundRobin\n"
        "from servesim.policies.predictors import Constant\n"
        "class Mine(RoundRobin): ...\n"
        "class Guess(Constant): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    points = (
        EntryPoint("told", "told_plugins:Mine", "servesim.routers"),
        EntryPoint("guess", "told_plugins:Guess", "servesim.length_predictors"),
    )
    monkeypatch.setattr(registry, "_installed", lambda: points)
    values = scenario().model_dump()
    values["policies"] = {
        "router": {"name": "told"},
        "scheduler": {"name": "sjf", "predictor": {"name": "guess"}},
    }
    mine = Scenario.model_validate(values)

    def told(**objects: Any) -> list[tuple[str, str]]:
        return [(fact["key"], fact["name"]) for fact in servesim.run(mine, **objects).provenance["inputs"]]

    assert told() == [
        ("policies.router", "told_plugins.py"),
        ("policies.scheduler.predictor", "told_plugins.py"),
    ]
    assert told(router=RoundRobin(), scheduler=FirstComeFirstServed()) == []
    given = import_module("told_plugins").Mine()
    assert told(router=given)[-1] == ("router", "told_plugins.py")


class Unpriced:
    """A latency model that forgot its price."""

    def reset(self, context):
        """Keep no state."""


@pytest.mark.parametrize(
    ("place", "given", "message"),
    [
        ("router", "least_requests", r"router: a name where .* \(got 'least_requests'\)"),
        ("router", LeastRequests, r"router: a class where an object belongs \(got LeastRequests\)"),
        ("router", object(), r"router: object has no reset and no route \(got <object"),
        ("scheduler", Fixed(), r"scheduler: Fixed has no key .* with the methods reset and key"),
        ("latency", Unpriced(), r"latency model: Unpriced has no price .* methods reset and price"),
        ("latency", "roofline", r"latency model: a name where an object belongs"),
    ],
)
def test_an_object_of_another_kind_is_refused(place, given, message):
    """What cannot be a plugin of its kind is refused before the run, and the hint says what to do."""
    with pytest.raises(PluginError, match=message) as caught:
        servesim.run(scenario(), **{place: given})
    assert caught.value.hint


class Slotted:
    """A scheduler that keeps its predictors in slots.

    Parameters
    ----------
    predictors
        Anything that holds predictors.
    """

    __slots__ = ("__predictors", "unset")

    def __init__(self, *, predictors):
        self.__predictors = predictors

    def reset(self, context):
        """Keep no state."""

    def key(self, request):
        """Return no preference."""
        return 0.0


class Wrapped(Fixed):
    """A router with attributes beside the inherited ones."""


@pytest.mark.parametrize(
    ("policy", "looks"),
    [
        (Slotted(predictors=Oracle()), True),
        (Slotted(predictors=[Constant(), Noisy(sigma=0.5)]), True),
        (Slotted(predictors=({"chat": Slotted(predictors=Oracle())},)), True),
        (Slotted(predictors=[Constant(), Constant()]), False),
        (Slotted(predictors="oracle"), False),
        (Wrapped(helper={Oracle()}), True),
        (Wrapped(helper=Constant()), False),
    ],
)
def test_an_oracle_is_found_wherever_it_is_kept(policy, looks):
    """In attributes and slots, in lists, tuples, sets and mappings, and in policies inside of policies."""
    assert uses_oracle(policy) is looks


def test_a_policy_that_refers_to_itself():
    """The search for oracles ends."""
    policy = Fixed()
    policy.helper = [policy]
    assert not uses_oracle(policy)


def test_a_run_in_a_thread_leaves_signals_alone():
    """Only the main thread may handle them; the result is the same."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(servesim.run, scenario()).result()
    assert result.fingerprint() == servesim.run(scenario()).fingerprint()


@pytest.mark.parametrize("run", [{}, {"drain": False}, {"horizon_s": 0.75}])
def test_a_saved_result_leaves_nothing_beside_it(run, tmp_path: Path):
    """The hidden directory of rows is gone when the result has its place, however the run ended."""
    given = scenario().model_copy(update={"run": RunSpec.model_validate(run)})
    result = servesim.run(given, out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert result.requests.height == result.summary["requests_arrived"]


@pytest.mark.parametrize(("horizon_s", "end_s", "finished"), [(None, 1.0, 1), (0.75, 0.75, 1), (9.0, 9.0, 3)])
def test_a_run_that_does_not_drain(horizon_s, end_s, finished):
    """It ends at the horizon, or else with the last arrival; what is not finished then is counted so.

    Arrivals at 0, 0.5 and 1, half a second each: at 1.0 the second request's last step has not been booked
    yet, for arrivals come before ends of steps.
    """
    run = {"drain": False, "horizon_s": horizon_s}
    summary = servesim.run(scenario().model_copy(update={"run": RunSpec.model_validate(run)})).summary
    assert summary["duration_s"] == end_s
    assert summary["requests_completed"] == finished
    assert summary["requests_unfinished"] == summary["requests_arrived"] - finished
