"""Tests of saving, loading and comparing results."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from servesim.errors import ServesimError
from servesim.results import MemorySink, ParquetSink, RunResult, check_destination, is_result
from servesim.results.notebook import summary_html
from servesim.results.saving import readable, replacing_file
from servesim.results.schema import FRAMES, frame_schema

FILES = {
    "summary.json",
    "provenance.json",
    "run.json",
    "scenario.yaml",
    *(f"{name}.parquet" for name in FRAMES),
}


def contents(directory: Path) -> dict[str, bytes]:
    """Return name and bytes of every file of a result but run.json."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "run.json"}


def sink_of(kind: str, out: Path) -> MemorySink | ParquetSink:
    """Return a new sink of a kind."""
    return MemorySink() if kind == "memory" else ParquetSink(out)


@pytest.mark.parametrize("kind", ["memory", "parquet"])
def test_save_and_load(preempted, tmp_path, kind):
    """A result comes back as it was saved, and nothing else is left behind."""
    out = tmp_path / "deep" / "out"
    result = preempted.result(sink_of(kind, out), wall_s=1.25)
    result.save(out)
    assert {path.name for path in out.iterdir()} == FILES
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    loaded = RunResult.load(out)
    assert loaded.summary == result.summary
    assert loaded.provenance == {"version": "0", "seed": 0}
    assert loaded.host == {"wall_s": 1.25}
    assert loaded.scenario.to_yaml() == "name: tiny\nseed: 0\n"
    assert loaded.interrupted is False
    for name in FRAMES:
        frame = getattr(loaded, name)
        assert frame.schema == frame_schema(name)
        assert_frame_equal(frame, getattr(result, name))
    assert loaded.fingerprint() == result.fingerprint()
    assert loaded.token_times(1).tolist() == [1.0, 2.0, 3.0, 7.75, 8.75]


def test_same_bytes_on_every_run(preempted, tmp_path):
    """Runs of the same scenario give the same files, in memory or on disk, except for run.json."""
    for number, kind in enumerate(["memory", "memory", "parquet", "parquet"]):
        out = tmp_path / str(number)
        preempted.result(sink_of(kind, out), chunk_rows=1 + number % 2, wall_s=float(number)).save(out)
    first = contents(tmp_path / "0")
    assert len(first) == 7
    for number in (1, 2, 3):
        assert contents(tmp_path / str(number)) == first
    assert json.loads((tmp_path / "3" / "run.json").read_text()) == {"wall_s": 3.0}


def test_row_groups_do_not_depend_on_pieces(plain, tmp_path, monkeypatch):
    """Row groups have one size however the pieces came, so that bytes do not depend on it."""
    import pyarrow.parquet as pq

    monkeypatch.setattr("servesim.results.frames.CHUNK_ROWS", 2)
    for number, chunk_rows in enumerate([1, 3]):
        out = tmp_path / str(number)
        plain.result(ParquetSink(out), chunk_rows=chunk_rows).save(out)
        file = pq.ParquetFile(out / "requests.parquet")
        assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 1]
    assert contents(tmp_path / "0") == contents(tmp_path / "1")


def test_saving_again(preempted, tmp_path):
    """A saved result can be saved elsewhere, and over itself."""
    result = preempted.result(ParquetSink(tmp_path / "a"))
    result.save(tmp_path / "a")
    result.save(tmp_path / "b")
    loaded = RunResult.load(tmp_path / "a")
    loaded.save(tmp_path / "a")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert loaded.fingerprint() == result.fingerprint()


def test_copies_where_links_are_not_possible(preempted, tmp_path, monkeypatch):
    """Files of a spilled result are copied where the file system has no links."""

    def refuse(*_: object) -> None:
        raise OSError("no links")

    monkeypatch.setattr(os, "link", refuse)
    preempted.result(ParquetSink()).save(tmp_path / "out")
    assert RunResult.load(tmp_path / "out").requests.height == 2


def test_spilled_frames_vanish_unless_saved(preempted, tmp_path):
    """The hidden directory of a spilled result goes when the result does."""
    result = preempted.result(ParquetSink(tmp_path / "out"))
    assert [path.name.startswith(".servesim-") for path in tmp_path.iterdir()] == [True]
    assert result.requests.height == 2
    del result
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_older_result_is_replaced(plain, preempted, tmp_path):
    """A newer result takes the place of an older one."""
    out = tmp_path / "out"
    plain.result().save(out)
    (out / "note.txt").write_text("old")
    preempted.result().save(out)
    assert {path.name for path in out.iterdir()} == FILES
    assert RunResult.load(out).summary["preemptions"] == 1


