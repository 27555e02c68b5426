"""``servesim timeline``: a saved run as a trace file for Perfetto."""

from __future__ import annotations

import sys
from pathlib import Path

from servesim.cli.exits import OK
from servesim.cli.output import write
from servesim.errors import ServesimError
from servesim.report.timeline import TimelineOptions, timeline


def replica_numbers(text: str | None) -> list[int] | None:
    """Return the numbers in a comma-separated list; None stays None.

    Raises
    ------
    ServesimError
        If it is no such list.
    """
    if text is None:
        return None
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ServesimError(
            f"--replicas: not a list of numbers (got {text!r}). expected numbers separated by commas, such as 0,2"
        ) from None


def write_timeline(run: Path, options: TimelineOptions, *, out: Path, quiet: bool) -> int:
    """Write the timeline of the run saved in *run* and say what it holds; return the exit code."""
    from servesim.results import RunResult
    from servesim.results.saving import readable

    result = RunResult.load(run)
    with readable(run):
        shown = timeline(result, options)
    size = shown.write(out)
    if not quiet:
        for sentence in shown.left_out:
            print(f"note: {sentence}", file=sys.stderr)
    window = f"{shown.window.start_s:g} to {shown.window.end_s:g} s"
    write(
        f"{shown.events:,} events from {window} in {out}, {size / 1e6:.1f} MB; open it at https://ui.perfetto.dev\n"
    )
    return OK
