"""A result's directory, and other files: written under a hidden name, then renamed: there whole or not at all."""

from __future__ import annotations

import io
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
from servesim.results.schema import EXTRAS, FRAMES, SUMMARY, frame_schema

SUMMARY_FILE, PROVENANCE_FILE, HOST_FILE, SCENARIO_FILE = (
    "summary.json",
    "provenance.json",
    "run.json",
    "scenario.yaml",
)

_HALF_WRITTEN = "the file is damaged or half written: simulate the scenario again"


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


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Give a hidden path beside *path* to write; the file takes its place if the block ends well, or vanishes.

    Raises
    ------
    ServesimError
        If *path* is a directory or no regular file, or the disk is full or not writable: what was there is kept.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with disk_errors(path):
        if path.exists() and not path.is_file():
            raise ServesimError(f"{path}: not a regular file. expected the name of a file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write *values* in their order, readably; the same values give the same bytes."""
    path.write_text(
        json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write *frame*, a small one: its bytes are made first, because polars hides that a disk is full."""
    content = io.BytesIO()
    frame.write_parquet(content)
    path.write_bytes(content.getvalue())


def read_json(path: Path) -> dict[str, Any]:
    """Return what `write_json` wrote.

    Raises
    ------
    ServesimError
        If it is not a JSON object.
    """
    try:
        values = json.loads(read_text(path))
    except ValueError as error:
        raise ServesimError(
            f"{path}: not JSON ({error}). expected what servesim wrote", hint=_HALF_WRITTEN
        ) from error
    if not isinstance(values, dict):
        raise ServesimError(
            f"{path}: not an object (got {type(values).__name__}). expected what servesim wrote"
        )
    return values


def read_text(path: Path) -> str:
    """Return the text of a file that servesim wrote.

    Raises
    ------
    ServesimError
        If it cannot be read, or is no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text in UTF-8"
        raise ServesimError(
            f"{path}: cannot be read ({reason}). expected what servesim wrote", hint=_HALF_WRITTEN
        ) from error


def check_result(directory: Path) -> None:
    """Check that *directory* is a complete saved result: every file there, the summary and the frames whole.

    Raises
    ------
    ServesimError
        Names what is missing or cannot be read.
    """
    names = [SUMMARY_FILE, PROVENANCE_FILE, HOST_FILE, SCENARIO_FILE, *(f"{name}.parquet" for name in FRAMES)]
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        what = f"without {', '.join(missing)}" if directory.is_dir() else "no such directory"
        raise ServesimError(
            f"{directory}: not a saved result (got {what}). expected a directory with {', '.join(names)}"
        )
    keys = read_json(directory / SUMMARY_FILE)
    absent = [key.name for key in SUMMARY if key.name not in keys]
    if absent:
        raise ServesimError(
            f"{directory / SUMMARY_FILE}: not a summary of this version ({len(absent)} keys are missing, the first "
            f"is {absent[0]}). expected the keys of docs/reference/metrics.md",
            hint="simulate the scenario again; provenance.json tells which version wrote this",
        )
    for name in FRAMES:
        _check_frame(directory / f"{name}.parquet", name)


def _check_frame(path: Path, name: str) -> None:
    """Check that a Parquet file has its footer, which is written last, and the columns of the frame *name*."""
    with readable(path):
        schema = pl.read_parquet_schema(path)
    expected = frame_schema(name, [key for key in EXTRAS if key in schema])
    if dict(schema) != dict(expected):
        differing = sorted({key for key, _ in set(schema.items()) ^ set(expected.items())})
        raise ServesimError(
            f"{path}: not the frame {name} of this version (differs in {', '.join(differing)}). expected the "
            "columns of docs/reference/columns.md"
        )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an error of reading Parquet inside the block into a `ServesimError` that names *path*.

    Raises
    ------
    ServesimError
        If the file is damaged.
    """
    try:
        yield
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).partition("\n")[0]
        raise ServesimError(
            f"{path}: cannot be read ({reason}). expected what servesim wrote", hint=_HALF_WRITTEN
        ) from error
