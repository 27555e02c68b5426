"""``servesim timeline`` and ``servesim export``: files, messages and bad input."""

from __future__ import annotations

import gzip
import json
import os

import pytest
from trace_format import check_trace


@pytest.fixture
def saved(servesim_main, scenario, tmp_path):
    """Return the directory of a saved run of three requests."""
    out = tmp_path / "run"
    assert servesim_main("run", scenario, "--out", out, "--quiet")[0] == 0
    return out


def test_timeline(servesim_main, saved, tmp_path):
    """The file is a trace that says where it is from; stdout says how large it is and where to open it."""
    path = tmp_path / "trace.json"
    code, out, err = servesim_main("timeline", saved, "-o", path)
    assert (code, err) == (0, "")
    document = json.loads(path.read_text())
    events = check_trace(document)
    assert out.startswith(
        f"{len(events)} events from 0 to 2.02 s in {path}, 0.0 MB; open it at https://ui.perfetto.dev"
    )
    assert (document["otherData"]["scenario"], document["otherData"]["seed"]) == ("small", 3)
    again = tmp_path / "trace.json.gz"
    assert servesim_main("timeline", saved, "-o", again)[0] == 0
    assert gzip.decompress(again.read_bytes()) == path.read_bytes()


def test_timeline_options(servesim_main, saved, tmp_path):
    """Options choose the window, the replicas, the steps and the requests; what is left out is told on stderr."""
    path = tmp_path / "trace.json"
    options = ["--from", "1", "--to", "1.5", "--replicas", "0", "--steps", "none", "--requests", "0"]
    code, out, err = servesim_main("timeline", saved, "-o", path, *options)
    assert (code, err) == (
        0,
        "note: 0 of 1 requests are shown, drawn at random; counters count all\n",
    )
    assert "events from 1 to 1.5 s in " in out
    assert not [each for each in json.loads(path.read_text())["traceEvents"] if each["ph"] == "X"]
    code, _, err = servesim_main("timeline", saved, "-o", path, *options, "--quiet")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "3"], "timeline: the window starts outside of the run (got 3 s)"),
        (["--from", "1", "--to", "1"], "timeline: the window is empty (got 1 to 1 s)"),
        (
            ["--replicas", "0,x"],
            "--replicas: not a list of numbers (got '0,x'). expected numbers separated by commas",
        ),
        (["--replicas", "5"], "timeline: no such replicas (got [5])"),
        (["--steps", "many"], "timeline: unknown way to show steps (got 'many')"),
        (["--max-events", "3"], "timeline: too few events (got 3)"),
    ],
)
def test_timeline_of_nothing(servesim_main, saved, tmp_path, options, message):
    """What cannot be shown is refused with exit code 2, and no file is written."""
    path = tmp_path / "trace.json"
    code, out, err = servesim_main("timeline", saved, "-o", path, *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert not path.exists()


def test_export(servesim_main, saved, tmp_path):
    """The JSON goes to stdout or to a file, the same; --detailed adds the lists."""
    code, out, err = servesim_main("export", saved, "--format", "vllm-bench")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert (values["completed"], values["total_output_tokens"]) == (3, 6)
    assert "itls" not in values
    path = tmp_path / "bench.json"
    assert servesim_main("export", saved, "--format", "vllm-bench", "-o", path) == (0, "", "")
    assert path.read_text() == out
    assert servesim_main("export", saved, "--format", "vllm-bench", "-o", path, "--detailed")[0] == 0
    assert json.loads(path.read_text())["itls"] == [[pytest.approx(0.01)]] * 3


def test_export_to_an_unknown_format(servesim_main, saved):
    """The known formats are listed, the nearest suggested."""
    code, _, err = servesim_main("export", saved, "--format", "vlm-bench")
    assert code == 2
    assert err == (
        "error: --format: unknown (got 'vlm-bench'). expected vllm-bench\n  hint: did you mean 'vllm-bench'?\n"
    )


COMMANDS = (["timeline"], ["export", "--format", "vllm-bench"])


@pytest.mark.parametrize("command", COMMANDS, ids=["timeline", "export"])
def test_places_that_cannot_be_written(servesim_main, saved, tmp_path, command):
    """A directory, a device, or a place below a file: each is refused by name."""
    for place in (tmp_path, os.devnull, saved / "summary.json" / "below"):
        code, out, err = servesim_main(*command, saved, "-o", place)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {place}: ")


@pytest.mark.parametrize("command", COMMANDS, ids=["timeline", "export"])
def test_a_damaged_run(servesim_main, saved, tmp_path, command):
    """A run that is not whole is refused with exit code 2 and the file at fault; an older output stays."""
    path = tmp_path / "out"
    path.write_text("older")
    segments = (saved / "segments.parquet").read_bytes()
    (saved / "segments.parquet").write_bytes(segments[: len(segments) // 2])
    code, _, err = servesim_main(*command, saved, "-o", path)
    assert code == 2
    assert err.startswith(f"error: {saved / 'segments.parquet'}: cannot be read (")
    (saved / "summary.json").unlink()
    code, _, err = servesim_main(*command, saved, "-o", path)
    assert code == 2
    assert err.startswith(f"error: {saved}: not a saved result (got without summary.json)")
    code, _, err = servesim_main(*command, tmp_path / "none", "-o", path)
    assert code == 2
    assert "not a saved result (got no such directory)" in err
    assert path.read_text() == "older"
    assert {each.name for each in tmp_path.iterdir()} == {"out", "run", "small.yaml"}
