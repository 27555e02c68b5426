"""Serverless logs from descriptions: files, their datasheets, what is refused."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from servesim import serverless
from servesim.cli import main
from servesim.errors import ServesimError, TraceError
from servesim.serverless.parquet import FORMS
from servesim.serverless.schema import FRAMES
from servesim.traces.datasheets import read_datasheet
from servesim.traces.generate_log import generate_any
from servesim.traces.kinds import kind_of
from servesim.traces.log_info import log_info
from servesim.traces.log_spec import GENERATORS, LogSpec
from servesim.traces.source import read_spec

FUNCTIONS = {"generator": {"name": "functions", "count": 40, "duration_s": 7200.0}}
COLD_STARTS = {"generator": {"name": "cold_starts", "duration_s": 900.0, "regions": ["R2", "R5"]}}


def spec(serverless: dict[str, object], seed: int = 0) -> LogSpec:
    """Return a description."""
    return LogSpec.model_validate({"name": "some", "seed": seed, "serverless": serverless})


def test_the_file_is_what_the_generator_makes(tmp_path: Path) -> None:
    """Every frame comes back from Parquet as it was, and belongs to the others of its seed."""
    log = serverless.generate_functions(seed=3, functions=40, duration_s=7200.0)
    for kind in ("cold_starts", "invocations", "functions"):
        out = tmp_path / f"{kind}.parquet"
        generated = generate_any(spec(FUNCTIONS, seed=3), out, to=f"servesim_{kind}")
        frame = getattr(log, kind).collect()
        assert generated.written.rows == frame.height
        read = serverless.read(out)
        assert read.format == f"servesim_{kind}"
        assert_frame_equal(getattr(read, kind).collect(), frame)
        assert kind_of(out) == "serverless log"


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """And another one others; the datasheet tells the checksum, seed and generator."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate_any(spec(COLD_STARTS, seed=seed), tmp_path / f"{name}.parquet")
    one, same, other = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert one == same != other
    sheet = read_datasheet(tmp_path / "c.datasheet.yaml")
    assert sheet.reader == "servesim_cold_starts"
    assert "from some, seed 2: generator cold_starts" in sheet.collection
    assert sheet.rubric["totals"].startswith("ok")
    info = log_info(tmp_path / "c.parquet")
    assert info.by == "its datasheet"
    assert info.summary.tables["by_region"].height == 2


def test_from_yaml_to_pages(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``generate`` says what it wrote, ``info`` what is in it; requests of a log are refused with what to do."""
    description, out = root / "scenarios" / "serverless" / "functions.yaml", tmp_path / "x.parquet"
    few = ["--set", "serverless.generator.count=30"]
    assert main(["trace", "generate", str(description), str(out), *few, "--to", "servesim_functions"]) == 0
    assert "wrote" in (page := capsys.readouterr().out)
    assert "30 rows, form servesim_functions" in page
    assert main(["trace", "info", str(out)]) == 0
    assert "30 of" in capsys.readouterr().out
    for command in (["info", str(description)], ["compare", str(description), str(description)]):
        assert main(["trace", *command]) == 2
        assert "describes a serverless log. expected requests" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("serverless", "to", "name", "message"),
    [
        (FUNCTIONS, "servesim_functons", "x.parquet", "did you mean 'servesim_functions'"),
        (COLD_STARTS, "servesim_functions", "x.parquet", "generator cold_starts has no such frame"),
        (COLD_STARTS, None, "x.csv", "expected a name with .parquet"),
        (
            {"generator": {**COLD_STARTS["generator"], "duration_s": 1e-6}},
            None,
            "x.parquet",
            "makes nothing in this time",
        ),
    ],
)
def test_what_is_refused(
    serverless: dict[str, object], to: str | None, name: str, message: str, tmp_path: Path
) -> None:
    """Before anything is written."""
    with pytest.raises(ServesimError) as caught:
        generate_any(spec(serverless), tmp_path / name, to=to)
    assert message in f"{caught.value} {getattr(caught.value, 'hint', '')}"
    assert list(tmp_path.iterdir()) == []


def test_mistakes_in_the_description_are_told_at_their_lines(tmp_path: Path) -> None:
    """Unknown keys, laws, regions."""
    path = tmp_path / "bad.yaml"
    path.write_text(
        "serverless:\n  generator:\n    name: cold_starts\n    law: foo\n    regions: [R9]\n    days: 3\n",
        encoding="utf-8",
    )
    with pytest.raises(ServesimError) as caught:
        read_spec(path)
    for told in ("bad.yaml:4:10: serverless.generator.law", "bad.yaml:5:15", "bad.yaml:6:5", "unknown key"):
        assert told in str(caught.value)


def test_other_parquet_files_are_no_logs(tmp_path: Path) -> None:
    """Without the mark; with the mark but a value that must not be, the row is named."""
    frame = pl.DataFrame({"start_s": [0.0], "total_s": [1.0]})
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(TraceError, match="not servesim's form of serverless logs"):
        serverless.read(tmp_path / "a.parquet", form="servesim_cold_starts")
    with pytest.raises(TraceError, match=r"not a serverless log that is known .got ..start_s"):
        serverless.read(tmp_path / "a.parquet")
    generate_any(spec(COLD_STARTS), tmp_path / "b.parquet")
    wrong = pl.read_parquet(tmp_path / "b.parquet").with_columns(total_s=pl.lit(-1.0))
    wrong.write_parquet(tmp_path / "b.parquet", metadata={"servesim.serverless": "cold_starts"})
    with pytest.raises(TraceError, match=r"row 1: total_s: unusable value .got -1.0"):
        serverless.read(tmp_path / "b.parquet")


def test_every_generator_has_a_description(root: Path) -> None:
    """In scenarios/serverless, called as its file."""
    found = {path.stem: read_spec(path) for path in (root / "scenarios" / "serverless").glob("*.yaml")}
    assert set(GENERATORS) == {
        each.serverless.generator.name for each in found.values() if isinstance(each, LogSpec)
    }
    assert all(each.name == stem for stem, each in found.items())
    assert set(FORMS.values()) == set(FRAMES)
