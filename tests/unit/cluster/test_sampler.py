"""When replica states are sampled: a fixed grid, or one that gets coarser as the run gets longer."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from harness import Buffers, engine, run
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim.cluster.clock import ARRIVAL, Wakeup
from servesim.cluster.records import SAMPLE
from servesim.cluster.sampler import ROWS_MAX, TICKS_MAX, Sampler
from servesim.cluster.system import System
from servesim.cluster.views import LiveReplicaView


def idle(index):
    """Return a view of a replica whose state is its index, and that works half of the time."""
    return SimpleNamespace(
        index=index,
        waiting_requests=index,
        running_requests=2 * index,
        running_tokens=3 * index,
        kv_blocks_used=4 * index,
        _replica=SimpleNamespace(busy_s=lambda now: now / 2),
    )


def sampled(duration_s, *, replicas=1, interval_s=None, until=None):
    """Return the rows of a run of *duration_s* and the times at which the sampler reported."""
    buffers = Buffers()
    system = System(buffers)
    reported = []
    sampler = Sampler(
        [idle(index) for index in range(replicas)], system, interval_s=interval_s, on_tick=reported.append
    )
    if until is not None:
        sampler.active = lambda: system.clock.now <= until
    sampler.start()
    system.clock.stop_at(duration_s)
    system.clock.run_until_stopped()
    sampler.flush()
    return np.frombuffer(bytes(buffers.samples), SAMPLE.dtype), reported


def test_a_fixed_interval_is_kept():
    """At 0, 0.5, 1, ... up to the end, which is left out; a row per replica, in order; never thinned."""
    rows, reported = sampled(3.0, replicas=2, interval_s=0.5)
    assert rows["time_s"].tolist() == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.5, 1.5, 2.0, 2.0, 2.5, 2.5]
    assert rows["replica"].tolist() == [0, 1] * 6
    assert reported == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    rows, _ = sampled(5000.0, interval_s=0.5)
    assert len(rows) == 10_000


def test_a_fixed_interval_does_not_drift():
    """Tick k is at k * interval, not at a sum of k roundings."""
    rows, _ = sampled(1000.0, interval_s=0.1)
    assert rows["time_s"].tolist() == [k * 0.1 for k in range(len(rows))]


def test_a_row_is_the_replicas_state():
    """Every column is what the view says at that time."""
    rows, _ = sampled(2.0, replicas=3, interval_s=1.5)
    assert rows[-1].tolist() == (1.5, 2, 2, 4, 6, 8, 0.75)


@settings(max_examples=40)
@given(st.floats(0.01, 3e4), st.sampled_from([1, 2, 33, 40, 300]))
def test_thinning_keeps_an_even_grid_and_few_ticks(duration_s, replicas):
    """From 0 to the end in steps of 1, 2, 4, ... s; fewer ticks than the limit, at least half of it."""
    limit = max(64, min(TICKS_MAX, ROWS_MAX // replicas))
    rows, reported = sampled(duration_s, replicas=replicas)
    times = rows["time_s"][::replicas]
    assert len(rows) == len(times) * replicas
    interval_s = times[1] if len(times) > 1 else 1.0
    assert interval_s >= 1.0 and np.log2(interval_s).is_integer()
    assert times.tolist() == [k * interval_s for k in range(len(times))]
    assert times[-1] < duration_s <= times[-1] + 2 * interval_s
    assert len(times) < limit
    assert interval_s == 1.0 or len(times) >= limit // 2
    assert set(times) <= set(reported)


def test_ticks_stop_when_nothing_is_left_to_sample():
    """An idle cluster does not keep the clock running."""
    rows, reported = sampled(100.0, interval_s=1.0, until=2.5)
    assert reported == [0.0, 1.0, 2.0]
    assert len(rows) == 3


def test_a_tick_comes_before_all_else_of_its_time():
    """A row shows the state before the arrivals of that moment."""
    buffers = Buffers()
    system = System(buffers)
    order = []
    sampler = Sampler([idle(0)], system, interval_s=1.0, on_tick=lambda now: order.append(("tick", now)))
    system.clock.wake(Wakeup(lambda now: order.append(("arrival", system.clock.now))), 1.0, ARRIVAL)
    sampler.start()
    system.clock.stop_at(1.5)
    system.clock.run_until_stopped()
    assert order == [("tick", 0.0), ("tick", 1.0), ("arrival", 1.0)]


@pytest.mark.parametrize("leap", [True, False])
def test_a_real_replica_after_its_run_is_empty(leap):
    """Prompt 1 s, two decode steps of 1 s: it has worked 3 of 8 s, and holds nothing any more."""
    result = run([(5.0, 4, 3)], settings=engine(leap=leap))
    view = LiveReplicaView(result.replicas[0])
    state = (view.waiting_requests, view.running_requests, view.running_tokens, view.kv_blocks_used)
    assert state == (0, 0, 0, 0)
    assert (result.end_s, view._replica.busy_s(result.end_s)) == (8.0, 3.0)
