"""A request while it is in the system."""

from __future__ import annotations

from typing import Any


class Request:
    """What the kernel knows of a request; policies see it through `servesim.policies.api.RequestView`.

    A request that decodes holds ``context_offset + decode_step`` tokens of KV, where ``decode_step`` counts its
    replica's decode steps, and leaves the batch when that count reaches ``finish_step``: neither changes while it
    decodes, so a leap does not touch it.
    """

    __slots__ = (
        "arrival_s",
        "computed_tokens",  # of the prefill in progress that are in the KV cache
        "context_offset",
        "emitted_tokens",  # when it last joined or left the batch
        "finish_step",
        "first_token_s",
        "key",  # the scheduler's
        "model",
        "output_tokens",  # asked for by the workload
        "preemptions",
        "prefill_tokens",  # to compute before the next token: the prompt, and after a preemption what it had emitted
        "priority",
        "prompt_tokens",
        "request_id",
        "residue",  # its class in `leap.decode_blocks`
        "scheduled_s",
        "session",
        "target_tokens",  # output that it will emit: output_tokens, or fewer at the context limit
        "tenant",
    )

    context_offset: int
    finish_step: int
    residue: int
    encoder_tokens = 0
    reasoning_tokens = 0

    def __init__(
        self,
        request_id: int,
        arrival_s: float,
        prompt_tokens: int,
        output_tokens: int,
        model: str,
        tenant: str | None,
        priority: int,
        session: str | None,
    ) -> None:
        self.request_id = request_id
        self.arrival_s = arrival_s
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.model = model
        self.tenant = tenant
        self.priority = priority
        self.session = session
        self.target_tokens = output_tokens
        self.prefill_tokens = prompt_tokens
        self.computed_tokens = 0
        self.emitted_tokens = 0
        self.preemptions = 0
        self.scheduled_s: float | None = None
        self.first_token_s: float | None = None
        self.key = 0.0


class RichRequest(Request):
    """A request with parts that most workloads lack: images or audio in its prompt, reasoning before its answer."""

    __slots__ = (
        "encoder_tokens",  # of the prompt, to be encoded before its prefill
        "reasoning_tokens",  # of the output, from the first on, that the user does not see
        "visible_s",  # when the first token came that the user sees
    )

    def __init__(self, *plain: Any, encoder_tokens: int, reasoning_tokens: int) -> None:
        super().__init__(*plain)
        self.encoder_tokens = encoder_tokens
        self.reasoning_tokens = reasoning_tokens
        self.visible_s: float | None = None
