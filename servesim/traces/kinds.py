"""What a file is, told before it is read: requests, a client pool, or a serverless log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from servesim import serverless
from servesim.errors import TraceError
from servesim.servegen.packed import DATASET_COLUMNS, DATASET_END, TRACE_END
from servesim.servegen.parametric import PoolName, shipped_name
from servesim.servegen.pool import ACTIVITY
from servesim.traces.datasheets import datasheet_beside
from servesim.workload.files import parquet_columns

Kind = Literal["requests", "client pool", "serverless log"]

POOL_READER = "servegen"
"""What datasheets and ``--reader`` call client pools: the generator that takes them."""

OTHERS = (
    f"servesim trace info takes client pools too (NAME{TRACE_END} with NAME{DATASET_END} beside it, a folder of "
    f"chunk-*-trace.csv, or {', '.join(get_args(PoolName))}), and serverless logs ({', '.join(serverless.NAMES)})"
)
"""What there is beside traces of requests, for messages."""

_CLIENT_FILE = re.compile(r"^chunk-.+-(trace\.csv|dataset\.json)$")


def kind_of(path: Path, *, reader: str | None = None) -> Kind:
    """Return what the file or folder at *path* is; requests, where it is neither of the others.

    Parameters
    ----------
    path
        It.
    reader
        What the user says takes it; None: told from the datasheet beside it, else from the file.

    Raises
    ------
    TraceError
        If it is one client of a pool, or an archive.
    """
    if reader is None and path.exists() and (sheet := datasheet_beside(path)) is not None:
        reader = sheet.reader
    if reader is not None:
        return "client pool" if reader == POOL_READER else _log_or_requests(reader in serverless.NAMES)
    if path.is_file() and _CLIENT_FILE.match(path.name):
        raise TraceError(
            f"{path}: one client of a ServeGen pool. expected its folder, which has all of them",
            hint=f"give {path.parent}",
        )
    if _is_pool(path):
        return "client pool"
    return _log_or_requests(_is_log(path))


def _log_or_requests(is_log: bool) -> Kind:
    return "serverless log" if is_log else "requests"


def _is_pool(path: Path) -> bool:
    if shipped_name(path) is not None:
        return True
    if path.is_dir():
        return any(path.glob("chunk-*-trace.csv"))
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PAR1":
                return False
        columns = set(parquet_columns(path))
    except (OSError, TraceError):  # whoever reads requests tells what is wrong with it
        return False
    return set(ACTIVITY) <= columns or set(DATASET_COLUMNS) <= columns


def _is_log(path: Path) -> bool:
    try:
        return serverless.detect(path) is not None
    except TraceError:  # no text, or nothing
        return False
