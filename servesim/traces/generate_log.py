"""A file of a generated serverless log, or of anything else that is described, with its datasheet."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from servesim._version import __version__
from servesim.errors import ServesimError, nearest
from servesim.results.saving import replacing_file
from servesim.scenario import Scenario
from servesim.serverless.log import ServerlessLog
from servesim.serverless.parquet import FORMS, PREFIX, write_frame
from servesim.traces.convert import Written
from servesim.traces.datasheets import check_own_datasheet, datasheet_path, write_datasheet
from servesim.traces.generate import Generated, generate
from servesim.traces.log_info import datasheet_of_log, log_info
from servesim.traces.log_spec import LogSpec
from servesim.traces.source import TraceSpec


def generate_any(
    spec: TraceSpec | Scenario | LogSpec, out: Path, *, to: str | None = None, lossy: bool = False
) -> Generated:
    """Write what *spec* describes: requests, as `servesim.traces.generate.generate`, or a log, as `generate_log`."""
    if isinstance(spec, LogSpec):
        return generate_log(spec, out, to=to)
    return generate(spec, out, to=to, lossy=lossy)


def generate_log(spec: LogSpec, out: Path, *, to: str | None = None) -> Generated:
    """Write a frame of the log that *spec* describes to *out*, and a datasheet beside it.

    The same description and seed give the same bytes, and frames that belong together.

    Parameters
    ----------
    spec
        As `servesim.traces.source.read_spec` returns it.
    out
        The file, Parquet; an older one is replaced once the new one is complete.
    to
        Name of the form, which says which frame: ``servesim_cold_starts`` (None), ``servesim_invocations`` or
        ``servesim_functions``.

    Raises
    ------
    ServesimError
        If the log has no such frame, nothing is in it, or the file cannot be written.
    """
    form = to or f"{PREFIX}cold_starts"
    _check_names(form, out)
    check_own_datasheet(out)
    log = spec.serverless.generator.generate(spec.seed)
    frame = _frame(spec, log, form)
    with replacing_file(out) as partial:
        write_frame(frame, partial, FORMS[form])
    sheet = datasheet_of_log(
        log_info(out, form=form),
        motivation="Cold starts for models of serverless platforms, made from published statistics.",
        collection=f"Made by servesim {__version__} from {spec.name}, seed {spec.seed}: generator "
        f"{spec.serverless.generator.name}{_left_out(log)}.",
        preprocessing="None.",
        uses="Whatever the generator's model is good for; it is no measured data.",
        licence="That of whoever made it; it holds no rows of other traces.",
    )
    write_datasheet(sheet, datasheet_path(out))
    return Generated(written=Written(form=form, rows=frame.height, lost=()), sheet=sheet)


def _check_names(form: str, out: Path) -> None:
    if form not in FORMS:
        raise ServesimError(
            f"--to: no form of serverless logs (got {form!r}). expected any of {', '.join(FORMS)}",
            hint=nearest(form, FORMS),
        )
    if out.suffix.lower() != ".parquet":
        raise ServesimError(f"{out}: serverless logs are written as Parquet. expected a name with .parquet")


def _frame(spec: LogSpec, log: ServerlessLog, form: str) -> pl.DataFrame:
    """Return the frame that *form* holds."""
    frames = {f"{PREFIX}{kind}": getattr(log, kind) for kind in FORMS.values()}
    lazy = frames[form]
    name = spec.serverless.generator.name
    if lazy is None:
        there = ", ".join(each for each, frame in frames.items() if frame is not None)
        raise ServesimError(
            f"--to: generator {name} has no such frame (got {form!r}). expected any of {there}"
        )
    frame: pl.DataFrame = lazy.collect()
    if frame.is_empty():
        raise ServesimError(
            f"{spec.name}: generator {name} makes nothing in this time (got 0 rows). expected at least one",
            hint="a longer serverless.generator.duration_s",
        )
    return frame


def _left_out(log: ServerlessLog) -> str:
    count = int(log.notes.get("invocations_left_out", 0))
    return f"; {count:,} invocations beyond requests_per_pod_most are left out" if count else ""
