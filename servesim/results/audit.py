"""Audits of a run: what the rows add up to must agree with what the replicas counted by themselves.

Conservation of requests, tokens and KV blocks; Little's law in its exact form, the integral of the number of
requests in a place equals the sum of the times they spend there (J. D. C. Little, "A proof for the queuing
formula L = lambda W", Operations Research 9(3), 1961, and its finite-horizon accounting identity);
utilisation; causality. The integrals are what the replicas counted as requests came and went; the sums are
made of the arrivals, outcomes and events in the rows. Every rule holds for every run, interrupted ones too,
so a finding is always a bug in servesim or in a plugin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from servesim.cluster.records import ClusterAccount, ReplicaAccount
from servesim.errors import InvariantError
from servesim.results.totals import RunTotals, Sojourns

RELATIVE_TOLERANCE = 1e-9
"""Two sums of n equal times in another order differ by about 1e-16 * sqrt(n): far less."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule.

    Attributes
    ----------
    rule
        What must hold.
    where
        ``"cluster"``, ``"replica 3"`` or the rows at fault.
    got, expected
        The two sides that disagree.
    """

    rule: str
    where: str
    got: float | str
    expected: float | str

    def __str__(self) -> str:
        return f"{self.where}: {self.rule} (got {self.got!r}). expected {self.expected!r}"


def audit(account: ClusterAccount, totals: RunTotals) -> list[Finding]:
    """Return every rule that the run broke: an empty list for a run that adds up.

    Parameters
    ----------
    account
        What the cluster and its replicas counted while they ran.
    totals
        What the rows that they wrote add up to.
    """
    sojourns = totals.sojourns(account.end_s, len(account.replicas))
    findings = [*_rows(account, totals), *_cluster(account, totals, sojourns)]
    for replica in account.replicas:
        findings += _requests(replica, totals)
        findings += _tokens(replica, totals)
        findings += _blocks(replica)
        findings += _times(replica, account.end_s, totals, sojourns)
    return findings


def raise_findings(findings: Sequence[Finding]) -> None:
    """Raise an `InvariantError` that lists all *findings*, if there are any."""
    if findings:
        lines = "".join(f"\n  - {finding}" for finding in findings)
        raise InvariantError(
            f"results: {len(findings)} audit findings:{lines}",
            hint="this is a bug in servesim or in a plugin, not in the scenario: please report the command",
        )


def _rows(account: ClusterAccount, totals: RunTotals) -> Iterator[Finding]:
    """Check what single rows broke, and that none lies beyond the end or names an unknown replica."""
    for rule, (count, first) in totals.broken.items():
        yield Finding(rule, first, f"{count} rows", "0 rows")
    if totals.last_event_s > account.end_s:
        yield Finding(
            "nothing happens after the end of the run", "cluster", totals.last_event_s, account.end_s
        )
    known = max((total.replicas() for total in totals.sums.values()), default=0)
    if known > len(account.replicas):
        yield Finding("rows name replicas that exist", "cluster", known, len(account.replicas))


def _cluster(account: ClusterAccount, totals: RunTotals, sojourns: Sojourns) -> Iterator[Finding]:
    """Check the requests of the cluster, and Little's law over all of them.

    The integral is the sum of the replicas' own. The sojourns, from arrival to finish or the end of the run,
    are those of every accepted request in the rows: of one that reached no replica too, which the rules of
    the replicas do not see.
    """
    sums = totals.sums
    left = sum(sums[name].total() for name in ("completed", "rejected", "unfinished"))
    yield from _equal(
        "requests arrived = completed + rejected + unfinished", "cluster", left, account.arrived
    )
    yield from _close(
        "integral of the requests in the system = sum of their sojourns",
        "cluster",
        sojourns.front_end_s.total() + sojourns.replica_s.total(),
        account.system_area_s,
        slack_s=_rounding_s(account.end_s, account.arrived),
    )


def _requests(replica: ReplicaAccount, totals: RunTotals) -> Iterator[Finding]:
    sums, index, where = totals.sums, replica.replica, f"replica {replica.replica}"
    out = sums["preempted"][index]
    waiting = sums["never_scheduled"][index] + out - sums["readmitted"][index]
    unfinished = sums["unfinished"][index]
    for rule, got, expected in (
        ("completed requests", sums["completed"][index], replica.completed),
        ("rejected requests", sums["rejected"][index], replica.rejected),
        ("events of rejection", sums["refused"][index], replica.rejected),
        (
            "unfinished requests = in the front end + in the queue + in the batch",
            unfinished,
            replica.front_end_requests + replica.waiting + replica.running,
        ),
        ("requests never scheduled or preempted and not readmitted = in the queue", waiting, replica.waiting),
        (
            "accepted requests = completed + unfinished",
            sums["completed"][index] + unfinished - replica.front_end_requests,
            replica.enqueued,
        ),
        ("preemptions of its requests", sums["request_preemptions"][index], replica.preemptions),
        ("events of preemption", out, replica.preemptions),
    ):
        yield from _equal(rule, where, got, expected)


def _tokens(replica: ReplicaAccount, totals: RunTotals) -> Iterator[Finding]:
    """Check tokens: a replica emits all tokens of its requests, in decode steps and at ends of prefills."""
    sums, index, where = totals.sums, replica.replica, f"replica {replica.replica}"
    expanded = sums["decoded_tokens"][index] + sums["first_tokens"][index] + sums["resumed"][index]
    yield from _equal(
        "tokens emitted for its requests = counted",
        where,
        sums["output_tokens"][index],
        replica.output_tokens,
    )
    if sums["speculative_requests"][index]:
        yield from _equal(
            "sequences of all decode steps = decode steps of its requests",
            where,
            sums["decoded_tokens"][index],
            sums["own_decode_steps"][index],
        )
    else:
        yield from _equal(
            "decoded + first + resumed tokens = tokens counted", where, expanded, replica.output_tokens
        )
    prompts, prefilled = sums["prompt_tokens"][index], sums["prefill_tokens"][index]
    if replica.preemptions == 0 and replica.waiting + replica.running == 0:
        yield from _equal("prefilled tokens = prompts of its requests", where, prefilled, prompts)
    elif prefilled < prompts:  # recomputed and unfinished prompts come on top
        yield Finding("prefilled tokens >= prompts that have a first token", where, prefilled, prompts)


def _blocks(replica: ReplicaAccount) -> Iterator[Finding]:
    where = f"replica {replica.replica}"
    if replica.running == 0:
        yield from _equal("KV blocks taken when its batch is empty", where, replica.kv_blocks_used, 0)
    counts = (replica.kv_blocks_used, replica.kv_blocks_used_max, replica.kv_blocks)
    if not 0 <= counts[0] <= counts[1] <= counts[2]:
        yield Finding(
            "KV blocks taken at the end, at most, and there are", where, f"{counts}", "ascending counts"
        )


def _times(replica: ReplicaAccount, end_s: float, totals: RunTotals, sojourns: Sojourns) -> Iterator[Finding]:
    index, where = replica.replica, f"replica {replica.replica}"
    visits = replica.enqueued + replica.preemptions + replica.rejected + replica.front_end_requests
    for place, got, area_s in (
        ("front end", sojourns.front_end_s[index], replica.front_end_area_s),
        ("queue", sojourns.queue_s[index], replica.queue_area_s),
        ("batch", sojourns.batch_s[index], replica.batch_area_s),
        ("replica", sojourns.replica_s[index], replica.queue_area_s + replica.batch_area_s),
    ):
        rule = f"integral of the requests in the {place} = sum of the times they spend there"
        yield from _close(rule, where, got, area_s, slack_s=_rounding_s(end_s, visits))
    yield from _equal("steps of its segments = counted", where, totals.sums["steps"][index], replica.steps)
    slack_s = _rounding_s(end_s, totals.sums["segments"][index])
    yield from _close(
        "segments take its busy time", where, totals.sums["busy_s"][index], replica.busy_s, slack_s=slack_s
    )
    if replica.busy_s > end_s + slack_s:
        yield Finding("busy time <= duration of the run", where, replica.busy_s, end_s)


def _rounding_s(end_s: float, stamps: float) -> float:
    """Return what the rounding of time stamps may add up to: each is off by at most half an ulp.

    It matters where the times themselves are that short, such as a run interrupted just after its first
    arrival.
    """
    return 4.0 * math.ulp(end_s) * (stamps + 1.0)


def _equal(rule: str, where: str, got: float, expected: float) -> Iterator[Finding]:
    if got != expected:
        yield Finding(rule, where, int(got), int(expected))


def _close(rule: str, where: str, got: float, expected: float, *, slack_s: float) -> Iterator[Finding]:
    if not math.isclose(got, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=slack_s):
        yield Finding(rule, where, got, expected)
