"""``servesim export``: a saved run as the result file of another tool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from servesim.cli.exits import OK
from servesim.cli.output import write
from servesim.errors import ServesimError, nearest

FORMATS = ("vllm-bench",)


def export_run(run: Path, form: str, *, out: Path | None, detailed: bool) -> int:
    """Write the run saved in *run* to *out*, or to stdout; return the exit code."""
    if form not in FORMATS:
        raise ServesimError(
            f"--format: unknown (got {form!r}). expected {' or '.join(FORMATS)}", hint=nearest(form, FORMATS)
        )
    from servesim.report.vllm_bench import vllm_bench_json
    from servesim.results import RunResult
    from servesim.results.saving import replacing_file

    pieces = _read(run, vllm_bench_json(RunResult.load(run), detailed=detailed))
    if out is None:
        for piece in pieces:
            write(piece)
        return OK
    with replacing_file(out) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
    return OK


def _read(run: Path, pieces: Iterator[str]) -> Iterator[str]:
    """Yield *pieces*; what fails while they are made is an error of reading *run*, not of writing."""
    from servesim.results.saving import readable

    with readable(run):
        yield from pieces
