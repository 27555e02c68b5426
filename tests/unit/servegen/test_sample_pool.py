"""The bundled client pool in ServeGen's native form: described by its datasheet, read whole, generated from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML
from workloads import build

from servesim.servegen.native import read_native
from servesim.servegen.packed import read_packed, write_packed
from servesim.workload.datasheet import Datasheet


@pytest.fixture
def folder(root: Path) -> Path:
    """Return the pool's folder."""
    return root / "traces" / "servegen_sample"


def test_the_datasheet_belongs_to_the_folder(folder: Path) -> None:
    """Checksum of all files in the order of their names, and a row for each line of the traces."""
    text = folder.with_name("servegen_sample.datasheet.yaml").read_text(encoding="utf-8")
    sheet = Datasheet.model_validate(YAML(typ="safe").load(text))
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert sheet.file == folder.name
    assert sheet.sha256 == hashlib.sha256(b"".join(contents)).hexdigest()
    assert sheet.rows == sum(len(path.read_text().splitlines()) for path in folder.glob("*.csv")) == 5 * 144
    assert sum(map(len, contents)) < 64_000


def test_the_pool_is_read_whole(folder: Path) -> None:
    """Rates, patterns and the mean of every window agree with the files' lines, read here by hand."""
    pool = read_native(folder)
    assert pool.clients == ("0", "1", "2", "3", "4")
    assert pool.windows == 144
    for number, client in enumerate(pool.clients):
        cells = [line.split(",") for line in (folder / f"chunk-{client}-trace.csv").read_text().splitlines()]
        active = [row for row in cells if float(row[1]) > 0]
        mine = pool.activity.filter(pl.col("client") == number)
        assert mine["requests"].to_list() == pytest.approx([600 * float(row[1]) for row in active])
        assert mine["weibull"].to_list() == [row[3] == "Weibull" for row in active]
    night = pool.activity.filter(pl.col("client") == 2)["window"]
    assert night.to_list() == list(range(36))


def test_its_release_is_generated_from(folder: Path) -> None:
    """Counts within five standard deviations of renewal counts of each client's CV; client 4 borrows lengths."""
    workload = build({"generator": {"name": "servegen", "path": str(folder)}})
    requests = pl.concat(list(workload.frames()))
    found = dict(requests.group_by("tenant").len().rows())
    pool = read_native(folder)
    for number, client in enumerate(pool.clients):
        mine = pool.activity.filter(pl.col("client") == number)
        expected, cv = mine["requests"].sum(), mine["cv"][0]
        assert abs(found[client] - expected) < 5 * max(cv, 1) * np.sqrt(expected)
    assert workload.notes["clients_with_borrowed_lengths"] == 1
    prompts = dict(requests.group_by("tenant").agg(pl.col("prompt_tokens").mean()).rows())
    assert prompts["2"] > 4 * prompts["0"]


def test_it_goes_round_trip_through_the_packed_form(folder: Path, tmp_path: Path) -> None:
    """Activity and histograms are the same."""
    pool = read_native(folder)
    write_packed(pool, tmp_path / "pool.trace.parquet")
    again = read_packed(tmp_path / "pool.trace.parquet")
    assert again.activity.equals(pool.activity)
    assert again.lengths.rows.equals(pool.lengths.rows)
