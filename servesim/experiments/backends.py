"""Where the runs of an experiment are computed: in this process, or in several on this machine.

Every backend gives the same results: a run depends on its point alone. `ray` is in a module of its own.
"""

from __future__ import annotations

import itertools
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from servesim.experiments.points import Failure, guarded
from servesim.plugin_folders import VARIABLE, plugin_folders

if TYPE_CHECKING:
    from loky import ProcessPoolExecutor

Item = TypeVar("Item")
Value = TypeVar("Value")


class Backend(Protocol):
    """Computes many points.

    Attributes
    ----------
    workers
        How many it computes at once.
    """

    workers: int

    def run(
        self, task: Callable[[Item], Value], items: Sequence[Item]
    ) -> Iterator[tuple[int, Value | Failure]]:
        """Yield the position of each of *items* with what *task* makes of it, or its failure, as they end.

        Ending the iteration early, by an exception or by closing it, stops what is still computed.
        """


class InProcess:
    """Computes one point after another, here."""

    workers = 1

    def run(
        self, task: Callable[[Item], Value], items: Sequence[Item]
    ) -> Iterator[tuple[int, Value | Failure]]:
        """Yield the results in the order of *items*."""
        for index, item in enumerate(items):
            yield index, guarded(task, item)


class Processes:
    """Computes points in worker processes of this machine.

    Workers are started once, stay for further experiments of this process, and are told nothing of Ctrl-C:
    the parent stops them. A worker that dies takes nothing with it but the points it worked on; each is tried
    once more, alone.

    Parameters
    ----------
    workers
        How many; None: as many as this process may use CPU cores.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = available_cores() if workers is None else workers

    def run(
        self, task: Callable[[Item], Value], items: Sequence[Item]
    ) -> Iterator[tuple[int, Value | Failure]]:
        """Yield results as they end; at most two points per worker are under way or queued."""
        todo = iter(enumerate(items))
        running: dict[Future[Any], tuple[int, Item]] = {}
        pool = self._pool()
        complete = False
        try:
            while True:
                for index, item in itertools.islice(todo, 2 * self.workers - len(running)):
                    running[pool.submit(guarded, task, item)] = (index, item)
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                    suspects = list(running.values())
                    running.clear()
                    yield from ((index, self._alone(task, item)) for index, item in suspects)
                    pool = self._pool()
                    continue
                for future in done:
                    index, _ = running.pop(future)
                    yield index, _outcome(future)
            complete = True
        finally:
            if not complete:
                pool.shutdown(wait=True, kill_workers=True)

    def _alone(self, task: Callable[[Item], Value], item: Item) -> Value | Failure:
        """Compute a point that was under way when a worker died."""
        outcome: Value | Failure = _outcome(self._pool().submit(guarded, task, item))
        return outcome

    def _pool(self) -> ProcessPoolExecutor:
        from loky import get_reusable_executor

        # A worker that has grown is replaced when it is idle, and nothing is lost.
        warnings.filterwarnings("ignore", "A worker was restarted", module="loky")
        return get_reusable_executor(
            max_workers=self.workers,
            timeout=600,
            initializer=_start_worker,
            # One thread each: the cores are shared out between the workers already. With other folders of plugins,
            # workers are started anew.
            env={
                "POLARS_MAX_THREADS": "1",
                "OMP_NUM_THREADS": "1",
                VARIABLE: os.pathsep.join(map(str, plugin_folders())),
            },
        )


def _outcome(future: Future[Any]) -> Any:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenProcessPool):
        cause = str(error.__cause__ or "").strip(' \n"').splitlines()
        if "un-serialize" in str(error):
            return Failure(f"a worker process could not load it: {cause[-1] if cause else error}")
        return Failure("the process that ran it was killed; out of memory?")
    return Failure(f"{type(error).__name__}: {error}", internal=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and load what every run needs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import servesim.simulation  # noqa: F401


def available_cores() -> int:
    """Return how many CPU cores this process may use."""
    from loky import cpu_count

    cores: int = cpu_count()
    return cores


def local_backend(workers: int | None, points: int) -> Backend:
    """Return the backend for so many *points*: processes, unless one worker is all that is of use.

    Parameters
    ----------
    workers
        What the user asked for; None: the CPU cores of this machine, or ``SERVESIM_WORKERS``.
    points
        How many runs there are at most.
    """
    if workers is None and (told := os.environ.get("SERVESIM_WORKERS", "")).isdecimal():
        workers = int(told)
    count = min(available_cores() if workers is None else workers, points)
    return Processes(count) if count > 1 else InProcess()
