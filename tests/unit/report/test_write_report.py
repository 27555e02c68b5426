"""The report as a file: its numbers, what it refuses, and that nothing in it is fetched or runs but its own scripts."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import servesim
from servesim.cli import main
from servesim.report import write_report
from servesim.report.files import RUNS_MAX, load_runs
from servesim.results.schema import SUMMARY

EVIL = "<script>alert(1)</script>"
SCENARIO = """\
name: "{name}"
workload:
  generator:
    name: poisson
    rate_per_s: 20
    requests: 200
    prompt_tokens: {{distribution: lognormal, mean: 300, sigma: 0.8}}
    output_tokens: {{distribution: lognormal, mean: 60, sigma: 0.8}}
  tenant: "{name}"
  slo_class: "{name}"
cluster:
  pools: [{{name: main, model: llama-3.1-8b, gpu: h100-sxm, replicas: {replicas}}}]
slo: {{ttft_s: 1.0}}
"""


class Parts(HTMLParser):
    """What a page is made of: tags with their attributes, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._last = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._last = tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._last, []).append(data)


def saved(folder: Path, name: str, *, replicas: int = 2) -> Path:
    """Run a small scenario whose names are *name*, and return where it is saved."""
    folder.mkdir(parents=True)
    (folder / "scenario.yaml").write_text(SCENARIO.format(name=name, replicas=replicas), encoding="utf-8")
    servesim.run(folder / "scenario.yaml", out=folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two saved runs; every name in them is a script."""
    folder = tmp_path_factory.mktemp("runs")
    first, second = saved(folder / "a", EVIL), saved(folder / "b", EVIL, replicas=1)
    return [first.rename(folder / "two replicas"), second.rename(folder / "one & only")]


@pytest.fixture(scope="module")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the report of the first run."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", str(runs[0]), "-o", str(path)]) == 0
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def both(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the report of both runs."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", *map(str, runs), "-o", str(path)]) == 0
    return path.read_text(encoding="utf-8")


def charts_of(text: str) -> dict[str, dict]:
    """Return the charts of a page by their headings."""
    parts = Parts(text)
    found = json.loads(next(text for text in parts.texts["script"] if text.startswith('{"chart-1"')))
    return dict(zip((text for text in parts.texts["h3"] if text.strip()), found.values(), strict=True))


def test_numbers_are_those_of_the_summary(runs, page):
    """Every number that is shown carries the exact one of summary.json."""
    summary = json.loads((runs[0] / "summary.json").read_text())
    shown: dict[str, set[str]] = {}
    for tag, attributes in Parts(page).tags:
        if tag == "data" and "data-key" in attributes:
            shown.setdefault(attributes["data-key"], set()).add(attributes["value"])
    for key in (
        "requests_completed",
        "requests_per_s",
        "ttft_s_p50",
        "tpot_s_p99",
        "e2e_s_mean",
        "slo_met_ratio",
    ):
        assert repr(summary[key]) in shown[key]
    assert shown["queue_s_p90"] == {repr(summary["queue_s_p90"])}


def test_every_number_is_there(runs, page):
    """The folded table has each plain number of summary.json with all its digits."""
    summary = json.loads((runs[0] / "summary.json").read_text())
    values = {attributes.get("value") for tag, attributes in Parts(page).tags if tag == "data"}
    plain = [summary[key.name] for key in SUMMARY if isinstance(summary[key.name], int | float)]
    assert len(plain) > 30
    assert [number for number in plain if repr(number) not in values] == []


def test_both_runs_side_by_side(runs, both):
    """Numbers of both, the differences to the first, a line per run in each chart, and that they are single runs."""
    summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
    parts = Parts(both)
    values = {
        attributes["value"] for tag, attributes in parts.tags if tag == "data" and "value" in attributes
    }
    assert {repr(summary["e2e_s_p99"]) for summary in summaries} <= values
    change = summaries[1]["gpu_hours"] / summaries[0]["gpu_hours"] - 1.0
    assert any(text.endswith(f"\N{MINUS SIGN}{abs(change):.1%}") for text in parts.texts["div"])
    assert any("single runs" in text for text in parts.texts["li"])
    assert len(set(parts.texts["li"])) == len(parts.texts["li"])
    assert any("cluster.pools.main.replicas" in text for text in parts.texts["th"])
    labels = charts_of(both)["Time to first token: cumulative"]["spec"]["params"][2]["value"]
    assert list(labels.values()) == ["two replicas", "one & only"]


def test_charts_show_the_series(runs, page):
    """The cumulative distribution goes through the summary's median, in its unit; shares of bins add up to 100 %."""
    summary = json.loads((runs[0] / "summary.json").read_text())
    charts = charts_of(page)
    curve = charts["End-to-end latency: cumulative"]["spec"]["data"]["values"]
    median = next(row["s0"] for row in curve if row["place"] == 50.0)
    assert median == pytest.approx(summary["e2e_s_p50"] * (1e3 if summary["e2e_s_p99"] < 1 else 1), rel=1e-3)
    bars = charts["End-to-end latency: distribution"]["spec"]["data"]["values"]
    assert sum(row["s0"] for row in bars) == pytest.approx(100.0, abs=0.1)


def test_what_users_name_is_text(page, both):
    """A scenario, tenant and class called <script> are shown so, and open no element."""
    for text in (page, both):
        assert EVIL not in text
        parts = Parts(text)
        assert EVIL in parts.texts["h1"] or "two replicas and one & only" in parts.texts["h1"]
        assert any(text == EVIL for text in parts.texts["th"])
        assert sum(tag == "script" for tag, _ in parts.tags) == 3


def test_nothing_is_fetched(page):
    """No element refers to another file, and the page's policy allows neither network nor foreign scripts."""
    parts = Parts(page)
    for tag, attributes in parts.tags:
        assert tag not in ("link", "img", "iframe", "base", "object", "embed"), tag
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            if name in attributes:
                assert attributes[name].startswith("#"), (tag, attributes)
    assert "@import" not in page.partition("</style>")[0]
    assert "url(" not in page.partition("</style>")[0]
    policy = next(attributes["content"] for tag, attributes in parts.tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "script-src 'unsafe-inline'" not in policy


def test_size_and_the_same_bytes(runs, page, tmp_path):
    """About 1 MB, most of it Vega; a second report of the same run is the same."""
    write_report(load_runs(runs[:1]), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
    assert len(page.encode()) < 1.3e6
    assert [path.name for path in tmp_path.iterdir()] == ["again.html"]


def test_what_qualifies_the_numbers(tmp_path):
    """A saturated run carries the warning first, rejections too, and how far latencies may be off."""
    result = servesim.run(
        "scenarios/quickstart.yaml",
        overrides=[
            *("workload.rate_scale=60", "cluster.pools.main.replicas=1", "workload.max_requests=500"),
            "cluster.pools.main.engine.kv_blocks=400",
        ],
    )
    write_report(result, tmp_path / "report.html")
    notes = Parts((tmp_path / "report.html").read_text()).texts["li"]
    assert re.match(r"warning: \d+ requests rejected", notes[0])
    assert notes[1].startswith("warning: pool main is saturated (load ")
    assert any(note.startswith("note: expected error of latencies: TPOT") for note in notes)
    assert "Events" in charts_of((tmp_path / "report.html").read_text())


def test_targets_are_told(tmp_path):
    """Those of all requests, and of each class."""
    result = servesim.run("scenarios/two_models.yaml", overrides=["run.horizon_s=10"])
    write_report(result, tmp_path / "report.html")
    parts = Parts((tmp_path / "report.html").read_text())
    expected = "Targets: chat ttft 500 ms, tpot 30.0 ms; batch e2e 120 s"
    assert any(text.endswith(expected) for text in parts.texts["p"])


def test_a_run_in_which_nothing_completed(tmp_path):
    """There are tables, and what has no value has no chart; without any time there is no chart at all."""
    result = servesim.run("scenarios/quickstart.yaml", overrides=["run.horizon_s=0.001", "run.drain=false"])
    assert result.summary["requests_completed"] == 0
    write_report(result, tmp_path / "report.html")
    charts = charts_of((tmp_path / "report.html").read_text())
    assert "Requests in the system" in charts
    assert "Time to first token: cumulative" not in charts
    timeless = replace(result, summary={**result.summary, "duration_s": 0.0})
    write_report(timeless, tmp_path / "report.html")
    assert "there is nothing to draw" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none",), "no such directory"),
        (("two replicas", "two replicas"), "given twice"),
        (("two replicas", "-o", "."), "got a directory"),
        (("two replicas", "-o", "nowhere/report.html"), "no directory to write to"),
        (("two replicas", "-o", "pipe"), "got a device or pipe"),
    ],
)
def test_refused(runs, arguments, message, monkeypatch, capsys):
    """What is not there, named twice, or cannot be written is an error of the user, in a line."""
    monkeypatch.chdir(runs[0].parent)
    if "pipe" in arguments and not Path("pipe").exists():
        os.mkfifo("pipe")
    assert main(["report", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("report.html").exists()


def test_too_many_runs(runs):
    """More than there are colours is refused."""
    (result,) = load_runs(runs[:1]).values()
    with pytest.raises(servesim.ServesimError, match="cannot be told apart"):
        write_report({str(number): result for number in range(RUNS_MAX + 1)}, "report.html")


def test_runs_of_one_name_are_told_by_their_paths(runs, tmp_path, monkeypatch):
    """Two directories called `run` get their paths as labels."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run").symlink_to(runs[0] if name == "a" else runs[1])
    assert list(load_runs([tmp_path / "a" / "run", runs[1]])) == ["two replicas", "one & only"]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("summary.json", lambda text: "{}", "not a summary"),
        ("summary.json", lambda text: text.replace('"pool": "main"', '"pol": "main"'), "not whole"),
        (
            "summary.json",
            lambda text: re.sub(r'"duration_s": [\d.]+', '"duration_s": null', text),
            "duration_s",
        ),
        ("provenance.json", lambda text: '{"pools": 3}', "provenance: pools"),
        ("scenario.yaml", lambda text: "a: [", "not valid YAML"),
    ],
)
def test_damaged_texts(runs, tmp_path, file, change, message, capsys):
    """What was changed by hand is refused, and nothing is written."""
    result = servesim.RunResult.load(runs[0])
    result.save(tmp_path / "run")
    path = tmp_path / "run" / file
    path.write_text(change(path.read_text()))
    assert main(["report", str(tmp_path / "run"), "-o", str(tmp_path / "report.html")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_damaged_frames(runs, tmp_path, capsys):
    """A Parquet file whose middle was overwritten is noticed when it is read."""
    servesim.RunResult.load(runs[0]).save(tmp_path / "run")
    path = tmp_path / "run" / "requests.parquet"
    content = bytearray(path.read_bytes())
    path.unlink()  # it may be a link to the other run's file
    content[4:4000] = bytes(byte ^ 0x5A for byte in content[4:4000])
    path.write_bytes(content)
    assert main(["report", str(tmp_path / "run"), "-o", str(tmp_path / "report.html")]) == 2
    assert "cannot be read (" in capsys.readouterr().err


def test_a_full_disk_keeps_the_older_report(runs, tmp_path, monkeypatch):
    """The file that was there stays, and nothing else is left."""
    path = tmp_path / "report.html"
    path.write_text("older")

    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(servesim.ServesimError, match="No space left on device"):
        write_report(load_runs(runs[:1]), path)
    assert path.read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_link_stays_a_link(runs, tmp_path):
    """The file that it names is replaced."""
    (tmp_path / "real.html").write_text("older")
    (tmp_path / "report.html").symlink_to("real.html")
    write_report(load_runs(runs[:1]), tmp_path / "report.html")
    assert (tmp_path / "report.html").is_symlink()
    assert (tmp_path / "real.html").read_text().startswith("<!DOCTYPE html>")
