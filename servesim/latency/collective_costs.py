"""What GPUs exchange in a step, from operator tables: sums, gathers and scatters, or DeepEP's exchange of tokens.

Sums within a group take what the engine's own all-reduce was measured to take, or NCCL's where the tables lack that.
The experts of several data-parallel groups get the tokens of all: NCCL gathers them and scatters the sums, or DeepEP
sends each token to the GPUs of its experts and back. Where nothing was measured, a fitted sum stands in.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log2
from typing import Literal

from servesim.errors import ScenarioError
from servesim.latency import efficiency
from servesim.latency.api import LatencyContext
from servesim.latency.coefficients import KernelCoefficients
from servesim.latency.operators import AllReduces, operators
from servesim.profiles import Grid
from servesim.profiles.aiconfigurator import OperatorTables
from servesim.profiles.grid import total

TOKENS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768]
"""Where the fitted function is evaluated that stands in for what was not measured."""

Exchange = Literal["allgather_reducescatter", "deepep_high_throughput", "deepep_low_latency"]
"""How the tokens of data-parallel groups reach their experts, as vLLM's ``--all2all-backend`` names it."""

DEEPEP = {"deepep_high_throughput": "deepep_ht", "deepep_low_latency": "deepep_ll"}
"""The tables' name of each of DeepEP's two kernels."""

Rows = list[tuple[float, ...]]


def collectives(
    tables: OperatorTables, context: LatencyContext, exchange: Exchange
) -> tuple[Grid | None, list[str]]:
    """Return the time in s of a step's exchanges by tokens of a group, and what of it is fitted.

    Raises
    ------
    ServesimError
        If *exchange* is DeepEP's, and the replica has no use for it or the tables lack it.
    """
    costs = _Collectives(tables, context)
    sums = operators(context.model, context.parallelism).all_reduces
    if exchange in DEEPEP and not (context.expert_parallel and any(each.groups > 1 for each in sums)):
        raise ScenarioError(
            f"all2all_backend: nothing to exchange (got {exchange}). expected it with expert_parallel, "
            "data_parallel above 1 and a model with experts"
        )
    grids = [costs.of(each, exchange) for each in sums]
    return (total(grids) if grids else None), costs.fitted


class _Collectives:
    """The exchanges of one replica."""

    def __init__(self, tables: OperatorTables, context: LatencyContext) -> None:
        self._tables, self._context = tables, context
        self._coefficients = KernelCoefficients(gpu=context.gpu).all_reduce()
        self.fitted: list[str] = []

    def of(self, sums: AllReduces, exchange: Exchange) -> Grid:
        """Return the time of *sums* by tokens of a group."""
        if sums.groups == 1:
            return self._moved(sums, self._tables.all_reduce() or self._tables.collective("all_reduce"))
        if exchange in DEEPEP:
            return total([self._sent(sums, exchange, phase) for phase in ("dispatch", "combine")])
        gathers, scatters = (self._tables.collective(name) for name in ("all_gather", "reduce_scatter"))
        if not gathers or not scatters:
            # A gather and a scatter move what a sum does.
            return self._moved(sums, self._tables.all_reduce() or self._tables.collective("all_reduce"))
        return total([self._moved(sums, gathers), self._moved(sums, scatters)])

    def _moved(self, sums: AllReduces, rows: Rows) -> Grid:
        """Return the time of messages as in *rows* of ranks, bytes and s, at the nearest number of GPUs."""
        if not rows:
            self.fitted.append("all-reduces")
            return _curve((m, sums.count * self._fitted_s(m * sums.token_bytes, sums.ranks)) for m in TOKENS)
        gpus = min({row[0] for row in rows}, key=lambda ranks: (abs(log2(ranks / sums.ranks)), ranks))
        return _curve(
            (
                size / sums.token_bytes,
                sums.count * seconds * self._fitted_s(size, sums.ranks) / self._fitted_s(size, gpus),
            )
            for ranks, size, seconds in rows
            if ranks == gpus
        )

    def _fitted_s(self, message_bytes: float, gpus: float) -> float:
        link = self._context.gpu.link.bandwidth_bytes_per_s
        return float(efficiency.all_reduce_s(self._coefficients, link, message_bytes, int(gpus)))

    def _sent(self, sums: AllReduces, exchange: Exchange, phase: str) -> Grid:
        """Return the time of a phase of DeepEP's exchange, at the nearest shape, by what a GPU sends."""
        model = self._context.model
        assert model.moe is not None
        rows = self._tables.exchange(DEEPEP[exchange], phase)
        ranks = sorted({int(row[0]) for row in rows})
        if sums.ranks not in ranks:
            raise ScenarioError(
                f"{self._tables.folder}: no {exchange} of {sums.ranks} GPUs "
                f"(got {', '.join(map(str, ranks)) or 'none'}). expected it for all2all_backend"
            )
        wanted = (model.hidden_size, model.moe.experts_per_token, model.moe.experts)
        shape = min(
            {row[1:4] for row in rows if row[0] == sums.ranks},
            key=lambda known: (sum(abs(log2(a / b)) for a, b in zip(known, wanted, strict=True)), known),
        )
        # A token is sent once to each of its experts; a GPU has an even share of its group's tokens.
        sent = shape[0] * shape[1] / (wanted[0] * wanted[1]) * sums.ranks / sums.groups
        return _curve(
            (row[4] * sent, sums.count * row[5])
            for row in rows
            if (row[0], *row[1:4]) == (sums.ranks, *shape)
        )


def _curve(points: Iterable[tuple[float, float]]) -> Grid:
    known = sorted(points)
    return Grid({"tokens": [at for at, _ in known]}, [seconds for _, seconds in known])
