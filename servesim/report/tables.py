"""The numbers of a report: cards, comparisons side by side, and tables of groups, pools and replicas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from servesim.report.html import Content, Markup, folded, table, tag, unit_of, value, value_text
from servesim.results.readable import GROUP_TABLES
from servesim.results.schema import LATENCY_METRICS, STATISTICS, SUMMARY
from servesim.results.units import number_text

Summaries = Mapping[str, Mapping[str, Any]]
"""Label of a run to its summary."""

ROWS_MAX = 100
"""Groups or replicas that a table shows."""

_CARDS: tuple[tuple[str, str, str, str], ...] = (
    ("Requests completed", "requests_completed", "of", "requests_arrived"),
    ("Throughput", "requests_per_s", "over", "duration_s"),
    ("Output tokens", "output_tokens_per_s", "prompt", "prompt_tokens_per_s"),
    ("TTFT, median", "ttft_s_p50", "p99", "ttft_s_p99"),
    ("TPOT, median", "tpot_s_p50", "p99", "tpot_s_p99"),
    ("End-to-end, median", "e2e_s_p50", "p99", "e2e_s_p99"),
    ("SLO met", "slo_met_ratio", "goodput", "goodput_requests_per_s"),
    ("Utilization", "utilization_ratio", "GPU time", "gpu_hours"),
    ("KV cache, at most", "kv_used_ratio_max", "preemptions", "preemptions"),
    ("Cost", "cost_usd", "per 1M output tokens", "usd_per_million_output_tokens"),
)
"""Title, key of the number, and of the one that is told below it with its word."""

_GROUP_KEYS = (
    *("requests", "requests_completed"),
    *(f"{metric}_s_{quantile}" for metric in ("ttft", "tpot", "e2e") for quantile in ("p50", "p99")),
    "slo_met_ratio",
)
_REPLICA_KEYS = (
    *("requests_completed", "requests_unfinished", "preemptions", "output_tokens"),
    *("utilization_ratio", "kv_used_ratio_max"),
)
_LATENCIES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "end-to-end", "queue_s": "queue"}
_TITLES = {
    "duration_s": "duration",
    "requests_per_s": "throughput",
    "output_tokens_per_s": "output tokens",
    "slo_met_ratio": "SLO met",
    "goodput_requests_per_s": "goodput",
    "utilization_ratio": "utilization",
    "kv_used_ratio_max": "KV cache, at most",
    "gpu_hours": "GPU hours",
    "cost_usd": "cost",
    "usd_per_million_output_tokens": "cost per million output tokens",
}
_WORDS = {
    "slo_met_ratio": "SLO met",
    "utilization_ratio": "utilization",
    "kv_used_ratio_max": "KV cache max",
    "load_ratio": "load",
    "capacity_requests_per_s": "capacity",
}


def cards(summary: Mapping[str, Any]) -> Markup:
    """Return the headline numbers of a run as cards; what the run does not have is left out."""
    return tag(
        "div",
        *(
            tag(
                "div",
                tag("div", title, class_="label"),
                tag("div", value(summary, key), class_="big"),
                tag("div", f"{word} ", value(summary, below), class_="below"),
                class_="card",
            )
            for title, key, word, below in _CARDS
            if summary[key] is not None
        ),
        class_="cards",
    )


def latencies(summary: Mapping[str, Any]) -> Markup:
    """Return the table of latencies of a run."""
    rows: list[Sequence[Content]] = [
        (_title(metric.name), *(value(summary, f"{metric.name}_{s}") for s in STATISTICS))
        for metric in LATENCY_METRICS
    ]
    return table(["latency", *STATISTICS], rows)


def side_by_side(runs: Summaries) -> Markup:
    """Return the headline numbers of several runs in a table, with the differences to the first one."""
    keys = dict.fromkeys(
        ["requests_completed", "requests_rejected", "requests_unfinished", "preemptions", "duration_s"]
        + ["requests_per_s", "output_tokens_per_s"]
        + [f"{metric.name}_{statistic}" for metric in LATENCY_METRICS for statistic in STATISTICS]
        + ["slo_met_ratio", "goodput_requests_per_s", "utilization_ratio", "kv_used_ratio_max"]
        + ["gpu_hours", "cost_usd", "usd_per_million_output_tokens"]
    )
    first = next(iter(runs.values()))
    rows: list[Sequence[Content]] = [
        (
            _title(key),
            value(first, key),
            *(_with_difference(summary, first, key) for summary in list(runs.values())[1:]),
        )
        for key in keys
        if any(summary[key] is not None for summary in runs.values())
    ]
    return table(["", *runs], rows)


def _with_difference(summary: Mapping[str, Any], first: Mapping[str, Any], key: str) -> Markup:
    number, base = summary[key], first[key]
    shown = value(summary, key)
    if number is None or base is None or number == base:
        return shown
    sign = "+" if number > base else "\N{MINUS SIGN}"
    if unit_of(key) == "0-1":
        text = f"{sign}{abs(number - base) * 100:.1f} points"
    elif not base:
        text = f"{sign}{value_text(key, abs(number - base))}"
    elif 0.01 <= number / base < 10.0:
        text = f"{sign}{abs(number / base - 1.0):.1%}"
    else:
        text = f"\N{MULTIPLICATION SIGN} {number_text(number / base)}"
    return Markup(shown.html + tag("div", text, class_="difference").html)


def groups(runs: Summaries) -> Iterator[tuple[str, Markup]]:
    """Yield title and table of the classes, models and tenants, where runs have them: a row per group and run."""
    for title, key in GROUP_TABLES.items():
        found = {label: summary[key] for label, summary in runs.items() if summary[key]}
        if found:
            yield _plural(title), _group_table(title, found, several=len(runs) > 1)


def _group_table(title: str, found: Mapping[str, Mapping[str, Any]], *, several: bool) -> Markup:
    everyone = [group for groups in found.values() for group in groups.values()]
    keys = [key for key in _GROUP_KEYS if any(group.get(key) is not None for group in everyone)]
    names = sorted({name for groups in found.values() for name in groups}, key=_by_requests(found))
    rows: list[Sequence[Content]] = []
    for name in names[:ROWS_MAX]:
        for label, run in found.items():
            if name in run:
                who: list[Content] = [str(name), *([label] if several else [])]
                rows.append([*who, *(value(run[name], key) for key in keys)])
    head = [title, *(["run"] if several else []), *map(_words, keys)]
    shown = table(head, rows, kind="numbers named" if several else "numbers")
    return _with_rest(shown, len(names), _plural(title))


def _by_requests(found: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the order of groups: the largest first where not all are shown, else by name."""
    if max(map(len, found.values())) <= ROWS_MAX:
        return str
    return lambda name: (-sum(run[name].get("requests", 0) for run in found.values() if name in run), name)


