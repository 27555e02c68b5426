"""The settings of a replica's engine, with everything computed that a scenario leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from servesim.catalog.speculative import Speculation


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Resolved settings; the names are those of the scenario's ``engine`` block.

    Attributes
    ----------
    kv_blocks
        KV-cache blocks of one replica.
    watermark_blocks
        Blocks that the admission of a request must leave free while others run.
    context_limit
        Most tokens of prompt and output together: the model length or one more than the KV cache holds (the last
        token is never written), whichever is less. A longer prompt is rejected, an output is cut there.
    async_scheduling
        Whether the next step is scheduled while one is in flight: it is then without what arrived since.
    step_noise_cv
        Coefficient of variation of the factor on the times of each segment of steps; 0: none.
    speculative
        How it drafts tokens, or None.
    encoder_s_per_token
        What each token of an image or of audio adds to the step that begins with its prompt.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    kv_block_tokens: int
    kv_blocks: int
    context_limit: int
    encoder_s_per_token: float = 0.0
    watermark_blocks: int = 0
    chunked_prefill: bool = True
    prefill_only_steps: bool = False
    leap: bool = True
    async_scheduling: bool = False
    step_noise_cv: float = 0.0
    speculative: Speculation | None = None

    @property
    def step_tokens(self) -> int:
        """Tokens that a step computes for every decoding sequence."""
        return 1 if self.speculative is None else self.speculative.step_tokens

    @property
    def slot_tokens(self) -> int:
        """Slots of the KV cache that a step needs beyond the context of every decoding sequence."""
        return 1 if self.speculative is None else self.speculative.slot_tokens

    @property
    def step_blocks(self) -> int:
        """Most blocks that the chunks of one step can take, watermark included: with as many free memory binds none."""
        return self.max_num_batched_tokens // self.kv_block_tokens + self.max_num_seqs + self.watermark_blocks
