"""Which requests enter, when, and at the replicas of which model."""

from __future__ import annotations

from array import array

import polars as pl
import pytest
from harness import Buffers, frame

from servesim.cluster.arrivals import Arrivals, Group
from servesim.cluster.system import System
from servesim.errors import TraceError
from servesim.policies.routers import RoundRobin


class Replica:
    """Takes note of what arrives."""

    def __init__(self):
        self.taken = []

    def enqueue(self, request, now):
        assert now == request.arrival_s
        self.taken.append(request)
        return True


class Recorder(Buffers):
    """Takes note of the frames that it is given."""

    def arrivals(self, frame):
        self.frames = [*getattr(self, "frames", []), frame]


class Cluster:
    """Groups of noting replicas under a clock."""

    def __init__(self, models, *, replicas=1):
        self.recorder = Recorder()
        self.system = System(self.recorder)
        self.groups = []
        for model in models:
            router = RoundRobin()
            router.reset(None)
            members = [Replica() for _ in range(replicas)]
            self.groups.append(Group(model, members, array("q", [0] * replicas), router))

    def serve(self, frames, *, horizon_s=None, on_last=None):
        """Let the frames arrive and return the process that brought them."""
        arrivals = Arrivals(
            iter(frames), self.groups, system=self.system, recorder=self.recorder, horizon_s=horizon_s
        )
        arrivals.on_last = on_last
        arrivals.start()
        self.system.clock.run_until_stopped()
        return arrivals

    def taken(self, attribute="request_id"):
        """Return an attribute of the requests that each replica took."""
        return [
            [getattr(request, attribute) for request in replica.taken]
            for group in self.groups
            for replica in group.entrances
        ]


def tagged(*rows):
    """Return a frame of (arrival_s, model)."""
    plain = frame([(arrival_s, 1, 1) for arrival_s, _ in rows])
    return plain.with_columns(pl.Series("model", [model for _, model in rows], dtype=pl.String))


def test_tags_choose_the_models_replicas():
    """Each model has its own router: its requests go round its own replicas."""
    cluster = Cluster(["small", "large"], replicas=2)
    cluster.serve(
        [tagged((0, "small"), (0, "large"), (1, "small"), (1, "small"), (2, "large"), (2, "small"))]
    )
    assert cluster.taken() == [[0, 3], [2, 5], [1], [4]]
    assert cluster.taken("model") == [["small"] * 2, ["small"] * 2, ["large"], ["large"]]


def test_requests_without_a_tag_go_to_the_only_model():
    """With one model a tag says nothing new."""
    cluster = Cluster(["small"])
    cluster.serve([tagged((0, None), (1, "small"))])
    assert cluster.taken("model") == [["small", "small"]]


def test_a_tag_that_no_pool_serves_is_refused():
    """The error names it and the models there are; the hint is the nearest, or how to map a tag."""
    with pytest.raises(
        TraceError, match=r"no pool serves \(got 'smal'\)\. expected one of small, large"
    ) as near:
        Cluster(["small", "large"]).serve([tagged((0, "small"), (0, "smal"))])
    assert near.value.hint == "did you mean 'small'?"
    with pytest.raises(TraceError, match=r"no pool serves \(got 'GPT-4'\)") as far:
        Cluster(["small"]).serve([tagged((0, "GPT-4"))])
    assert (
        far.value.hint == "workload.model_map: {GPT-4: small} maps the tag, workload.model replaces all tags"
    )


def test_no_tag_with_two_models_is_refused():
    """Nothing says who should serve it."""
    with pytest.raises(
        TraceError, match=r"without a model tag, while pools serve 2 models \(a, b\)"
    ) as caught:
        Cluster(["a", "b"]).serve([tagged((0, "a"), (0, None))])
    assert "workload.model" in caught.value.hint


def test_the_horizon_leaves_out_what_comes_at_it_or_later():
    """The horizon 2.0 ends a frame in its middle, and later frames are not even read."""
    cluster = Cluster(["m"])

    def frames():
        yield frame([(0.0, 1, 1), (1.0, 1, 1)])
        yield frame([(1.5, 1, 1), (2.0, 1, 1), (3.0, 1, 1)])
        raise AssertionError("read beyond the horizon")

    arrivals = cluster.serve(frames(), horizon_s=2.0)
    assert cluster.taken("arrival_s") == [[0.0, 1.0, 1.5]]
    assert (arrivals.arrived, arrivals.last_s, arrivals.finished) == (3, 1.5, True)
    assert [part.height for part in cluster.recorder.frames] == [2, 1]


def test_numbers_count_on_over_frames():
    """The recorder gets every frame; ids go on; ties across frames keep their order."""
    cluster = Cluster(["m"])
    arrivals = cluster.serve([frame([(0.0, 5, 1), (1.0, 6, 1)]), frame([(1.0, 7, 1)]), frame([(4.0, 8, 1)])])
    assert cluster.taken() == [[0, 1, 2, 3]]
    assert cluster.taken("prompt_tokens") == [[5, 6, 7, 8]]
    assert [part.height for part in cluster.recorder.frames] == [2, 1, 1]
    assert (arrivals.arrived, arrivals.last_s) == (4, 4.0)


def test_frames_are_read_when_they_are_needed():
    """A long workload is not read ahead: a frame is asked for at the last arrival of the one before."""
    cluster = Cluster(["m"])
    read_at = []

    def frames():
        for start_s in (0.0, 10.0, 20.0):
            read_at.append(cluster.system.clock.now)
            yield frame([(start_s, 1, 1), (start_s + 5.0, 1, 1)])

    cluster.serve(frames())
    assert read_at == [0.0, 5.0, 15.0]


def test_tags_of_a_request_reach_it():
    """Tenant, priority, session and lengths travel with the request."""
    cluster = Cluster(["model"])
    tags = {name: pl.lit(name, pl.String) for name in ("tenant", "session", "model")}
    cluster.serve([frame([(0.0, 3, 4, 7)]).with_columns(**tags)])
    (request,) = cluster.groups[0].entrances[0].taken
    assert (request.tenant, request.session, request.priority) == ("tenant", "session", 7)
    assert (request.prompt_tokens, request.output_tokens) == (3, 4)


def test_an_empty_workload_is_refused():
    """A run of no request has no result."""
    with pytest.raises(TraceError, match=r"holds no request to simulate \(got 0 rows\)"):
        Cluster(["m"]).serve([])
    with pytest.raises(TraceError, match="holds no request"):
        Cluster(["m"]).serve([frame([(5.0, 1, 1)])], horizon_s=2.0)


def test_the_end_of_arrivals_is_told():
    """A run that does not drain ends with the last arrival."""
    cluster = Cluster(["m"])
    told = []
    workload = [frame([(0.0, 1, 1), (2.0, 1, 1)])]
    cluster.serve(workload, on_last=lambda: told.append(cluster.system.clock.now))
    assert told == [2.0]


def test_an_empty_frame_is_passed_over():
    """A workload may yield frames without rows, also under a horizon."""
    cluster = Cluster(["m"])
    cluster.serve([frame([]), frame([(0.0, 1, 1)]), frame([]), frame([(9.0, 1, 1)])], horizon_s=5.0)
    assert cluster.taken("arrival_s") == [[0.0]]
