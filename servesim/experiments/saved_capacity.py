"""A capacity's directory: ``capacity.json`` with everything, ``curve.parquet`` with the loads that were tried."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from servesim.results.saving import check_destination, replacing, write_json, write_parquet

if TYPE_CHECKING:
    from servesim.experiments.capacity_result import Capacity

CAPACITY_FILE, CURVE_FILE = "capacity.json", "curve.parquet"


def save_capacity(found: Capacity, directory: Path) -> None:
    """Save *found* in *directory*, replacing an older one once the new one is complete.

    Raises
    ------
    ServesimError
        If the directory holds something else, or cannot be written.
    """
    with replacing(directory, is_older=is_capacity, what="capacity") as new:
        write_json(new / CAPACITY_FILE, found.to_dict())
        write_parquet(new / CURVE_FILE, found.curve)


def is_capacity(directory: Path) -> bool:
    """Return whether *directory* holds a saved capacity."""
    return (directory / CAPACITY_FILE).is_file()


def check_capacity_destination(directory: Path) -> None:
    """Refuse a place that a capacity must not replace; call it before a long search.

    Raises
    ------
    ServesimError
        If there is anything but nothing, an empty directory, or an older capacity.
    """
    check_destination(directory, is_older=is_capacity, what="capacity")
