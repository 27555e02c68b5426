"""From workload frames to requests at replicas: the arrival process and the routing of each request."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import polars as pl

from servesim.cluster.clock import ARRIVAL, Wakeup
from servesim.cluster.front_end import FrontEnd
from servesim.cluster.late import LateRequests
from servesim.cluster.plugin_errors import failed
from servesim.cluster.records import Recorder
from servesim.cluster.replica import Replica
from servesim.cluster.request import Request, RichRequest
from servesim.cluster.system import System
from servesim.cluster.views import ReplicaGroup
from servesim.errors import PluginError, TraceError, nearest
from servesim.policies.api import RequestView, Router
from servesim.workload.schema import RESULT_EXTRAS


class Group:
    """The replicas of one model, the entrance of each, and the router that spreads requests over them.

    Parameters
    ----------
    model
        The model.
    replicas
        In order of their positions.
    load
        Requests of each, counted from here on.
    router
        Reset already.
    entrances
        What takes the requests of each replica: its front end, where it has one. None: the replicas do.
    """

    def __init__(
        self,
        model: str,
        replicas: Sequence[Replica],
        load: array[int],
        router: Router,
        *,
        entrances: Sequence[Replica | FrontEnd] | None = None,
    ) -> None:
        self.model = model
        self.entrances = list(replicas if entrances is None else entrances)
        self.load = load
        self.views = ReplicaGroup(replicas, load)
        self.router = router
        self.route = router.route

    def tell_who_leaves(self, listener: Callable[[Request, float], None]) -> None:
        """Have *listener* called with every request whose client has its answer or refusal, and the time."""
        for entrance in self.entrances:
            entrance.on_leave = listener

    def choose(self, request: Request) -> Replica | FrontEnd:
        """Return the entrance of the replica that the router chooses, and count the request there.

        Raises
        ------
        PluginError
            If the answer is not a position in the group.
        """
        route = self.route
        try:
            position = route(RequestView(request), self.views)
        except Exception as error:
            raise failed("router", self.router, f"route of request {request.request_id}", error) from error
        try:
            if position >= 0:
                entrance = self.entrances[position]
                self.load[position] += 1
                return entrance
        except (IndexError, TypeError):
            pass
        raise PluginError(
            f"router {type(self.router).__name__}: chose a replica that does not exist for request "
            f"{request.request_id} (got {position!r}). expected an integer from 0 to {len(self.entrances) - 1}"
        )


class Arrivals:
    """Bring the requests of a workload to the replicas, one event per distinct time of arrival.

    Parameters
    ----------
    frames
        Workload frames in order of arrival.
    groups
        One per model.
    system, recorder
        Of the run.
    horizon_s
        Requests that arrive at or after it are left out.
    late
        Watches the requests; None: nobody does.
    """

    def __init__(
        self,
        frames: Iterator[pl.DataFrame],
        groups: Sequence[Group],
        *,
        system: System,
        recorder: Recorder,
        horizon_s: float | None,
        late: LateRequests | None = None,
    ) -> None:
        self.groups = {group.model: group for group in groups}
        self.system = system
        self.recorder = recorder
        self.horizon_s = horizon_s
        self.arrived = 0
        self.last_s = 0.0
        self.finished = False
        self.follow_ups_not_sent: int | None = None
        self.on_last: Callable[[], None] | None = None
        requests = chain.from_iterable(self._read(frames))
        self._requests = requests if late is None else late.watched(requests)
        self._next: Request | None = None

    def start(self) -> None:
        """Schedule the first arrival.

        Raises
        ------
        TraceError
            If the workload is empty.
        """
        self._next = next(self._requests, None)
        if self._next is None:
            raise TraceError("workload: holds no request to simulate (got 0 rows). expected at least one")
        self.system.clock.wake(Wakeup(self._arrive), self._next.arrival_s, ARRIVAL)

    def _arrive(self, now: float) -> float | None:
        groups = self.groups
        request = self._next
        while request is not None:
            if request.arrival_s > now:
                self._next = request
                return request.arrival_s
            self.arrived += 1
            groups[request.model].choose(request).enqueue(request, now)
            request = next(self._requests, None)
        self.finished = True
        self.last_s = now
        if self.on_last is not None:
            self.on_last()
        return None

    def hand_over(self) -> None:
        """Hand requests that have arrived over to the recorder; here it has them before they arrive."""

    def _read(self, frames: Iterator[pl.DataFrame]) -> Iterator[Iterator[Request]]:
        """Yield the requests of each frame; a request is made when it is about to arrive."""
        request_id = 0
        for frame in self._before_horizon(frames):
            requests = self._requests_of(frame, request_id)
            self.recorder.arrivals(frame)
            yield requests
            request_id += len(frame)

    def _before_horizon(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield *frames* as far as their times lie before the horizon, and no empty one."""
        for frame in frames:
            if frame.is_empty():
                continue
            late = self.horizon_s is not None and frame["arrival_s"][-1] >= self.horizon_s
            kept = frame.filter(pl.col("arrival_s") < self.horizon_s) if late else frame
            if not kept.is_empty():
                yield kept
            if late:
                return

    def _requests_of(self, frame: pl.DataFrame, first_id: int) -> Iterator[Request]:
        """Return the requests of *frame*, numbered from *first_id* on."""
        fields = (
            range(first_id, first_id + len(frame)),
            frame["arrival_s"].to_list(),
            frame["prompt_tokens"].to_list(),
            frame["output_tokens"].to_list(),
            self._models(frame),
            _values(frame["tenant"]),
            frame["priority"].to_list(),
            _values(frame["session"]),
        )
        return _rich(frame, fields) if _has_extras(frame) else map(Request, *fields)

    def _models(self, frame: pl.DataFrame) -> Iterator[str]:
        """Return the model that serves each request of *frame*."""
        served = list(self.groups)
        tags = frame["model"]
        unknown = sorted(set(tags.unique().drop_nulls()) - set(served))
        if unknown:
            raise TraceError(
                f"workload: requests are tagged with a model that no pool serves (got {unknown[0]!r}). "
                f"expected one of {', '.join(served)}",
                hint=nearest(unknown[0], served)
                or f"workload.model_map: {{{unknown[0]}: {served[0]}}} maps the tag, workload.model replaces all tags",
            )
        if len(served) == 1:
            return repeat(served[0])
        if tags.null_count():
            raise TraceError(
                f"workload: requests without a model tag, while pools serve {len(served)} models "
                f"({', '.join(served)}). expected a tag on every request",
                hint="set workload.model, or model on each of workload.sources",
            )
        return iter(tags.to_list())


def _has_extras(frame: pl.DataFrame) -> bool:
    return any(frame[name].null_count() < len(frame) for name in RESULT_EXTRAS)


def _rich(frame: pl.DataFrame, fields: tuple[Iterable[Any], ...]) -> Iterator[Request]:
    """Yield the requests of a frame of which some have images, audio or reasoning."""
    encoded, hidden = frame.select(
        pl.sum_horizontal("image_tokens", "audio_tokens"), pl.col("reasoning_tokens").fill_null(0)
    )
    for encoder_tokens, reasoning_tokens, plain in zip(
        encoded, hidden, zip(*fields, strict=False), strict=True
    ):
        yield RichRequest(*plain, encoder_tokens=encoder_tokens, reasoning_tokens=reasoning_tokens)


def _values(column: pl.Series) -> Iterator[Any]:
    """Return the values of *column*; cheaply when it is all null, as tags mostly are."""
    return repeat(None) if column.null_count() == len(column) else iter(column.to_list())
