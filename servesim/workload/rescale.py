"""Scaled lengths of a stream, with what depends on them: the prompts of a session, and the block ids of prompts.

A prompt that is at least as long as its session's previous prompt and output together is taken to begin with them, as
`servesim.workload.prefix_spec` takes it. Such a prompt is put together again: from the scaled history and its own new
text, scaled too. Block ids go with the prompts (`servesim.workload.prefixes.stretched`).
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from servesim.errors import ScenarioError
from servesim.workload.prefixes import stretched
from servesim.workload.schema import TOKENS_MAX
from servesim.workload.spec import LengthTransform

_PARTS = {
    "image_tokens": "prompt_tokens",
    "audio_tokens": "prompt_tokens",
    "reasoning_tokens": "output_tokens",
}
_AS_IT_IS = LengthTransform()


def rescaled(
    frames: Iterator[pl.DataFrame],
    prompt: LengthTransform | None,
    output: LengthTransform | None,
    *,
    extras: frozenset[str],
    blocks: bool,
) -> Iterator[pl.DataFrame]:
    """Yield *frames* with scaled lengths; images, audio and reasoning keep their share, rounded down.

    Parameters
    ----------
    frames
        All requests, in order of arrival.
    prompt, output
        What is done to the lengths; None: nothing.
    extras
        Which parts of lengths there may be.
    blocks
        Whether block ids are wanted.

    Raises
    ------
    ScenarioError
        If the prompts of a session have block ids and outputs change otherwise than prompts: which part of a block
        was an output is not known.
    """
    prompt, output = prompt or _AS_IT_IS, output or _AS_IT_IS
    new = {
        "prompt_tokens": _scaled("prompt_tokens", prompt),
        "output_tokens": _scaled("output_tokens", output),
    }
    kept = [
        (pl.col(part).cast(pl.Int64) * new[of].cast(pl.Int64) // pl.col(of)).cast(pl.Int32).alias(part)
        for part, of in _PARTS.items()
        if part in extras
    ]
    images = [part for part, of in _PARTS.items() if part in extras and of == "prompt_tokens"]
    histories, rows = _Histories(prompt, output, blocks=blocks), 0
    for frame in frames:
        scaled = frame.with_columns(*new.values(), *kept)
        if frame["session"].null_count() < frame.height:
            scaled = scaled.with_columns(histories.prompts(frame, scaled))
            scaled = scaled.with_columns(pl.col(images).clip(upper_bound=pl.col("prompt_tokens")))
        if blocks and frame["prefix_blocks"].null_count() < frame.height:
            ids = stretched(frame, scaled["prompt_tokens"], prompt.scale, first_row=rows)
            scaled = scaled.with_columns(ids)
        yield scaled
        rows += frame.height


def _scaled(name: str, lengths: LengthTransform) -> pl.Expr:
    column = pl.col(name)
    if lengths.scale != 1.0:
        column = (column.cast(pl.Float64) * lengths.scale).round()
    return column.clip(lengths.min or 1, lengths.max or TOKENS_MAX).cast(pl.Int32)


class _Histories:
    """What the sessions of a stream have said so far, as it was and scaled.

    Parameters
    ----------
    prompt, output
        What is done to the lengths.
    blocks
        Whether prompts shall keep their block ids.
    """

    def __init__(self, prompt: LengthTransform, output: LengthTransform, *, blocks: bool) -> None:
        self._prompt = prompt
        self._output = output
        self._blocks = blocks
        sums = ("said", "grown", "bent")
        self._known = pl.DataFrame(schema={"session": pl.String(), **dict.fromkeys(sums, pl.Int64())})

    def prompts(self, frame: pl.DataFrame, scaled: pl.DataFrame) -> pl.Series:
        """Return the prompts of *frame*, of which *scaled* has each length scaled by itself, with their histories.

        A prompt that begins anew begins a history: with what ``min`` makes of it, but not cut by ``max``.
        """
        turns = self._turns(frame, scaled)
        prompts = (turns["grown"] - turns["output"]).clip(upper_bound=self._prompt.max or TOKENS_MAX)
        return scaled["prompt_tokens"].scatter(turns["row"], prompts.cast(pl.Int32))

    def _turns(self, frame: pl.DataFrame, scaled: pl.DataFrame) -> pl.DataFrame:
        """Return the requests that have a session, with the tokens ``said`` up to their end, and how they have grown.

        ``bent`` is how much of that is due to outputs that were not scaled as prompts are.
        """
        text = LengthTransform(scale=self._prompt.scale, min=self._prompt.min)
        turns = (
            frame.select(
                "session",
                pl.col("prompt_tokens", "output_tokens").cast(pl.Int64),
                blocks=pl.col("prefix_blocks").is_not_null(),
                first=_scaled("prompt_tokens", text).cast(pl.Int64),
                even=_scaled("output_tokens", LengthTransform(scale=self._prompt.scale)).cast(pl.Int64),
                output=scaled["output_tokens"].cast(pl.Int64),
            )
            .with_row_index("row")
            .filter(pl.col("session").is_not_null())
            .join(self._known, on="session", how="left", maintain_order="left")
        )
        total = pl.col("prompt_tokens") + pl.col("output_tokens")
        turns = turns.with_columns(before=pl.coalesce(total.shift(1).over("session"), "said"), said=total)
        goes_on = (pl.col("prompt_tokens") >= pl.col("before")).fill_null(value=False)
        added = (
            ((pl.col("prompt_tokens") - pl.col("before")) * self._prompt.scale).round().clip(0, TOKENS_MAX)
        )
        turns = turns.with_columns(
            goes_on=goes_on,
            begin=(~goes_on).cum_sum().over("session"),
            text=pl.when(goes_on).then(added.cast(pl.Int64)).otherwise("first"),
        )
        turns = turns.with_columns(
            _running("grown", pl.col("text") + pl.col("output")),
            _running("bent", pl.col("output") - pl.col("even")),
        )
        if self._blocks:
            self._check_blocks(turns)
        latest = turns.group_by("session").agg(pl.col("said", "grown", "bent").last())
        self._known = pl.concat([self._known.join(latest, on="session", how="anti"), latest])
        return turns

    def _check_blocks(self, turns: pl.DataFrame) -> None:
        """Raise if a prompt with block ids begins with outputs that were not scaled as prompts are."""
        bent = turns.filter("blocks", "goes_on", pl.col("bent") != pl.col("output") - pl.col("even"))
        if not bent.is_empty():
            raise ScenarioError(
                f"workload.output_tokens: the outputs of session {bent['session'][0]!r} change otherwise than its "
                f"prompts, which go on with them and have block ids (got {_got(self._output)}, and scale "
                f"{self._prompt.scale!r} for prompts). expected that scale for outputs, without min and max",
                hint="workload.prefixes makes new block ids for any lengths, with history: true those of sessions",
            )


def _running(name: str, added: pl.Expr) -> pl.Expr:
    """Return the sum of what a session has *added* since it began (anew); *name* holds that of the frames before."""
    before = pl.when(pl.col("begin") == 0).then(name).otherwise(0)
    return (before + added.cum_sum().over("session", "begin")).alias(name)


def _got(lengths: LengthTransform) -> str:
    """Return what a transform says, in the words of the scenario."""
    return ", ".join(f"{name} {value!r}" for name, value in lengths.model_dump(exclude_none=True).items())
