"""What any file is that holds, or tells of, requests: a trace, a workload, a client pool, or a serverless log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from servesim.traces.datasheets import TOLD, checksum, datasheet_beside
from servesim.traces.info import TraceInfo, datasheet_of, trace_info
from servesim.traces.kinds import kind_of
from servesim.traces.log_info import LogInfo, datasheet_of_log, log_info, rows_of
from servesim.traces.pool_info import PoolInfo, datasheet_of_pool, pool_info
from servesim.workload.datasheet import Datasheet

Info = TraceInfo | PoolInfo | LogInfo


def look(path: Path, *, reader: str | None = None) -> Info:
    """Return what the file or folder at *path* is.

    Parameters
    ----------
    path
        It.
    reader
        Name of the trace's reader or the log's format, or ``servegen`` for a client pool; None: told from the file.

    Raises
    ------
    ServesimError
        If it is none of them, or cannot be taken as it is.
    """
    kind = kind_of(path, reader=reader)
    if kind == "client pool":
        pool = pool_info(path)
        return replace(pool, findings=[*pool.findings, *checksum(pool.path)])
    if kind == "serverless log":
        log = log_info(path, form=reader)
        return replace(log, findings=[*log.findings, *checksum(path, rows_of(log.notes))])
    trace = trace_info(path, reader=reader)
    return replace(trace, findings=[*trace.findings, *checksum(path, trace.rows)])


def datasheet_for(info: Info) -> Datasheet:
    """Return a datasheet of what *info* tells, and of what the one beside the file tells that nobody can measure.

    Raises
    ------
    ServesimError
        If it is not one file of data.
    """
    if isinstance(info, PoolInfo):
        sheet = datasheet_of_pool(info)
    else:
        sheet = datasheet_of_log(info) if isinstance(info, LogInfo) else datasheet_of(info)
    beside = datasheet_beside(info.path)
    if beside is None or beside.sha256 != sheet.sha256:
        return sheet
    told = {name: getattr(beside, name) for name in TOLD}
    defects = dict.fromkeys([*beside.known_defects, *sheet.known_defects])
    return sheet.model_copy(update=told | {"known_defects": tuple(defects)})
