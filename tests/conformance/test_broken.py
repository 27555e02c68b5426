"""Plugins that break a rule are caught, by the check or in a run; the message names plugin and rule."""

from __future__ import annotations

import re

import numpy as np
import pytest

import servesim
from servesim import PluginError, Scenario, TraceError
from servesim.generators.lengths import ConstantLength
from servesim.policies.routers import RoundRobin
from servesim.testing import check_policy
from servesim.workload.generated import generated
from servesim.workload.source import load

from .broken import BROKEN, PARAMETERS, Backwards, Negative, NotAnInteger, NoTime, OutOfRange


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_check_names_the_rule_that_is_broken(cls):
    """The message has the class's name and the sentence that its docstring gives."""
    plugin = cls(**PARAMETERS.get(cls, {}))
    with pytest.raises(PluginError) as raised:
        check_policy(plugin)
    assert cls.__name__ in str(raised.value)
    pattern = ".*".join(re.escape(part.strip()) for part in cls.__doc__.split("..."))
    assert re.search(pattern, str(raised.value)), raised.value


def test_class_in_a_function_is_not_picklable():
    """The commonest case of it: the hint says where to define the class."""

    class Local(RoundRobin):
        """A router that no other process can find."""

    with pytest.raises(PluginError, match=r"Local: cannot be pickled[\s\S]*top level of a module"):
        check_policy(Local())


@pytest.mark.parametrize(
    "plugin", [RoundRobin, ConstantLength(value=1), object()], ids=["class", "length", "object"]
)
def test_kind_that_cannot_be_told_is_an_error(plugin):
    """A class instead of an object, or an object that is no plugin."""
    with pytest.raises(PluginError, match="cannot tell the kind of plugin"):
        check_policy(plugin)


def test_unknown_kind_suggests_the_nearest():
    """The kinds are listed, with a hint."""
    with pytest.raises(PluginError, match=r"unknown kind \(got 'shedule[\s\S]*did you mean 'scheduler'"):
        check_policy(RoundRobin(), kind="sheduler")


def test_object_of_another_kind_is_refused():
    """A router is no scheduler."""
    with pytest.raises(PluginError, match="scheduler RoundRobin: has no method key"):
        check_policy(RoundRobin(), kind="scheduler")


def scenario():
    """Return a run of ten requests on two replicas."""
    return Scenario.model_validate(
        {
            "workload": {
                "generator": {
                    "name": "constant",
                    "rate_per_s": 1.0,
                    "requests": 10,
                    "prompt_tokens": {"distribution": "constant", "value": 10},
                    "output_tokens": {"distribution": "constant", "value": 5},
                }
            },
            "cluster": {
                "pools": [{"name": "main", "model": "llama-3.1-8b", "gpu": "h100-sxm", "replicas": 2}]
            },
        }
    )


@pytest.mark.parametrize(
    ("router", "got"), [(Negative, "-1"), (NotAnInteger, "0.0")], ids=["negative", "not an integer"]
)
def test_run_names_the_router_that_chose_no_replica(router, got):
    """The first wrong choice ends the run: which router, which request, its answer, what was possible."""
    expected = rf"router {router.__name__}: .* request 0 \(got {got}\). expected an integer from 0 to 1"
    with pytest.raises(PluginError, match=expected):
        servesim.run(scenario(), router=router())


def test_run_tells_where_a_policy_failed():
    """An exception inside a router is told with its file and line."""

    class Fails:
        def reset(self, context):
            """Keep no state."""

        def route(self, request, replicas):
            return 1 // (len(replicas) - 2)

    with pytest.raises(PluginError, match=r"ZeroDivisionError: .*, at .*test_broken\.py:\d+\)\. expected an"):
        servesim.run(scenario(), router=Fails())


def test_run_takes_numbers_of_numpy_as_sort_keys():
    """A key from an array orders as one from Python does."""

    class Shortest:
        def reset(self, context):
            """Keep no state."""

        def key(self, request):
            return np.int64(request.prompt_tokens)

    assert servesim.run(scenario(), scheduler=Shortest()).summary["requests_completed"] == 10


def test_run_takes_what_exists_for_as_long_as_it_exists():
    """A router that always answers 1 runs with two replicas; the check refuses it because of one."""
    result = servesim.run(scenario(), router=OutOfRange())
    assert result.requests["replica"].unique().to_list() == [1]


def test_run_names_a_latency_model_that_stops_the_clock():
    """A step without duration is refused when it is first priced."""
    with pytest.raises(PluginError, match=r"latency model NoTime: cannot price .*first_step_s > 0"):
        servesim.run(scenario(), latency=NoTime())


def test_reader_errors_about_a_file_stay_errors_about_the_file(tmp_path):
    """A reader that is in order but has nothing to read: `TraceError`, which is the user's to mend."""
    from servesim.workload.registries import READERS

    path = tmp_path / "empty.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    with pytest.raises(TraceError):
        check_policy(READERS.build("azure", {"path": path}))


def test_generators_are_checked_where_readers_are_sorted():
    """Requests out of order: a reader's are sorted and counted, a generator's are refused."""

    class Reader:
        """The broken generator's rows, read from somewhere."""

        def __init__(self):
            self.notes = {}

        def read(self):
            """Return them."""
            return next(Backwards().frames(0)).lazy()

    frame, notes = load(Reader(), "rows")
    assert frame["arrival_s"].to_list() == [0.0, 1.0]
    assert notes["rows_sorted"] == 1
    with pytest.raises(PluginError, match="row 2: arrival_s is out of order"):
        list(generated(Backwards(), "workload generator 'backwards'", 0))
