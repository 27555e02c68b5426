"""Where the frames of a result are: in memory, or in Parquet files.

Files are written by one function from slices of one size, so that a result has the same bytes however it came
about.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from servesim.errors import ServesimError
from servesim.results.schema import FRAMES
from servesim.workload.schema import CHUNK_ROWS


class Frames(Protocol):
    """The four frames of a result, by their names in `servesim.results.schema.FRAMES`."""

    def lazy(self, name: str) -> pl.LazyFrame:
        """Return the frame *name* for a query."""

    def write(self, directory: Path) -> None:
        """Write every frame to ``directory/NAME.parquet``."""

    def settle(self, directory: Path) -> None:
        """Take note that the frames are now in *directory*, to stay."""


class MemoryFrames:
    """Frames held in memory."""

    def __init__(self, frames: dict[str, pl.DataFrame]) -> None:
        self._frames = frames

    def lazy(self, name: str) -> pl.LazyFrame:
        """Return the frame *name* for a query."""
        return self._frames[name].lazy()

    def write(self, directory: Path) -> None:
        """Write every frame to ``directory/NAME.parquet``."""
        for name in FRAMES:
            file = FrameFile(directory, name, self._frames[name].schema)
            file.append(self._frames[name])
            file.close()

    def settle(self, directory: Path) -> None:
        """Keep the frames in memory, wherever else they are."""


class SpillDirectory:
    """A hidden directory for frames that outgrow memory, removed with the last object that refers to it.

    Parameters
    ----------
    beside
        Where the result will be saved: the same file system, so that saving copies nothing. None: the
        system's directory for temporary files.

    Raises
    ------
    ServesimError
        If it cannot be created.
    """

    def __init__(self, beside: Path | None = None) -> None:
        parent = None if beside is None else beside.absolute().parent
        with disk_errors(beside or Path(tempfile.gettempdir())):
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix=".servesim-", suffix=".partial", dir=parent))
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Remove it now; what was linked to other places stays there."""
        self._remove()


class ParquetFrames:
    """Frames in Parquet files, read when they are asked for.

    Parameters
    ----------
    directory
        Where the four files are.
    spill
        The temporary directory that *directory* is, or None when the files are there to stay.
    """

    def __init__(self, directory: Path, *, spill: SpillDirectory | None = None) -> None:
        self._directory = directory
        self._spill = spill

    def lazy(self, name: str) -> pl.LazyFrame:
        """Return the frame *name* for a query; rows are read when it is collected."""
        return pl.scan_parquet(self._directory / f"{name}.parquet", glob=False)

    def write(self, directory: Path) -> None:
        """Put the files into *directory*: as links where the file system has them, else as copies."""
        for name in FRAMES:
            source, target = self._directory / f"{name}.parquet", directory / f"{name}.parquet"
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)

    def settle(self, directory: Path) -> None:
        """Read from *directory* from now on, if the files were temporary until now."""
        if self._spill is not None:
            self._spill.remove()
            self._directory, self._spill = directory, None


class FrameFile:
    """One Parquet file, written piece by piece in row groups of `CHUNK_ROWS`.

    The bytes depend on the rows alone: not on how they were cut into pieces, nor on the time.
    """

    def __init__(self, directory: Path, name: str, schema: pl.Schema) -> None:
        import pyarrow.parquet as pq

        self._path = directory / f"{name}.parquet"
        self._pending = pl.DataFrame(schema=schema)
        floats = {key for key, dtype in schema.items() if dtype.is_float()}
        with disk_errors(self._path):
            self._writer: Any = pq.ParquetWriter(
                self._path,
                self._pending.to_arrow().schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[key for key in schema if key not in floats],
            )

    def append(self, frame: pl.DataFrame) -> None:
        """Add rows; they reach the disk when a row group is full."""
        rows = pl.concat([self._pending, frame], rechunk=False)
        full = rows.height - rows.height % CHUNK_ROWS
        for start in range(0, full, CHUNK_ROWS):
            self._write(rows.slice(start, CHUNK_ROWS))
        self._pending = rows.slice(full)

    def _write(self, rows: pl.DataFrame) -> None:
        with disk_errors(self._path):
            self._writer.write_table(rows.rechunk().to_arrow(), row_group_size=CHUNK_ROWS)

    def close(self) -> None:
        """Write what is left, and the footer."""
        if self._pending.height:
            self._write(self._pending)
        with disk_errors(self._path):
            self._writer.close()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into a `ServesimError` that names *path*."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServesimError(
            f"{path}: the result cannot be written (got {reason!r}). expected a writable place with room",
            hint="whatever was there before is still there; free some space or choose another directory",
        ) from error
