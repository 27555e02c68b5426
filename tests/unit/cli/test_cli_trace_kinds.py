"""The command line of what is no trace of requests: client pools, serverless logs, and a pool fitted to a trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from pools import pool_of, write

from servesim.traces.datasheets import read_datasheet

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Return the path of a pool of three clients."""
    return write(tmp_path / "three.trace.parquet", pool_of())


def test_info_of_a_pool_is_a_page(servesim_main: Main, pool: Path) -> None:
    """Clients, load, rates, lengths, the busiest, a line of bars, findings; results only on stdout."""
    code, out, err = servesim_main("trace", "info", pool)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{pool}  (ServeGen client pool, packed)"
    assert "  clients     3, 3 active in a window of 10 min (at most 3)" in lines
    assert "  requests    34,560 in 21,600 s (6.00 h)" in lines
    assert "  load        the busiest 1, 5, 10 clients send 62.5%, 100.0%, 100.0%; 2 send 90%" in lines
    assert "  gaps        Gamma 100.0%, Weibull 0.0%" in lines
    assert any(line.split()[:3] == ["input", "tokens", "16.2"] for line in lines)
    assert any(line.split() == ["a", "62.5%", "100.0%", "1.00", "1.00"] for line in lines)
    assert any(line.startswith("  rate  ") and "full bar 1.60/s, 600 s each" in line for line in lines)
    assert lines[-1].startswith("note: bursts: ")


def test_info_of_a_pool_as_json_and_datasheet(servesim_main: Main, pool: Path, tmp_path: Path) -> None:
    """Every number; a datasheet that names what takes the pool; no figure."""
    code, out, err = servesim_main("trace", "info", pool, "--json", "--datasheet", tmp_path / "a.yaml")
    found = json.loads(out)
    assert (code, found["format"], found["clients"]) == (0, "servegen", 3)
    assert err == f"wrote {tmp_path / 'a.yaml'}\n"
    assert read_datasheet(tmp_path / "a.yaml").reader == "servegen"
    code, out, err = servesim_main("trace", "info", pool, "--plot", tmp_path / "a.png")
    assert (code, out) == (2, "")
    assert f"--plot: {pool}: no requests (got format 'servegen'). expected a trace of requests" in err


def test_info_of_a_log_is_a_page(servesim_main: Main, root: Path) -> None:
    """Counts, parts, gaps with their CV, quantiles, groups."""
    code, out, err = servesim_main("trace", "info", root / "traces" / "huawei_cold_starts_sample.csv")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("(huawei_cold_starts, told by its datasheet)")
    assert any(line.startswith("  cold starts  250 in ") for line in lines)
    assert any(line.startswith("  gaps         CV 0.924") for line in lines)
    assert any(line.startswith("  parts        pod allocation 581 ms, ") for line in lines)
    assert any(line.startswith("  pod utility  not told by this log") for line in lines)
    assert any(line.split()[:2] == ["pool22-300-128", "164"] for line in lines)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("azure_functions_2019_sample.csv", "  invocations  85,265 in 86,400 s (24.0 h): 0.987/s"),
        ("azure_functions_2021_sample.csv", "  invocations  200 in 129 s: 1.55/s"),
        ("genai_base_model_update_latency_sample.csv", "note: missing values: 21 of 200 loads without a container"),
        ("huawei_functions_sample.csv", "  functions  150 of 64 owners"),
        ("huawei_requests_sample.csv", "  values  330"),
    ],
)  # fmt: skip
def test_info_of_every_kind_of_log(name: str, line: str, servesim_main: Main, root: Path) -> None:
    """Each has a page of what it tells."""
    code, out, _ = servesim_main("trace", "info", root / "traces" / name)
    assert code == 0
    assert line in out.splitlines()


def test_info_of_a_pool_that_ships(servesim_main: Main) -> None:
    """By its name: its file, its page, and that it is the file of its datasheet."""
    code, out, _ = servesim_main("trace", "info", "multimodal", "--json")
    found = json.loads(out)
    assert (code, found["form"], found["clients"]) == (0, "parametric", 35)
    assert Path(found["file"]).name == "multimodal.toml"
    assert found["findings"][-1] == {
        "check": "checksum",
        "level": "ok",
        "text": "that of the datasheet beside it",
    }


def test_what_is_no_trace_ends_with_2(servesim_main: Main, tmp_path: Path) -> None:
    """An aggregate is told as unknown, with the known formats; nothing on stdout."""
    pl.DataFrame({"day": [1], "requests": [2]}).write_parquet(tmp_path / "daily.parquet")
    code, out, err = servesim_main("trace", "info", tmp_path / "daily.parquet")
    assert (code, out) == (2, "")
    assert "daily.parquet: no known format (got columns 'day', 'requests')" in err
    assert "client pools" in err
    assert "azure_functions_2021" in err


def test_fit_tells_what_it_fitted_and_how_to_use_it(servesim_main: Main, root: Path, tmp_path: Path) -> None:
    """A page, three files, and lines of a scenario that generate from them."""
    out_path = tmp_path / "own.trace.parquet"
    code, out, err = servesim_main("trace", "fit", root / "traces" / "table_sample.csv", out_path)
    assert code == 0
    names = ("own.trace.parquet", "own.dataset.parquet", "own.trace.datasheet.yaml")
    assert err.splitlines() == [f"wrote {tmp_path / name}" for name in names]
    lines = out.splitlines()
    assert "  clients   3 tenants, 3 active in a window of 10 min (at most 3)" in lines
    assert any(line.startswith("  requests  500 in 600 s") for line in lines)
    start = lines.index("  workload:")
    (tmp_path / "spec.yaml").write_text("\n".join(line[2:] for line in lines[start : start + 2]) + "\n")
    code, out, _ = servesim_main("trace", "generate", tmp_path / "spec.yaml", tmp_path / "again.parquet")
    assert code == 0
    again = pl.read_parquet(tmp_path / "again.parquet")
    assert set(again["tenant"]) == set(pl.read_csv(root / "traces" / "table_sample.csv")["team"])


def test_fit_as_json_and_what_it_notes(servesim_main: Main, root: Path, tmp_path: Path) -> None:
    """Sessions of a few requests: no gaps are fitted, and lengths are few."""
    sample, out_path = root / "traces" / "ragpulse_sample.jsonl", tmp_path / "own.trace.parquet"
    code, out, _ = servesim_main("trace", "fit", sample, out_path, "--by", "session")
    assert code == 0
    assert "clients never send 10 requests in a window: their gaps are taken as Poisson" in out
    assert "clients send fewer than 10 requests in all" in out
    code, out, _ = servesim_main("trace", "fit", sample, out_path, "--by", "session", "--json")
    found = json.loads(out)
    assert found["clients"] == found["clients_poisson"] == found["clients_few_lengths"]


def test_fit_without_clients_ends_with_2(servesim_main: Main, root: Path, tmp_path: Path) -> None:
    """It says what to do."""
    code, out, err = servesim_main(
        "trace", "fit", root / "traces" / "azure_conv_sample.csv", tmp_path / "own.trace.parquet"
    )
    assert (code, out) == (2, "")
    assert "requests without a tenant (got 2,000 of 2,000)" in err
    assert "hint: a YAML file with workload: {source: {reader: table" in err
