"""Where a recorder puts the frames of a run, piece by piece: a list in memory, or Parquet files on disk."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import polars as pl

from servesim.results.frames import FrameFile, Frames, MemoryFrames, ParquetFrames, SpillDirectory
from servesim.results.schema import FRAMES, frame_schema


class Sink(Protocol):
    """Taker of finished pieces of the frames."""

    def append(self, name: str, frame: pl.DataFrame) -> None:
        """Add *frame* to the end of the frame *name*."""

    def close(self) -> Frames:
        """Return the complete frames; nothing can be added any more."""


class MemorySink:
    """Keep every piece in memory.

    Parameters
    ----------
    extras
        Further columns of ``requests``: some of `servesim.results.schema.EXTRAS`.
    """

    def __init__(self, extras: Collection[str] = ()) -> None:
        self._pieces = {name: [pl.DataFrame(schema=frame_schema(name, extras))] for name in FRAMES}

    def append(self, name: str, frame: pl.DataFrame) -> None:
        """Add *frame* to the end of the frame *name*."""
        self._pieces[name].append(frame)

    def close(self) -> MemoryFrames:
        """Return the complete frames, made of the pieces without copying them."""
        return MemoryFrames({name: pl.concat(pieces, rechunk=False) for name, pieces in self._pieces.items()})


class ParquetSink:
    """Write the pieces to disk, so that memory stays bounded however many requests a run has.

    The files go to a hidden temporary directory; `servesim.results.RunResult.save` moves them to their place.
    If the result is never saved they vanish with it.

    Parameters
    ----------
    beside
        Directory that the result will be saved as, or None when that is not known.
    extras
        Further columns of ``requests``: some of `servesim.results.schema.EXTRAS`.

    Raises
    ------
    ServesimError
        If the disk is full or not writable, here and in `append` and `close`.
    """

    def __init__(self, beside: Path | None = None, extras: Collection[str] = ()) -> None:
        self._directory = SpillDirectory(beside)
        self._files = {
            name: FrameFile(self._directory.path, name, frame_schema(name, extras)) for name in FRAMES
        }

    def append(self, name: str, frame: pl.DataFrame) -> None:
        """Add *frame* to the end of the frame *name*."""
        self._files[name].append(frame)

    def close(self) -> ParquetFrames:
        """Complete the files and return the frames in them."""
        for file in self._files.values():
            file.close()
        return ParquetFrames(self._directory.path, spill=self._directory)
