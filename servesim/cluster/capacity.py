"""How many requests a replica can serve in the long run: the bound that its step times, memory and settings set.

In a steady state x requests leave with each step, and as many join. docs/model/capacity.md has the equations, what
they assume, and how far simulated replicas that are overloaded come. Nothing in here looks at a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from servesim.catalog import FrontEndCosts
from servesim.cluster.engine import Engine
from servesim.cluster.plugin_errors import bad_price, failed
from servesim.latency.api import BatchShape, LatencyModel

_HALVINGS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMix:
    """What requests look like on average.

    Attributes
    ----------
    prompt_tokens, output_tokens
        Mean lengths; the output is that which is emitted, at least 1.
    prompt_of_token_tokens
        Mean length of the prompt that a prompt token belongs to: the sum of their squares over their sum. Attention
        goes with it.
    context_tokens
        Mean number of tokens that a sequence attends to in a decode step: over all such steps of all requests, so
        that long outputs weigh more.
    encoder_tokens
        Mean number of tokens of images and audio.
    """

    prompt_tokens: float
    output_tokens: float
    prompt_of_token_tokens: float
    context_tokens: float
    encoder_tokens: float = 0.0


def capacity_requests_per_s(
    engine: Engine, latency: LatencyModel, mix: RequestMix, *, front_end: FrontEndCosts
) -> float:
    """Return how many requests of *mix* per second one replica can serve, with its front end.

    Raises
    ------
    PluginError
        If the latency model does not price the full batch.
    """
    if engine.prefill_only_steps:
        request_s = _separate_steps_s(engine, latency, mix)
    else:
        requests = _requests_per_step(engine, mix)
        request_s = _mixed_step_s(engine, latency, mix, requests) / requests
    request_s += mix.encoder_tokens * engine.encoder_s_per_token
    read_s = front_end.request_s + front_end.prompt_token_s * mix.prompt_tokens
    return min(1.0 / request_s, front_end.workers / read_s if read_s > 0.0 else inf)


def _chunks_per_prompt(engine: Engine, mix: RequestMix, requests: float) -> float:
    """Return how many steps the prefill of a prompt takes, when *requests* leave with each step."""
    room = engine.max_num_batched_tokens - requests * _decode_steps(engine, mix) * engine.step_tokens
    return max(1.0, mix.prompt_tokens / room) if room > 0.0 else inf


def _decode_steps(engine: Engine, mix: RequestMix) -> float:
    """Return how many decode steps a request takes."""
    accepted = 1.0 if engine.speculative is None else engine.speculative.acceptance_length
    return (mix.output_tokens - 1.0) / accepted


def _fits(engine: Engine, mix: RequestMix, requests: float) -> bool:
    """Return whether seats, tokens of a step and KV blocks suffice for *requests* to leave with each step."""
    decodes = requests * _decode_steps(engine, mix)
    prefills = requests * _chunks_per_prompt(engine, mix, requests)
    blocks = decodes * _blocks(engine, mix.context_tokens) + prefills * _blocks(engine, mix.prompt_tokens)
    return (
        decodes + prefills <= engine.max_num_seqs
        and decodes * engine.step_tokens + requests * mix.prompt_tokens <= engine.max_num_batched_tokens
        and (blocks <= engine.kv_blocks or decodes + prefills <= 1.0)  # a lone request always fits
    )


def _blocks(engine: Engine, tokens: float) -> float:
    """Return the KV blocks of a sequence of so many tokens: the last one is half full on average."""
    return tokens / engine.kv_block_tokens + 0.5


def _requests_per_step(engine: Engine, mix: RequestMix) -> float:
    """Return the most requests that can leave with each step, by bisection."""
    fits, fails = 0.0, float(engine.max_num_seqs) + 1.0
    for _ in range(_HALVINGS):
        middle = (fits + fails) / 2.0
        if _fits(engine, mix, middle):
            fits = middle
        else:
            fails = middle
    return fits


def _mixed_step_s(engine: Engine, latency: LatencyModel, mix: RequestMix, requests: float) -> float:
    """Return the mean time of a step with which *requests* leave: steps carry n or n + 1 prompt chunks."""
    per_prompt = _chunks_per_prompt(engine, mix, requests)
    prefills = requests * per_prompt
    sequences = requests * _decode_steps(engine, mix) + prefills
    chunk = mix.prompt_tokens / per_prompt
    fewer = int(prefills + 1e-9)
    more_ratio = max(0.0, prefills - fewer)
    total_s = 0.0
    for chunks, share in ((fewer, 1.0 - more_ratio), (fewer + 1, more_ratio)):
        if share > 1e-9:
            batch = _batch(sequences - chunks, mix, chunks=chunks, chunk=chunk)
            total_s += share * _price_s(latency, batch)
    return total_s


def _separate_steps_s(engine: Engine, latency: LatencyModel, mix: RequestMix) -> float:
    """Return the time that a request takes of a replica whose steps carry prompts or decodes, never both."""
    sequences = min(engine.max_num_seqs, max(1.0, engine.kv_blocks / _blocks(engine, mix.context_tokens)))
    prompts = max(1, min(int(sequences), int(engine.max_num_batched_tokens / mix.prompt_tokens)))
    decode_s = _price_s(latency, _batch(sequences, mix)) if mix.output_tokens > 1.0 else 0.0
    prompts_s = _price_s(latency, _batch(0.0, mix, chunks=prompts, chunk=mix.prompt_tokens))
    return _decode_steps(engine, mix) / sequences * decode_s + prompts_s / prompts


def _batch(sequences: float, mix: RequestMix, *, chunks: int = 0, chunk: float = 0.0) -> BatchShape:
    """Return a step with *chunks* equal chunks, whose tokens attend to as many others as those of the prompts do."""
    start = max(0.0, (mix.prompt_of_token_tokens - chunk) / 2.0)
    decodes = max(round(sequences), 0 if chunks else 1)
    return BatchShape(
        decodes,
        max(decodes, round(decodes * mix.context_tokens)),
        [(max(1, round(chunk)), round(start))] * chunks,
    )


def _price_s(latency: LatencyModel, batch: BatchShape) -> float:
    try:
        step_s = latency.price(batch)[0]
    except Exception as error:
        raise failed("latency model", latency, f"price({batch})", error) from error
    if not 0.0 < step_s < inf:
        raise bad_price(latency, batch)
    return step_s
