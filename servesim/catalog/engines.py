"""Inference engines by version: their defaults and host costs, each with its source (``engines.toml``)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from servesim.errors import ScenarioError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCosts:
    """What the host takes for a step, besides the GPU.

    Attributes
    ----------
    launch_s, launch_per_sequence_s
        Of every step, and of every sequence in it: inputs are prepared, kernels started, tokens copied back. The GPU
        waits meanwhile.
    schedule_s, schedule_per_sequence_s
        The rest: the next batch is put together, tokens are detokenized and sent. With asynchronous scheduling the
        GPU computes meanwhile.
    eager_kernel_s
        Of every kernel of a step with more tokens than the largest CUDA graph, but for those of experts. The GPU works
        on them meanwhile, but is not done before the last one was started.
    eager_experts_s
        Of the routed experts of a layer in such a step: their choice, sorting, multiplications and sum, which engines
        start from Python.
    """

    launch_s: float = 0.0
    launch_per_sequence_s: float = 0.0
    schedule_s: float = 0.0
    schedule_per_sequence_s: float = 0.0
    eager_kernel_s: float = 0.0
    eager_experts_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEndCosts:
    """What stands before and behind an engine: the process that speaks HTTP, tokenizes and streams.

    Attributes
    ----------
    workers
        Requests that are worked on at once.
    request_s, prompt_token_s
        Time of a worker for each request, and for each token of its prompt, before the engine sees it.
    stream_s
        How long a token takes from the engine to the client.
    """

    workers: int = 1
    request_s: float = 0.0
    prompt_token_s: float = 0.0
    stream_s: float = 0.0

    @property
    def takes_time(self) -> bool:
        """Whether it takes any; a front end that takes none is not simulated."""
        return self.request_s > 0.0 or self.prompt_token_s > 0.0 or self.stream_s > 0.0


NO_FRONT_END = FrontEndCosts()
"""A front end that takes no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineVersion:
    """One version of an inference engine.

    Attributes
    ----------
    name
        Catalog name.
    async_scheduling
        Whether the host prepares the next step while the GPU computes this one, by default.
    graph_tokens_max
        Most tokens of a step that is captured in a CUDA graph: such steps are padded to a captured size.
    prompt_graphs
        Whether steps that hold prompts are captured, too, or those of decodes alone.
    host
        What its host takes for a step.
    front_end
        What stands before and behind it.
    source
        Where the numbers come from.
    """

    name: str
    async_scheduling: bool
    graph_tokens_max: int
    prompt_graphs: bool
    host: HostCosts
    front_end: FrontEndCosts
    source: str


def engine_version(name: str) -> EngineVersion:
    """Return the engine version called *name*.

    Raises
    ------
    ScenarioError
        If the catalog has no such version.

    Examples
    --------
    >>> engine_version("vllm-0.19").async_scheduling
    True
    """
    entries = _entries()
    if name not in entries:
        raise ScenarioError(
            f"engine version: not in the catalog (got {name!r}). expected one of {', '.join(entries)}.",
            hint=nearest(name, entries),
        )
    return entries[name]


def engine_versions() -> list[str]:
    """Return the names of all engine versions in the catalog, in its order."""
    return list(_entries())


@cache
def _entries() -> dict[str, EngineVersion]:
    data = tomllib.loads((files(__package__) / "engines.toml").read_text(encoding="utf-8"))
    return {
        name: EngineVersion(
            name=name,
            host=HostCosts(**{key: entry.pop(key) for key in HostCosts.__slots__}),
            front_end=FrontEndCosts(**entry.pop("front_end")),
            **entry,
        )
        for name, entry in data.items()
    }
