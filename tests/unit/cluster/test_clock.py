"""The clock: in which order it calls back, and how it is stopped."""

from __future__ import annotations

import sys

import pytest

from servesim.cluster.clock import ARRIVAL, CONTROL, STEP_END, Clock, Wakeup
from servesim.rng import stream


@pytest.fixture
def clock():
    """Return a clock at time 0."""
    return Clock()


def note(calls, name, *times):
    """Return a wake-up that notes its name, and asks to be called back at *times*, one after the other."""
    following = iter(times)

    def callback(now):
        calls.append(name)
        return next(following, None)

    return Wakeup(callback)


@pytest.mark.parametrize("seed", range(5))
def test_simultaneous_wakeups_come_by_kind_and_replica(clock, seed):
    """Control, then arrivals, then ends of steps by the replica's index, whoever asked first."""
    calls = []
    priorities = {
        "control": CONTROL,
        "arrival": ARRIVAL,
        **{f"replica {i}": STEP_END + i for i in (0, 1, 7, 64)},
    }
    expected = list(priorities)
    for name in stream(seed, "order of asking").permutation(expected):
        clock.wake(note(calls, name), 2.5, priorities[name])
    assert clock.run_until_stopped() is False
    assert calls == expected
    assert clock.now == 2.5


def test_a_wakeup_during_the_present_comes_in_its_order(clock):
    """What a callback schedules for the same time is called then, by kind and index among what is left."""
    calls = []

    def first(now):
        calls.append("replica 0")
        clock.wake(note(calls, "arrival"), 1.0, ARRIVAL)
        clock.wake(note(calls, "replica 2"), 1.0, STEP_END + 2)

    clock.wake(Wakeup(first), 1.0, STEP_END)
    clock.wake(note(calls, "replica 1"), 1.0, STEP_END + 1)
    clock.run_until_stopped()
    assert calls == ["replica 0", "arrival", "replica 1", "replica 2"]


def test_a_callback_may_do_both(clock):
    """Schedule something that comes before its own place, and ask to be called back later."""
    calls = []
    following = iter([2.0, None])

    def both(now):
        calls.append(("replica 3", now))
        clock.wake(Wakeup(lambda now: calls.append(("control", now))), now, CONTROL)
        return next(following)

    clock.wake(Wakeup(both), 1.0, STEP_END + 3)
    clock.wake(Wakeup(lambda now: calls.append(("replica 4", now))), 1.0, STEP_END + 4)
    assert clock.run_until_stopped() is False
    assert calls == [
        *(("replica 3", 1.0), ("control", 1.0), ("replica 4", 1.0)),
        *(("replica 3", 2.0), ("control", 2.0)),
    ]


def test_a_callback_says_when_it_is_called_next(clock):
    """At the times that it returns, until it returns None; with the same priority."""
    calls = []
    times = []
    clock.wake(note(calls, "replica 1", 3.0, 4.0), 1.0, STEP_END + 1)
    clock.wake(note(calls, "replica 0", 3.0), 2.0, STEP_END)
    clock.wake(Wakeup(times.append), 4.0, CONTROL)
    assert clock.run_until_stopped() is False
    assert calls == ["replica 1", "replica 0", "replica 0", "replica 1", "replica 1"]
    assert (times, clock.now) == ([4.0], 4.0)


def test_times_are_absolute_and_exact(clock):
    """A wake-up comes at the very float asked for, where now + (t - now) is another one."""
    now, later = 0.2, 0.9
    assert now + (later - now) != later
    seen = []
    following = iter([later, None])

    def callback(now):
        seen.append(now)
        return next(following)

    clock.wake(Wakeup(callback), now, STEP_END)
    clock.run_until_stopped()
    assert seen == [now, later]


