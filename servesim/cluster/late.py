"""Ending a hopeless run early: as soon as enough requests are known to have waited too long.

Exact, not a guess: a request counts once it is older than a limit and has not been served within it, which nothing
that follows can undo. What such a count proves about a metric is for the caller to know
(`servesim.experiments.stopping`). A run without rules pays nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from servesim.cluster.request import Request

Event = Literal["scheduled", "first_token"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLate:
    """A rule: end the run once so many requests have waited longer than so long.

    Attributes
    ----------
    wait_s
        A request is late when this much time after its arrival has passed without the *event*.
    requests
        So many late ones end the run.
    event
        ``first_token``, or ``scheduled``: the start of the step that computes its first prompt tokens.
    from_s
        Requests that arrive before it are not counted.
    """

    wait_s: float
    requests: int
    event: Event = "first_token"
    from_s: float = 0.0


class StoppedEarly(Exception):
    """A run that ended because a rule held; it has no result, because its latencies would be those of a part.

    Attributes
    ----------
    rule
        Position of the rule that held.
    time_s
        Simulated time at which it was seen to hold.
    arrived
        Requests that had arrived by then.
    """

    def __init__(self, rule: int, time_s: float, arrived: int) -> None:
        super().__init__(rule, time_s, arrived)
        self.rule, self.time_s, self.arrived = rule, time_s, arrived


class LateRequests:
    """Counts the late requests of a run, each once: at the first look after it was due.

    Parameters
    ----------
    rules
        When to end the run.
    """

    def __init__(self, rules: Sequence[TooLate]) -> None:
        self._rules = rules
        self._counts = [0] * len(rules)
        self._not_due: list[deque[Request]] = [deque() for _ in rules]  # in order of arrival

    def watched(self, requests: Iterator[Request]) -> Iterator[Request]:
        """Yield *requests* and remember them."""
        for request in requests:
            self.watch(request)
            yield request

    def watch(self, request: Request) -> None:
        """Remember *request*, which arrives after all that are remembered."""
        for rule, not_due in zip(self._rules, self._not_due, strict=True):
            if request.arrival_s >= rule.from_s:
                not_due.append(request)

    def check(self, now: float, arrived: int) -> None:
        """Count the requests that were due before *now*.

        Raises
        ------
        StoppedEarly
            If a rule holds.
        """
        for index, (rule, not_due) in enumerate(zip(self._rules, self._not_due, strict=True)):
            while not_due and now - not_due[0].arrival_s > rule.wait_s:
                self._counts[index] += _is_late(not_due.popleft(), rule)
            if self._counts[index] >= rule.requests:
                raise StoppedEarly(index, now, arrived)


def _is_late(request: Request, rule: TooLate) -> bool:
    """Return whether a request that is older than the rule's limit was not served within it."""
    time_s = request.first_token_s if rule.event == "first_token" else request.scheduled_s
    if time_s is None:
        return request.target_tokens > 0  # a rejected request does not wait
    return time_s - request.arrival_s > rule.wait_s
