"""The ``workload:`` block of a scenario: where requests come from, and what is done to them.

Only the shape of the block is here. `servesim.workload.build` makes the stream of requests from it; the
parameters beside a reader's or generator's name are checked against its class
(`servesim.workload.registries`).
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from servesim.registry import ComponentSpec
from servesim.workload.prefix_spec import PrefixSpec
from servesim.workload.schema import PRIORITY_MAX, PRIORITY_MIN, TOKENS_MAX

Tokens = Annotated[int, Field(ge=1, le=TOKENS_MAX)]


class SourceSpec(BaseModel):
    """A recorded trace: the reader of its format, and the reader's parameters beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    reader: str = Field(
        description="Name of the trace format's reader: azure, burstgpt, mooncake, table, ..."
    )

    @property
    def parameters(self) -> dict[str, Any]:
        """What stands beside the reader's name."""
        return dict(self.model_extra or {})


class WindowSpec(BaseModel):
    """A stretch of a trace: arrivals in [start_s, end_s), counted from the trace's first arrival."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    start_s: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Begin of the window; it becomes time 0."
    )
    end_s: float = Field(
        gt=0, allow_inf_nan=False, description="End of the window; an arrival at this time is out."
    )

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.end_s <= self.start_s:
            raise ValueError(
                f"an empty window (got end_s {self.end_s!r}). expected more than start_s {self.start_s!r}"
            )
        return self


class LengthTransform(BaseModel):
    """What is done to a length: multiplied and rounded, then clipped. The result is at least 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    scale: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="Factor; the product is rounded."
    )
    min: Tokens | None = Field(default=None, description="Shorter lengths become this many tokens.")
    max: Tokens | None = Field(default=None, description="Longer lengths become this many tokens.")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min above max (got {self.min!r} and {self.max!r}). expected min <= max")
        return self


class ResampleSpec(BaseModel):
    """How the run's seed draws another sample of the same requests: blocks of time, thinning, or both.

    With neither, the seeds of an experiment differ only in the random choices of policies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    block_s: float | None = Field(
        default=None,
        ge=0.1,
        allow_inf_nan=False,
        description="Block bootstrap over time: the trace is put together anew from stretches of this many "
        "seconds, drawn with replacement. A request that is drawn again is another one: of another session, with other "
        "prefix blocks. Only for a source: a generator draws anew for each seed.",
    )
    thin_ratio: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Thinning: keep each request with this probability. The rate falls with it.",
    )

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.block_s is None and self.thin_ratio is None:
            raise ValueError("nothing to draw (got neither). expected block_s, thin_ratio or both")
        return self


class TransformSpec(BaseModel):
    """What is done to a stream of requests.

    The order is fixed: ``prompt_tokens`` and ``output_tokens``, ``window``, ``resample``, ``repeat``, ``rate_scale``,
    ``model_map``, the tags, ``max_requests``, ``prefixes``. Where requests wait for others of
    their session (follow-ups), a session counts by the arrival of its first request: ``window`` and ``resample``
    take it whole or leave it out, ``rate_scale`` moves its beginning and leaves its think times as they are.
    ``max_requests`` can cut the end of a session off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    window: WindowSpec | None = Field(
        default=None,
        description="Keep only this stretch of time, in the source's own time (before rate_scale).",
    )
    resample: ResampleSpec | None = Field(
        default=None,
        description="Draw another sample of the requests, from the run's seed; null: as they are.",
    )
    prompt_tokens: LengthTransform | None = Field(
        default=None,
        description="Scale, then clip prompt lengths. In a session, a prompt at least as long as the previous one and "
        "its output together begins with them: its new text is scaled, and the history is as it has become. Prefix "
        "blocks go with the prompts.",
    )
    output_tokens: LengthTransform | None = Field(
        default=None,
        description="Scale, then clip output lengths; later prompts of the session have them so. Where those have "
        "prefix blocks, only the scale of the prompts will do.",
    )
    repeat: int = Field(
        default=1,
        ge=1,
        description="Play the stream this many times, end to end: a repetition starts where the window or "
        "the generator's duration ends, or else one mean gap after the last arrival. Each time has sessions and "
        "prefix blocks of its own: a#0, a#1 and so on.",
    )
    rate_scale: float = Field(
        default=1.0,
        ge=1e-6,  # beyond these bounds times are too long, or gaps too short, for the clock to resolve
        le=1e6,
        allow_inf_nan=False,
        description="Factor of the request rate, 1e-6 to 1e6: every arrival time is divided by it, so that "
        "bursts keep their shape. Think times stay.",
    )
    model_map: dict[str, str] | None = Field(
        default=None,
        description="Model tag of the source to name of the model that serves it; other tags stay.",
    )
    model: str | None = Field(default=None, description="Model of every request, whatever the source says.")
    tenant: str | None = Field(default=None, description="Tenant of every request.")
    slo_class: str | None = Field(default=None, description="SLO class of every request.")
    priority: int | None = Field(
        default=None,
        ge=PRIORITY_MIN,
        le=PRIORITY_MAX,
        description="Priority of every request; lower is served first.",
    )
    max_requests: int | None = Field(default=None, ge=1, description="Stop after this many requests.")
    prefixes: PrefixSpec | None = Field(
        default=None,
        description="Which parts the prompts share; null: the source's own block ids, if it has some.",
    )


