"""``servesim sweep``: many points into one Parquet file, resumable."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from servesim.cli.exits import INTERRUPTED, OK
from servesim.cli.output import write, write_json
from servesim.errors import ScenarioError


def sweep_file(
    file: Path,
    overrides: Sequence[str],
    *,
    out: Path | None,
    backend: str,
    address: str | None,
    workers: int | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run the sweep in *file* and say what came of it; return the exit code."""
    from servesim.cli.progress import PointsProgress
    from servesim.experiments.backends import Backend
    from servesim.experiments.sweep import sweep

    if backend not in ("processes", "ray"):
        raise ScenarioError(f"--backend: unknown (got {backend!r}). expected processes or ray")
    if address is not None and backend != "ray":
        raise ScenarioError("--address: only for --backend ray. expected both, or neither")
    chosen: Backend | None = None
    if backend == "ray":
        from servesim.experiments.ray_backend import RayBackend

        chosen = RayBackend(address)
    out = Path(f"{file.stem}.parquet") if out is None else out
    told = _Told()
    try:
        with PointsProgress(enabled=not quiet and sys.stderr.isatty()) as progress:

            def on_done(done: int, total: int) -> None:
                told.done, told.total = done, total
                progress(done, total)

            result = sweep(
                file, out=out, overrides=overrides, backend=chosen, workers=workers, on_done=on_done
            )
    except KeyboardInterrupt:
        if not told.total:  # it was still reading scenarios
            raise
        print(
            f"interrupted: {told.done} of {told.total} runs are done; the same command goes on from there",
            file=sys.stderr,
        )
        return INTERRUPTED
    failed = result.failed
    if as_json:
        facts = {"rows": result.rows.height, "reused": result.reused, "failed": failed.height}
        write_json({"file": str(out), **facts})
    else:
        reused = f", {result.reused} of them from before" if result.reused else ""
        write(f"{result.rows.height} rows in {out}{reused}; {failed.height} failed\n")
    if not quiet:
        for row in failed.head(10).iter_rows(named=True):
            print(f"failed: point {row['point']}, seed {row['seed']}: {row['error']}", file=sys.stderr)
    return OK


class _Told:
    """How far the sweep was when last heard of."""

    done = 0
    total = 0
