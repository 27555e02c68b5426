"""``servesim run``: load, simulate, print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from servesim.cli.exits import INTERRUPTED, OK
from servesim.cli.output import write, write_json
from servesim.cli.progress import Progress


def run_scenario(
    file: Path, overrides: Sequence[str], *, out: Path | None, as_json: bool, quiet: bool
) -> int:
    """Simulate the scenario in *file* and print its summary; return the exit code.

    Parameters
    ----------
    file, overrides
        As for `servesim.scenario.load_scenario`.
    out
        Where to save the result, or None.
    as_json
        Print the summary and the facts about this execution as one JSON object.
    quiet
        Print nothing on stderr.
    """
    from servesim.results.saving import check_destination
    from servesim.scenario import load_scenario, scenario_hash

    scenario = load_scenario(file, overrides=overrides, with_files=True)
    if out is not None:
        check_destination(out)
    if not quiet:
        print(f"scenario {scenario_hash(scenario)} seed {scenario.seed}", file=sys.stderr, flush=True)
    from servesim.simulation import simulate

    with Progress(enabled=not quiet and sys.stderr.isatty()) as progress:
        result = simulate(scenario, out=out, progress=progress)
    if as_json:
        write_json({**result.summary, **result.host})
    else:
        from servesim.cli.summary import summary_text

        page = summary_text(
            scenario.name, result.summary, result.host, provenance=result.provenance, saved=out
        )
        write(page)
    if not result.interrupted:
        return OK
    kept = f"partial results are in {out}" if out is not None else "partial results are above"
    print(f"interrupted: {kept}", file=sys.stderr)
    return INTERRUPTED
