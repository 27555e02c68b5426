"""The summary page, its units, and the progress bar."""

from __future__ import annotations

import io
import sys

import pytest

from servesim.cli import progress as progress_module
from servesim.cli.progress import Progress
from servesim.cli.summary import summary_text
from servesim.results.units import bytes_text, number_text, ratio_text, seconds_text

SUMMARY = {
    "requests_arrived": 12_000, "requests_completed": 11_990, "requests_rejected": 7,
    "requests_unfinished": 3, "requests_rejected_by_reason": {"prompt_too_long": 7}, "requests_cut": 4,
    "preemptions": 21,
    "duration_s": 3600.0, "requests_per_s": 3.3306, "output_tokens_per_s": 700.4,
    "prompt_tokens_per_s": 3000.2,
    "ttft_s_mean": 0.0412, "ttft_s_p50": 0.03, "ttft_s_p90": 0.1, "ttft_s_p99": 0.4567,
    "tpot_s_mean": None, "tpot_s_p50": None, "tpot_s_p90": None, "tpot_s_p99": None,
    "e2e_s_mean": 2.0, "e2e_s_p50": 1.0, "e2e_s_p90": 4.0, "e2e_s_p99": 12.25,
    "queue_s_mean": 0.0, "queue_s_p50": 0.0, "queue_s_p90": 0.0, "queue_s_p99": 0.0,
    "kv_used_ratio_max": 0.875, "utilization_ratio": 0.5, "slo_met_ratio": 0.98765,
    "goodput_requests_per_s": 3.2,
    "gpu_hours": 4.0, "cost_usd": 10.0, "usd_per_million_output_tokens": 3.9658,
    "backlog_growing": True, "interrupted": False, "workload": {"rows_read": 12000, "rows_sorted": 0},
    "tenants": {"a-tenant-with-a-name-that-is-much-longer-than-any-column-of-a-terminal-would-like-to-be": {
        "requests": 5, "requests_completed": 5, "ttft_s_p50": 0.1, "ttft_s_p99": 2.5, "tpot_s_p50": 0.01,
    }},
}  # fmt: skip


def test_the_price_is_told_with_its_source():
    """A list price is quoted; a price of the user's own needs no source; a GPU without a price is named."""
    pool = {"pool": "main", "gpu": "h100-sxm", "gpu_price_source": "A shop, 2026", "context_limit_tokens": 1}
    text = summary_text("test", SUMMARY, {}, provenance={"pools": [pool]})
    assert "note: price of h100-sxm: A shop, 2026\n" in text
    own = {**pool, "gpu_price_source": "scenario"}
    assert "price of" not in summary_text("test", SUMMARY, {}, provenance={"pools": [own]})
    unpriced = {**pool, "gpu_price_source": ""}
    text = summary_text("test", {**SUMMARY, "cost_usd": None}, {}, provenance={"pools": [unpriced]})
    assert "cost         unknown: no list price of h100-sxm; cost.gpu_usd_per_h sets one\n" in text


def test_the_page_has_readable_numbers():
    """Counts have separators, latencies one unit per row, ratios are percent, and null is a dash."""
    text = summary_text("test", SUMMARY, {"wall_s": 0.5, "peak_memory_bytes": 200 * 2**20})
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("test  (simulated in 500 ms, peak memory 200 MiB)\n")
    assert "  requests     12,000 arrived, 11,990 completed, 7 rejected, 3 unfinished\n" in text
    assert ["ttft", "41.2", "30.0", "100", "457", "ms"] in lines
    assert ["tpot", "-", "-", "-", "-", "ms"] in lines
    assert ["e2e", "2.00", "1.00", "4.00", "12.2", "s"] in lines
    assert "slo met      98.8%, goodput 3.20 requests/s" in text
    assert "kv cache     87.5% at most" in text
    assert "cost         10.0 USD, 3.97 USD per million output tokens" in text


def test_the_page_ends_with_what_to_know():
    """Dropped rows, rejections, cuts and saturation are told; counts of zero are not."""
    notes = [line for line in summary_text("test", SUMMARY, {}).splitlines() if line[:4] in ("note", "warn")]
    assert notes == [
        "note: workload: rows_read 12,000",
        "warning: 7 requests rejected: prompt_too_long",
        "note: 4 outputs were cut at the context limit",
        "warning: the backlog grew with the arrivals: the cluster is likely saturated, and latencies depend on "
        "the length of the run",
    ]


@pytest.mark.parametrize("columns", ["40", "80"])
def test_names_are_never_cut(monkeypatch, columns):
    """In a pipe the page is as wide as it needs to be, and has no codes for colours."""
    monkeypatch.setenv("COLUMNS", columns)
    text = summary_text("test", SUMMARY, {})
    assert next(iter(SUMMARY["tenants"])) in text
    assert "\x1b" not in text and all(line == line.rstrip() for line in text.splitlines())