def test_failed_save_keeps_the_older_result(plain, preempted, tmp_path, monkeypatch):
    """When the disk is full the older result stays, the error names the place, and nothing else is left."""
    out = tmp_path / "out"
    plain.result().save(out)
    before = contents(out)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("servesim.results.run_result.write_json", full)
    with pytest.raises(
        ServesimError, match=r"out: the result cannot be written \(got 'No space left on device'\)"
    ):
        preempted.result().save(out)
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_disk_full_while_saving_frames(plain, tmp_path, monkeypatch):
    """A frame that cannot be written is an error, not a file cut short."""
    import pyarrow.parquet as pq

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    result = plain.result()
    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(ServesimError, match="No space left on device"):
        result.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_failed_rename_puts_the_older_result_back(plain, preempted, tmp_path, monkeypatch):
    """When the new directory cannot be put into place the older one comes back."""
    out = tmp_path / "out"
    plain.result().save(out)
    before = contents(out)
    rename = Path.rename

    def refuse_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(ServesimError, match="Permission denied"):
        preempted.result().save(out)
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_spill_that_cannot_be_written(tmp_path):
    """A spill into a place that is no directory is refused with the place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ServesimError, match="file/out: the result cannot be written"):
        ParquetSink(tmp_path / "file" / "out")


def test_disk_full_while_spilling(plain, tmp_path, monkeypatch):
    """A disk that fills up during the run is an error that names the file."""
    import pyarrow.parquet as pq

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    sink = ParquetSink(tmp_path / "out")
    recorder = plain.recorder(sink)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    recorder._take_outcomes()
    with pytest.raises(ServesimError, match=r"requests\.parquet: the result cannot be written"):
        sink.close()


def test_destinations(plain, tmp_path):
    """A result may go to a new or empty directory or replace a result, and nothing else."""
    check_destination(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_destination(tmp_path / "empty")
    plain.result().save(tmp_path / "empty")
    assert is_result(tmp_path / "empty")
    check_destination(tmp_path / "empty")
    with pytest.raises(ServesimError, match="got a directory of other files"):
        plain.result().save(tmp_path)
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ServesimError, match="got a file"):
        plain.result().save(file)
    assert file.read_text() == "precious"


def test_loading_what_is_no_result(plain, tmp_path):
    """What is missing is named."""
    with pytest.raises(ServesimError, match="no such directory"):
        RunResult.load(tmp_path / "none")
    plain.result().save(tmp_path / "out")
    (tmp_path / "out" / "events.parquet").unlink()
    with pytest.raises(ServesimError, match=r"without events\.parquet"):
        RunResult.load(tmp_path / "out")


def _spoil(name: str, content: bytes | str | None = None, *, cut: int = 0) -> Callable[[Path], None]:
    """Return a function that spoils a file of a result: another content, or without its last bytes."""

    def spoil(out: Path) -> None:
        path = out / name
        new = path.read_bytes()[:-cut] if cut else content
        path.write_bytes(new if isinstance(new, bytes) else str(new).encode())

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *(
            (_spoil(f"{name}.parquet", cut=20), rf"{name}\.parquet: cannot be read \(.*PAR1")
            for name in ("requests", "segments", "replicas", "events")
        ),
        (_spoil("segments.parquet", ""), r"segments\.parquet: cannot be read"),
        (_spoil("summary.json", '{"duration_s": 1'), r"summary\.json: not JSON \(.*\). expected what servesim wrote"),
        (_spoil("summary.json", b"\xff\xfe"), r"summary\.json: cannot be read \(not a text in UTF-8\)"),
        (_spoil("summary.json", "[]"), r"summary\.json: not an object \(got list\)"),
        (_spoil("summary.json", "{}"), r"not a summary of this version \(\d+ keys are missing, the first is req"),
        (_spoil("run.json", ""), r"run\.json: not JSON"),
        (_spoil("scenario.yaml", b"\xff"), r"scenario\.yaml: cannot be read \(not a text in UTF-8\)"),
    ],
)  # fmt: skip
def test_loading_a_damaged_result(plain, tmp_path, spoil, message):
    """A file that is cut short or holds something else is named, whatever it is."""
    out = tmp_path / "out"
    plain.result().save(out)
    spoil(out)
    with pytest.raises(ServesimError, match=message):
        RunResult.load(out)


def test_loading_frames_with_other_columns(plain, tmp_path):
    """A frame of another version, or in the place of another, is told apart from a damaged one."""
    out = tmp_path / "out"
    plain.result().save(out)
    (out / "events.parquet").write_bytes((out / "replicas.parquet").read_bytes())
    with pytest.raises(
        ServesimError, match=r"events\.parquet: not the frame events of this version \(differs in"
    ):
        RunResult.load(out)


def test_replacing_a_file(tmp_path):
    """A file is replaced once the new one is whole; a failure leaves the older one, and nothing beside it."""
    path = tmp_path / "new" / "file"
    with replacing_file(path) as partial:
        partial.write_text("first")
    with pytest.raises(RuntimeError), replacing_file(path) as partial:
        partial.write_text("second")
        raise RuntimeError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]
    for place in (tmp_path, Path(os.devnull)):
        with (
            pytest.raises(ServesimError, match=r"not a regular file. expected the name"),
            replacing_file(place),
        ):
            pass
    with (
        pytest.raises(ServesimError, match=r"below: the result cannot be written"),
        replacing_file(path / "below"),
    ):
        pass


def test_reading_pages_that_are_damaged(tmp_path):
    """What polars cannot read, or panics over, is an error that names the place."""
    for error in (pl.exceptions.ComputeError("bad page\nmore"), pl.exceptions.PanicException("worse")):
        with (
            pytest.raises(ServesimError, match=r"runs/a: cannot be read \((bad page|worse)\)"),
            readable(Path("runs/a")),
        ):
            raise error


def test_fingerprint_tells_results_apart(plain):
    """Any difference in a value or in nullness changes the fingerprint; host facts do not."""
    base = plain.result(wall_s=1.0).fingerprint()
    assert plain.result(wall_s=2.0).fingerprint() == base
    assert plain.result(chunk_rows=1).fingerprint() == base
    for change in ({"session": "t"}, {"session": ""}, {"priority": 8}, {"tenant": None}):
        other = plain.copy()
        other.arrivals[1] |= change
        assert other.result().fingerprint() != base, change


def test_shown_in_a_notebook(plain):
    """The summary in readable units, a dash for null, with its warnings; well formed; the text form is short."""
    result = plain.result()
    page = ElementTree.fromstring(result._repr_html_())
    rows = [[cell.text for cell in row] for row in page.iter("tr")]
    assert ["requests", "3 arrived, 2 completed, 1 rejected, 0 unfinished"] in rows
    assert ["ttft", "625", "625", "725", "748", "ms"] in rows
    assert ["cost", "-"] not in rows
    assert [row[0] for row in rows[-2:]] == ["ann", "bob"]
    assert "warning: 1 requests rejected: prompt_too_long" in [line.text for line in page.iter("div")]
    assert repr(result) == "<RunResult: 2 of 3 requests completed in 1.5 s>"


def test_names_in_a_notebook_are_escaped(plain):
    """A tenant is shown as it is called, and cannot be markup; of many tenants the first dozen is shown."""
    plain.arrivals[0]["tenant"] = "<script>alert(1)</script>"
    result = plain.result()
    assert "<script>" not in result._repr_html_()
    names = {row.find("th").text for row in ElementTree.fromstring(result._repr_html_()).iter("tr")}
    assert "<script>alert(1)</script>" in names
    many = {str(number): {"requests": 1, "requests_completed": 1} for number in range(20)}
    page = summary_html({**result.summary, "tenants": many}, {})
    assert "and 8 more" in page


def test_settings_and_warm_up(plain, tmp_path):
    """The resolved scenario can be read as data, from memory and from disk."""
    result = plain.result()
    assert result.settings == {"name": "tiny", "seed": 0}
    assert result.warm_up_s == 0.0
    result.save(tmp_path / "out")
    (tmp_path / "out" / "scenario.yaml").write_text("run: {warm_up_s: 2.5}")
    assert RunResult.load(tmp_path / "out").warm_up_s == 2.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("hello", "not a scenario"),
        ("- 1", "not a scenario"),
        ("run: 3", "run.warm_up_s"),
        ("run: {warm_up_s: soon}", r"run.warm_up_s \(got 'soon'\)"),
        ("run: {warm_up_s: true}", "run.warm_up_s"),
    ],
)
def test_a_scenario_that_is_none(plain, tmp_path, text, message):
    """Its text is kept, and refused when it is needed as data."""
    out = tmp_path / "out"
    plain.result().save(out)
    (out / "scenario.yaml").write_text(text)
    loaded = RunResult.load(out)
    assert loaded.scenario.to_yaml() == text
    with pytest.raises(ServesimError, match=rf"scenario\.yaml.*{message}"):
        _ = loaded.warm_up_s


def test_the_warm_up_of_a_saved_scenario(plain, tmp_path):
    """It is read from the text; where a scenario says nothing of a run, there is none."""
    out = tmp_path / "out"
    plain.result().save(out)
    for text, expected_s in (("run: {warm_up_s: 7}", 7.0), ("name: tiny", 0.0)):
        (out / "scenario.yaml").write_text(text)
        assert RunResult.load(out).warm_up_s == expected_s


def test_to_pandas(plain):
    """Requests go to pandas with their columns."""
    frame = plain.result().to_pandas()
    assert list(frame.columns) == list(frame_schema("requests"))
    assert frame["ttft_s"].tolist()[:2] == [0.5, 0.75]
