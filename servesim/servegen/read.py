"""Reading a client pool, whatever its form."""

from __future__ import annotations

from pathlib import Path

from servesim.servegen.native import read_native
from servesim.servegen.packed import read_packed
from servesim.servegen.parametric import shipped_name, shipped_pool
from servesim.servegen.pool import ClientPool


def read_pool(path: Path) -> ClientPool:
    """Return the pool at *path*: a folder in ServeGen's native form, ``NAME.trace.parquet``, or one that ships.

    Raises
    ------
    TraceError
        If it cannot be taken as it is.
    """
    if (name := shipped_name(path)) is not None:
        return shipped_pool(name)
    return read_native(path) if path.is_dir() else read_packed(path)
