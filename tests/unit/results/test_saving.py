"""Writing of files: what a full disk does."""

from __future__ import annotations

import resource
from pathlib import Path

import polars as pl
import pytest

from servesim.errors import ServesimError
from servesim.results.saving import replacing_file, write_parquet


def test_a_disk_that_fills_up_under_a_parquet_file_is_told(tmp_path: Path) -> None:
    """No file may exceed 4096 bytes, as if the disk were full: an error of the user's, and the old file is kept."""
    out = tmp_path / "rows.parquet"
    out.write_text("old", encoding="utf-8")
    frame = pl.DataFrame({"x": [float(i * 7919 % 104729) for i in range(5000)]})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ServesimError, match="cannot be written"), replacing_file(out) as partial:
            write_parquet(partial, frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert out.read_text(encoding="utf-8") == "old"
    with replacing_file(out) as partial:
        write_parquet(partial, frame)
    assert pl.read_parquet(out).equals(frame)
