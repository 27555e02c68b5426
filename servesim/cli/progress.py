"""Progress bars of runs and experiments: on a terminal only, and only for what takes a while."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PATIENCE_S = 1.0
"""What ends within this time shows no bar."""


class _Bar:
    """A bar that appears after a while; a context manager that cleans up.

    Parameters
    ----------
    enabled
        Whether to show anything at all.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._started = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, completed: int, total: int | None, text: str) -> None:
        """Show that *completed* of *total* is done, and *text* beside the bar."""
        if not self._enabled:
            return
        if self._bar is None:
            if time.monotonic() - self._started < PATIENCE_S:
                return
            self._start()
        assert self._bar is not None and self._task is not None
        self._bar.update(self._task, completed=completed, total=total, description=text)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=None)
        self._bar.start()


class Progress(_Bar):
    """What `servesim.simulation.simulate` calls to tell how far a run is."""

    def __call__(self, arrived: int, expected: int | None, simulated_s: float) -> None:
        """Show that *arrived* of *expected* requests have entered, and the simulated time."""
        self.show(arrived, expected, f"{arrived:,} requests, {simulated_s:,.0f} s simulated")


class PointsProgress(_Bar):
    """What experiments call to tell how many of their runs are done."""

    def __call__(self, done: int, total: int | None) -> None:
        """Show that *done* of *total* runs are there, and the time that the rest will take."""
        self.show(done, total, f"{done:,} of {total:,} runs" if total is not None else f"{done:,} runs")


class BytesProgress(_Bar):
    """What downloads call to tell how much is there."""

    def __call__(self, have: int, total: int | None) -> None:
        """Show that *have* of *total* bytes are there."""
        expected = "" if total is None else f" of {total / 2**20:,.0f}"
        self.show(have, total, f"{have / 2**20:,.0f}{expected} MiB")


class RowsProgress(_Bar):
    """What profiling calls to tell how many rows are measured."""

    def __call__(self, done: int, total: int | None) -> None:
        """Show that *done* of *total* rows are there, and the time that the rest will take."""
        self.show(done, total, f"{done:,} of {total or 0:,} rows")
