"""What a latency model is: the time of a batch's next engine steps, in a form that a replica can leap over.

A model answers for a batch with ``(first_step_s, growth_s, valid_steps)``: the first step takes
``first_step_s``, each following one ``growth_s`` more, for at most ``valid_steps`` steps, as long as the
batch keeps its composition. That is exact for every cost that is linear in the attended context; a model
with knots (a table, a sliding window) returns how many steps remain until the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from servesim.catalog import Gpu, HostCosts, ModelArchitecture, Parallelism
from servesim.catalog.speculative import Speculation

UNLIMITED_STEPS = 1 << 60
"""``valid_steps`` of a price that holds for as long as the batch keeps its composition."""


NO_HOST = HostCosts()
"""A host that takes no time."""


class BatchShape:
    """What one engine step works on. A replica owns one and updates it in place; models only read it.

    Attributes
    ----------
    sequences : int
        Sequences that decode one token in this step.
    context_tokens : float
        Tokens that those sequences attend to in this step, summed: each one's KV length plus the token it
        writes. A whole number but for a part of a larger batch. Every following step attends ``sequences`` tokens more.
    chunks : list of (tokens, start)
        Prompt chunks of this step: how many tokens are computed, and how many of the same sequence are
        already in the KV cache. If the step repeats, each ``start`` grows by its ``tokens``.
    """

    __slots__ = ("chunks", "context_tokens", "sequences")

    def __init__(
        self, sequences: int = 0, context_tokens: float = 0, chunks: list[tuple[int, int]] | None = None
    ) -> None:
        self.sequences = sequences
        self.context_tokens = context_tokens
        self.chunks: list[tuple[int, int]] = [] if chunks is None else chunks

    def __repr__(self) -> str:
        return f"BatchShape({self.sequences}, {self.context_tokens}, {self.chunks})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyContext:
    """The replica that a latency model prices: set once, before the run.

    Attributes
    ----------
    model, gpu
        Catalog entries.
    tensor_parallel
        GPUs that one replica's matrices are split over.
    data_parallel, pipeline_parallel, expert_parallel
        The other degrees; `servesim.catalog.Parallelism` tells what they mean. Batches are those of the whole
        replica.
    max_num_seqs, max_num_batched_tokens
        Largest batch and token budget of a step.
    async_scheduling
        Whether the host prepares the next step while the GPU computes this one.
    graph_tokens_max
        Most tokens of a step that runs as a CUDA graph, and so is padded to a captured size; 0: none does.
    prompt_graphs
        Whether steps that hold prompts run as one, too.
    moe_backend
        Kernels of routed experts: ``auto`` or ``marlin``.
    host
        What the engine's host takes for a step.
    speculation
        How the engine drafts tokens, or None.
    """

    model: ModelArchitecture
    gpu: Gpu
    tensor_parallel: int
    max_num_seqs: int
    max_num_batched_tokens: int
    async_scheduling: bool
    data_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: bool = False
    graph_tokens_max: int = 0
    prompt_graphs: bool = True
    moe_backend: str = "auto"
    host: HostCosts = NO_HOST
    speculation: Speculation | None = None

    @property
    def expert_kernels(self) -> str:
        """Number format whose kernels multiply the routed experts: Marlin unpacks mxfp4 as it does int4."""
        dtype = self.model.expert_dtype
        return "int4" if self.moe_backend == "marlin" and dtype == "mxfp4" else dtype

    @property
    def step_tokens(self) -> int:
        """Tokens that a step computes for every decoding sequence."""
        return 1 if self.speculation is None else self.speculation.step_tokens

    @property
    def parallelism(self) -> Parallelism:
        """All degrees together."""
        return Parallelism(
            tensor=self.tensor_parallel,
            data=self.data_parallel,
            pipeline=self.pipeline_parallel,
            expert=self.expert_parallel,
        )


class LatencyModel(Protocol):
    """Price of engine steps. One object serves all replicas of a pool and keeps no state between calls.

    A model whose prices hold the host of ``LatencyContext.host`` has the attribute ``has_host``, which is true: its
    replicas are those of the engine's version, with the front end of that. Others give the whole of a step, and there
    is nothing around it but what the scenario says.
    """

    def reset(self, context: LatencyContext) -> None:
        """Prepare for pricing the replica that *context* describes."""

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return ``(first_step_s, growth_s, valid_steps)`` of *batch*; see the module's docstring.

        ``first_step_s`` is strictly positive (zero would stall the clock), ``growth_s`` is not negative and
        ``valid_steps`` is at least 1. The batch holds at least one decoding sequence or one chunk.
        """
