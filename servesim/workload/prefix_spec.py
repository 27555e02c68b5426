"""The ``prefixes:`` block of a workload: which parts its prompts share.

What is made of it is in `servesim.workload.shared_prefixes`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from servesim.workload.schema import TOKENS_MAX

_Tokens = Annotated[int, Field(ge=1, le=TOKENS_MAX)]


class SharedPartSpec(BaseModel):
    """A pool of texts that prompts begin with. The i-th most popular one is taken in proportion to i^-zipf."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    count: int = Field(ge=1, le=10_000_000, description="Different texts.")
    zipf: float = Field(default=1.0, ge=0, le=10, description="Exponent of their popularity; 0: all alike.")
    tokens_mean: float = Field(ge=1, le=TOKENS_MAX, description="Mean length; lengths are log-normal.")
    tokens_sigma: float = Field(
        default=0.0, ge=0, le=10, description="Standard deviation of the logarithm of the length."
    )


class ChunksSpec(SharedPartSpec):
    """Chunks that a retriever puts behind the system prompt. The i-th most popular one is drawn as often as i^-zipf."""

    per_request: int = Field(
        ge=1, le=1000, description="Chunks drawn for a request; one that is drawn again is there once."
    )
    order: Literal["drawn", "ranked"] = Field(
        default="drawn",
        description="drawn: in any order, as by relevance, so that prompts with the same chunks seldom share more than "
        "the first. ranked: the most popular first, so that they share more.",
    )


class PrefixSpec(BaseModel):
    """Prompts that share prefixes: a system prompt, retrieved chunks and the history of a session, in this order.

    Requests get block ids (``prefix_blocks``); a source's own are replaced. Lengths stay as they are: the parts take
    up a prompt from its beginning as far as it goes, and what is left is the request's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    block_tokens: _Tokens = Field(default=16, description="Tokens per block; whole blocks only have an id.")
    system_prompts: SharedPartSpec | None = Field(
        default=None, description="A pool of system prompts; all requests of a session have the same."
    )
    chunks: ChunksSpec | None = Field(
        default=None, description="A store of chunks; every request has its own."
    )
    history: bool = Field(
        default=False,
        description="Whether a session's prompt goes on with what its previous one had, where it is longer than that "
        "one and its output together. A shorter prompt has a new beginning behind the system prompt.",
    )
    shared_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the sessions, or of the requests without one, that have these parts; the others' "
        "prompts are all their own.",
    )
    hit_ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of blocks that an unlimited prefix cache has; shared_ratio is set so that the first 65,536 "
        "requests (or 4 million blocks) have it.",
    )

    @model_validator(mode="after")
    def _shares_something(self) -> Self:
        if self.system_prompts is None and self.chunks is None and not self.history:
            raise ValueError("nothing to share (got none). expected system_prompts, chunks or history")
        if (
            self.hit_ratio is not None
            and "shared_ratio" in self.model_fields_set
            and self.shared_ratio != 1.0
        ):
            raise ValueError(
                f"both hit_ratio and shared_ratio (got {self.hit_ratio!r} and {self.shared_ratio!r}). expected one"
            )
        return self
