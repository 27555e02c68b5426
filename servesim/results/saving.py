"""A result's directory: written under a hidden name, then renamed, so that it is there whole or not."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import ServesimError
from servesim.results.frames import disk_errors
from servesim.results.schema import FRAMES, frame_schema

SUMMARY_FILE, PROVENANCE_FILE, HOST_FILE, SCENARIO_FILE = (
    "summary.json",
    "provenance.json",
    "run.json",
    "scenario.yaml",
)


def is_result(directory: Path) -> bool:
    """Return whether *directory* holds a saved result."""
    return (directory / SUMMARY_FILE).is_file() and (directory / "requests.parquet").is_file()


def check_destination(
    directory: Path, *, is_older: Callable[[Path], bool] = is_result, what: str = "result"
) -> None:
    """Refuse a place that a result must not replace.

    A result may go where there is nothing, or an empty directory, or an older result. Call it before a long
    run too.

    Parameters
    ----------
    directory
        The place.
    is_older
        Tells whether a directory holds an older thing of the kind, which may be replaced.
    what
        What messages call it.

    Raises
    ------
    ServesimError
        If there is anything else.
    """
    with disk_errors(directory):
        if not os.path.lexists(directory) or (
            directory.is_dir() and (is_older(directory) or not any(directory.iterdir()))
        ):
            return
    got = "a directory of other files" if directory.is_dir() else "a file"
    raise ServesimError(
        f"{directory}: a {what} cannot be saved here (got {got}). expected a new or empty directory, or an "
        f"older {what}"
    )


@contextmanager
def replacing(
    directory: Path, *, is_older: Callable[[Path], bool] = is_result, what: str = "result"
) -> Iterator[Path]:
    """Give a new directory to fill; it takes the place of *directory* if the block ends well, or vanishes.

    An older result stays until the new one is complete. Parameters are those of `check_destination`.

    Raises
    ------
    ServesimError
        If *directory* holds something else, or the disk is full or not writable.
    """
    final = directory.absolute()
    check_destination(final, is_older=is_older, what=what)
    with disk_errors(directory):
        final.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent))
    new = place / "new"
    try:
        with disk_errors(directory):
            new.mkdir()  # with the permissions that the user's umask gives, unlike a temporary directory
            yield new
            _swap(new, final, aside=place / "old")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _swap(new: Path, final: Path, *, aside: Path) -> None:
    """Rename *new* to *final*, and what is there to *aside* first; put it back when that fails."""
    if not final.exists():
        new.rename(final)
        return
    final.rename(aside)
    try:
        new.rename(final)
    except BaseException:
        aside.rename(final)
        raise


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write *values* in their order, readably; the same values give the same bytes."""
    path.write_text(
        json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return what `write_json` wrote.

    Raises
    ------
    ServesimError
        If it is anything else, such as half of it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, "JSON", str(error)) from error
    if not isinstance(values, dict):
        raise damaged(path, "JSON", f"a {type(values).__name__} at its top")
    return values


def damaged(path: Path, kind: str, got: str) -> ServesimError:
    """Return the error for a file of a result that is not what was saved."""
    return ServesimError(
        f"{path}: cannot be read as {kind} (got {got!r}). expected the file as it was saved",
        hint="it was cut off or changed: save the result anew",
    )


def check_result(directory: Path) -> None:
    """Check that *directory* is a complete saved result.

    Raises
    ------
    ServesimError
        If a file is missing, or a frame is cut off or lacks columns; names it.
    """
    names = [SUMMARY_FILE, PROVENANCE_FILE, HOST_FILE, SCENARIO_FILE, *(f"{name}.parquet" for name in FRAMES)]
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        what = f"without {', '.join(missing)}" if directory.is_dir() else "no such directory"
        raise ServesimError(
            f"{directory}: not a saved result (got {what}). expected a directory with {', '.join(names)}"
        )
    for name in FRAMES:
        _check_frame(directory / f"{name}.parquet", name)


def _check_frame(path: Path, name: str) -> None:
    """Check that the frame at *path* is whole, as far as the end of the file tells, and has its columns."""
    try:
        columns = pl.scan_parquet(path, glob=False).collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise damaged(path, "Parquet", str(error).splitlines()[0]) from error
    missing = [column for column, dtype in frame_schema(name).items() if columns.get(column) != dtype]
    if missing:
        raise ServesimError(
            f"{path}: lacks columns of a result (got none, or other types, for {', '.join(missing)}). expected "
            "those of this version of servesim",
            hint="a result of another version: run its scenario.yaml anew",
        )
