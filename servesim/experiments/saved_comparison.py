"""A comparison's directory: ``comparison.json`` with everything, ``values.parquet`` with every run's metrics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from servesim.results.saving import check_destination, replacing, write_json, write_parquet

if TYPE_CHECKING:
    from servesim.experiments.compare import Comparison

COMPARISON_FILE, VALUES_FILE = "comparison.json", "values.parquet"


def save_comparison(comparison: Comparison, directory: Path) -> None:
    """Save *comparison* in *directory*, replacing an older one once the new one is complete.

    Raises
    ------
    ServesimError
        If the directory holds something else, or cannot be written.
    """
    with replacing(directory, is_older=is_comparison, what="comparison") as new:
        write_json(new / COMPARISON_FILE, comparison.to_dict())
        write_parquet(new / VALUES_FILE, comparison.values)


def is_comparison(directory: Path) -> bool:
    """Return whether *directory* holds a saved comparison."""
    return (directory / COMPARISON_FILE).is_file()


def check_comparison_destination(directory: Path) -> None:
    """Refuse a place that a comparison must not replace; call it before a long comparison.

    Raises
    ------
    ServesimError
        If there is anything but nothing, an empty directory, or an older comparison.
    """
    check_destination(directory, is_older=is_comparison, what="comparison")