def test_names_are_no_markup():
    """Brackets in names are printed as they are."""
    text = summary_text("run [bold]x", {**SUMMARY, "tenants": {"[red]t": {}}}, {})
    assert text.startswith("run [bold]x\n") and "  [red]t " in text


def test_of_many_groups_the_busiest_are_shown():
    """Twelve tenants, most requests first, and how many there are beside them."""
    tenants = {f"t{number}": {"requests": number} for number in range(30)}
    text = summary_text("run", {**SUMMARY, "tenants": tenants}, {})
    names = [line.split()[0] for line in text.splitlines() if line.startswith("  t") and line[3:4].isdigit()]
    assert names == [f"t{number}" for number in range(29, 17, -1)]
    assert "\n  and 18 more with fewer requests: --json tells all\n" in text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_folds_names_and_may_have_no_colours(monkeypatch):
    """On a narrow terminal a long name goes over several lines, whole; NO_COLOR is heeded."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[1m" in summary_text("test", SUMMARY, {})
    name = next(iter(SUMMARY["tenants"]))
    pieces = [line.split()[0] for line in summary_text("test", SUMMARY, {}).splitlines() if line.split()]
    assert name in "".join(pieces)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in summary_text("test", SUMMARY, {})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.00012345, "0.000123"),
        (1.0, "1.00"),
        (9.999, "10.0"),
        (99.99, "100"),
        (123_456.7, "123,457"),
    ],
)
def test_numbers_have_three_digits(value, text):
    """Enough digits to compare, no more."""
    assert number_text(value) == text


def test_units_suit_the_value():
    """Milliseconds below a second, MiB below a GiB."""
    assert (seconds_text(0.9994), seconds_text(1.0), seconds_text(None)) == ("999 ms", "1.00 s", "-")
    assert (bytes_text(2**20), bytes_text(3 * 2**29), ratio_text(0.5), ratio_text(None)) == (
        "1 MiB", "1.5 GiB", "50.0%", "-",
    )  # fmt: skip


def test_a_short_run_shows_no_bar(monkeypatch):
    """Nothing is written before a second has passed, and nothing at all where it is not wanted."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    for enabled in (True, False):
        with Progress(enabled=enabled) as progress:
            progress(1, 10, 0.5)
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("expected", [10, None])
def test_a_long_run_shows_how_far_it_is(monkeypatch, expected):
    """After a second the bar tells requests and simulated time, whether or not the total is known."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress_module, "PATIENCE_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress(enabled=True) as progress:
        progress(5, expected, 1234.0)
    shown = sys.stderr.getvalue()
    assert "5 requests, 1,234 s simulated" in shown
    assert ("50%" in shown) == (expected == 10)


def notes(summary, **provenance):
    """Return the lines below the numbers."""
    text = summary_text("test", {**SUMMARY, "backlog_growing": False, **summary}, {}, provenance=provenance)
    return [line for line in text.splitlines() if line.startswith(("note", "warning"))]


def test_each_pools_context_limit_is_told_where_they_differ():
    """One number for equal limits, one per pool for others, and only where a prompt was too long."""
    pools = [{"pool": "a", "context_limit_tokens": 33}, {"pool": "b", "context_limit_tokens": 4096}]
    (line,) = [line for line in notes({}, pools=pools) if "rejected" in line]
    assert line == (
        "warning: 7 requests rejected: prompt_too_long; the context limit in tokens is a 33, b 4,096"
    )
    (line,) = [line for line in notes({}, pools=[pools[1], {**pools[1], "pool": "c"}]) if "rejected" in line]
    assert line.endswith("prompt_too_long; the context limit is 4,096 tokens")
    assert "warning: 7 requests rejected: other" in notes(
        {"requests_rejected_by_reason": {"other": 7}}, pools=pools
    )


def test_objects_that_are_oracles_are_named_by_their_class():
    """A policy that was passed in has no name."""
    policies = {"router": {"class": "mine.Router", "parameters": {}}, "scheduler": {"name": "sjf"}}
    told = notes({}, oracle_policies=["router"], policies=policies)
    assert "note: oracle: router mine.Router sees true output lengths" in told


def test_a_late_first_arrival_is_a_warning():
    """Times since 1970 are not counted among the notes, but warned of."""
    told = notes({"workload": {"rows_read": 3, "first_arrival_s": 1.7e9}})
    assert told[0] == "note: workload: rows_read 3"
    assert told[1].startswith("warning: the first request arrives at 1,700,000,000 s, long after time 0")