class OriginSpec(BaseModel):
    """Where a single stream of requests comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source: SourceSpec | None = Field(default=None, description="A recorded trace.")
    generator: ComponentSpec | None = Field(default=None, description="Requests made from random numbers.")
    closed_loop: bool = Field(
        default=False,
        description="Only for a source that has sessions. False: requests arrive when the trace says. True: each "
        "request of a session but the first waits for the one before it, and arrives as long after its end in the "
        "simulation as it did after its end in the trace (or after its arrival, where the trace has no ends).",
    )


class MixSpec(TransformSpec, OriginSpec):
    """One of several sources that are merged, with transforms and tags of its own."""

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        _check_one_of(source=self.source, generator=self.generator)
        _check_source_only(self, self.source)
        return self


class WorkloadSpec(TransformSpec, OriginSpec):
    """Where requests come from: exactly one of ``source``, ``generator`` and ``sources``.

    With ``sources``, each one's transforms are applied first, then the streams are merged in order of arrival
    (ties in the order of the list), then the transforms that stand beside ``sources`` are applied to the
    whole. Sources share no sessions and no prefix blocks: names of sessions get the number of their source in front.
    """

    sources: list[MixSpec] | None = Field(default=None, min_length=1, description="Several of them, merged.")
    max_concurrency: int | None = Field(
        default=None,
        ge=1,
        description="Most requests in the system at once, as of a benchmark's clients: the next one, in order of "
        "the times at which they are due, arrives when it is due and there is a place. null: no limit.",
    )

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        _check_one_of(source=self.source, generator=self.generator, sources=self.sources)
        _check_source_only(self, self.source)
        return self


def _check_one_of(**origins: object) -> None:
    given = [name for name, origin in origins.items() if origin is not None]
    if len(given) != 1:
        raise ValueError(
            f"expected exactly one of {', '.join(origins)}, the others null "
            f"(got {' and '.join(given) or 'none'})"
        )


def _check_source_only(spec: MixSpec | WorkloadSpec, source: SourceSpec | None) -> None:
    if spec.closed_loop and source is None:
        raise ValueError(
            "closed_loop: no trace to take think times from (got true). expected it beside a source"
        )
    if spec.resample is not None and spec.resample.block_s is not None and source is None:
        raise ValueError(
            f"resample.block_s: no single trace to draw from (got {spec.resample.block_s!r}). "
            "expected it beside a source"
        )
