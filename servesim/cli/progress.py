"""The progress bar of a run: on a terminal only, and only for runs that take a while."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PATIENCE_S = 1.0
"""A run that ends within this time shows no bar."""


class Progress:
    """What `servesim.simulation.simulate` calls to tell how far it is; a context manager that cleans up.

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

    def __call__(self, arrived: int, expected: int | None, simulated_s: float) -> None:
        """Show that *arrived* of *expected* requests have entered, and the simulated time."""
        if not self._enabled:
            return
        if self._bar is None:
            if time.monotonic() - self._started < PATIENCE_S:
                return
            self._show()
        assert self._bar is not None and self._task is not None
        text = f"{arrived:,} requests, {simulated_s:,.0f} s simulated"
        self._bar.update(self._task, completed=arrived, total=expected, description=text)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=None)
        self._bar.start()