def test_stop_ends_before_everything_of_its_time(clock):
    """Not even control wake-ups of that time are called; the clock stands there."""
    calls = []
    clock.wake(note(calls, "before"), 4.0, STEP_END)
    clock.wake(note(calls, "at"), 5.0, CONTROL)
    clock.stop_at(5.0)
    assert clock.run_until_stopped() is True
    assert (calls, clock.now) == (["before"], 5.0)


def test_stop_in_a_callback_ends_after_it(clock):
    """Without a time it takes effect at once: the callback ends, others of that time are not called."""
    calls = []
    clock.wake(Wakeup(lambda now: clock.stop()), 1.0, CONTROL)
    clock.wake(note(calls, "arrival"), 1.0, ARRIVAL)
    assert clock.run_until_stopped() is True
    assert (calls, clock.now) == ([], 1.0)


def test_stop_beyond_the_last_event_is_reached(clock):
    """A run of fixed length has that length, though nothing happens at its end."""
    clock.wake(Wakeup(lambda now: None), 1.0, ARRIVAL)
    clock.stop_at(100.0)
    assert clock.run_until_stopped() is True
    assert clock.now == 100.0


def test_an_error_of_a_callback_passes(clock):
    """The clock hides no error."""

    def fail(now):
        raise ZeroDivisionError

    clock.wake(Wakeup(fail), 1.0, ARRIVAL)
    with pytest.raises(ZeroDivisionError):
        clock.run_until_stopped()


def test_simpy_processes_run_beside_wakeups(clock):
    """Timeouts and events work as SimPy says, in the order of time, before wake-ups of the same time."""
    calls = []

    def process(name, gap_s):
        for _ in range(3):
            yield clock.timeout(gap_s)
            calls.append((clock.now, name))

    def waiter(done):
        value = yield done
        calls.append((clock.now, value))

    finished = clock.process(process("slow", 1.0))
    clock.process(process("fast", 0.5))
    done = clock.event()
    clock.process(waiter(done))
    clock.wake(Wakeup(lambda now: done.succeed("done") and None), 1.25, CONTROL)
    clock.wake(Wakeup(lambda now: calls.append((clock.now, "wake-up"))), 1.0, CONTROL)
    assert clock.run_until_stopped() is False
    assert calls[0] == (0.5, "fast")
    assert sorted(calls[1:3]) == [(1.0, "fast"), (1.0, "slow")]
    assert calls[3:] == [(1.0, "wake-up"), (1.25, "done"), (1.5, "fast"), (2.0, "slow"), (3.0, "slow")]
    assert finished.processed and finished.ok


def test_an_interrupt_between_any_two_instructions_stops_once():
    """Python runs signal handlers after C calls and at the start of functions: a stop at any of them works.

    The calls made before the stop are those of an undisturbed run, none missing and none twice.
    """

    def build():
        clock, calls = Clock(), []
        for replica in range(3):
            clock.wake(note(calls, replica, *(1.0 + replica + k for k in range(4))), 0.5, STEP_END + replica)
        clock.wake(note(calls, "arrival", 1.0, 2.0, 2.5), 0.0, ARRIVAL)
        return clock, calls

    def run(interrupt_at):
        """Run and stop at the given moment; return the calls, whether it was stopped, and its moments."""
        clock, calls = build()
        moments = 0

        def profile(frame, event, argument):
            nonlocal moments
            if event in ("c_return", "call") and clock.stop.__code__ is not frame.f_code:
                moments += 1
                if moments == interrupt_at:
                    sys.setprofile(None)
                    clock.stop()

        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            stopped = clock.run_until_stopped()
        finally:
            sys.setprofile(before)
        return calls, stopped, moments

    undisturbed, stopped, moments = run(0)
    assert not stopped and len(undisturbed) == 3 * 5 + 4
    for moment in range(1, moments - 2):
        calls, stopped, _ = run(moment)
        assert stopped, f"the stop at moment {moment} is lost"
        assert calls == undisturbed[: len(calls)], f"a stop at moment {moment} changes what is called"
