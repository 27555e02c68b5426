"""Saved experiments: a directory with a JSON file of everything and a Parquet file of the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from servesim.results.saving import check_destination, replacing, write_json, write_parquet


@dataclass(frozen=True, slots=True)
class SavedForm:
    """How one kind of experiment is saved.

    Attributes
    ----------
    what
        What messages call it.
    file, table
        Names of the two files.
    """

    what: str
    file: str
    table: str

    def is_in(self, directory: Path) -> bool:
        """Return whether *directory* holds one."""
        return (directory / self.file).is_file()

    def check_destination(self, directory: Path) -> None:
        """Refuse a place that it must not replace; call it before long work.

        Raises
        ------
        ServesimError
            If there is anything but nothing, an empty directory, or an older one.
        """
        check_destination(directory, is_older=self.is_in, what=self.what)

    def save(self, values: Mapping[str, Any], table: pl.DataFrame, directory: Path) -> None:
        """Save it in *directory*, replacing an older one once the new one is complete.

        Raises
        ------
        ServesimError
            If the directory holds something else, or cannot be written.
        """
        with replacing(directory, is_older=self.is_in, what=self.what) as new:
            write_json(new / self.file, values)
            write_parquet(new / self.table, table)


COMPARISON = SavedForm("comparison", "comparison.json", "values.parquet")
CAPACITY = SavedForm("capacity", "capacity.json", "curve.parquet")