def pools(runs: Summaries) -> Markup:
    """Return the table of pools, a row per pool and run."""
    return _parts(
        runs, "pools", "pool", ("replicas", *_REPLICA_KEYS, "load_ratio", "capacity_requests_per_s")
    )


def replicas(runs: Summaries) -> Markup:
    """Return the table of replicas, a row per replica and run."""
    return _parts(runs, "replicas", "replica", _REPLICA_KEYS)


def _parts(runs: Summaries, key: str, title: str, keys: Sequence[str]) -> Markup:
    several = len(runs) > 1
    rows: list[Sequence[Content]] = []
    for label, summary in runs.items():
        for part in summary[key][: ROWS_MAX // len(runs)]:
            who = [str(part[title]), *([label] if several else [])]
            who += [part["pool"]] if title != "pool" else []
            rows.append([*who, *(value(part, name) for name in keys)])
    head = [title, *(["run"] if several else []), *(["pool"] if title != "pool" else []), *map(_words, keys)]
    shown = table(head, rows, kind="numbers named" if several or title != "pool" else "numbers")
    return _with_rest(shown, sum(len(summary[key]) for summary in runs.values()), f"{title}s")


def _with_rest(shown: Markup, count: int, what: str) -> Markup:
    if count <= ROWS_MAX:
        return shown
    rest = tag("p", f"{ROWS_MAX} of {count:,} {what}; summary.json has all of them.", class_="note")
    return Markup(shown.html + rest.html)


def every_number(runs: Summaries) -> Markup:
    """Return all numbers of the summaries at full precision, with their meaning, folded."""
    rows: list[Sequence[Content]] = []
    for key in SUMMARY:
        found = [summary[key.name] for summary in runs.values()]
        if all(number is None or isinstance(number, int | float) for number in found):
            exact = [
                tag("span", "\N{EN DASH}")
                if number is None
                else tag("data", repr(number), value=repr(number))
                for number in found
            ]
            rows.append([key.name, *exact, key.unit, key.description])
    return folded(
        "Every number of summary.json", table(["key", *runs, "unit", "meaning"], rows, kind="numbers exact")
    )


def _title(key: str) -> str:
    """Return what a key of the summary is called at the head of a row."""
    for metric in LATENCY_METRICS:
        if key.startswith(metric.name):
            return f"{_LATENCIES[metric.name]} {key.removeprefix(metric.name).lstrip('_')}".strip()
    return _TITLES.get(key) or key.replace("_", " ")


def _words(key: str) -> str:
    if key in _WORDS:
        return _WORDS[key]
    return key.replace("_s_p", " p").removeprefix("requests_").replace("_", " ")


def _plural(title: str) -> str:
    return "classes" if title == "class" else f"{title}s"
