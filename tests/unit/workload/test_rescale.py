"""Scaled lengths: histories of sessions are put together again, and block ids stand for the same prefixes as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workloads import collect, frame, stream_of

from servesim.errors import ScenarioError
from servesim.workload.prefixes import prefix_hit_ratio, stretched
from servesim.workload.spec import TransformSpec
from servesim.workload.transforms import transform

SCALES = st.sampled_from([0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 7.3])


def applied(spec: dict[str, Any], *frames: pl.DataFrame) -> pl.DataFrame:
    """Return what *spec* makes of a stream of *frames*."""
    return pl.concat(list(transform(stream_of(*frames), TransformSpec.model_validate(spec), 0).frames()))


@st.composite
def conversations(draw: st.DrawFn) -> pl.DataFrame:
    """Return the turns of a few sessions, mixed, most of which begin with all that was said before."""
    said: dict[str, int] = {}
    rows = []
    for _ in range(draw(st.integers(1, 25))):
        name = draw(st.sampled_from(["a", "b", "c"]))
        text, output, anew = draw(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 4)))
        prompt = text if anew == 0 else said.get(name, 0) + text
        said[name] = prompt + output
        rows.append((name, prompt, output))
    names, prompts, outputs = zip(*rows, strict=True)
    return frame(
        range(len(rows)), session=list(names), prompt_tokens=list(prompts), output_tokens=list(outputs)
    )


def test_a_session_scaled_by_hand() -> None:
    """Texts of 10, 5 and 4 tokens become 20, 10 and 8, outputs of 6 and 3 become 3 and 2: 20, 20+3+10, 33+2+8. The
    last prompt is shorter than what was said, so it begins anew.
    """
    turns = frame(range(4), session=["a"] * 4, prompt_tokens=[10, 21, 28, 9], output_tokens=[6, 3, 1, 1])
    scaled = applied({"prompt_tokens": {"scale": 2.0}, "output_tokens": {"scale": 0.5}}, turns)
    assert scaled["prompt_tokens"].to_list() == [20, 33, 43, 18]
    assert scaled["output_tokens"].to_list() == [3, 2, 1, 1]


def test_longer_outputs_are_in_later_prompts_and_limits_hold() -> None:
    """Outputs of 4 become 100: they are in the next prompt. A first prompt of 2 becomes 5, and so does its history."""
    turns = frame([0, 1, 2], session=["a"] * 3, prompt_tokens=[2, 7, 16], output_tokens=[4, 4, 4])
    assert applied({"output_tokens": {"min": 100}}, turns)["prompt_tokens"].to_list() == [2, 103, 208]
    assert applied({"prompt_tokens": {"min": 5}}, turns)["prompt_tokens"].to_list() == [5, 10, 19]
    cut = applied({"prompt_tokens": {"max": 150}, "output_tokens": {"min": 100}}, turns)
    assert cut["prompt_tokens"].to_list() == [2, 103, 150]


@settings(deadline=None)
@given(conversations(), SCALES, SCALES, st.integers(0, 25))
def test_prompts_are_their_history_and_new_text(
    turns: pl.DataFrame, prompt: float, output: float, cut: int
) -> None:
    """In every session: a prompt that went on goes on, with new text scaled; framing does not matter."""
    spec = {"prompt_tokens": {"scale": prompt}, "output_tokens": {"scale": output}}
    scaled = applied(spec, turns)
    assert scaled.equals(applied(spec, turns.head(cut), turns.slice(cut)))
    said: dict[str, tuple[int, int]] = {}
    pairs = zip(
        turns.select("session", "prompt_tokens", "output_tokens").iter_rows(),
        scaled.select("prompt_tokens", "output_tokens").iter_rows(),
        strict=True,
    )
    for (name, old, old_output), (new, new_output) in pairs:
        before, before_new = said.get(name, (old + 1, 0))
        if old >= before:
            assert new - before_new == round((old - before) * prompt)
        else:
            assert new == max(1, round(old * prompt))
        assert new_output == max(1, round(old_output * output))
        said[name] = (old + old_output, new + new_output)


@settings(deadline=None)
@given(conversations())
def test_requests_without_a_session_are_scaled_by_themselves(turns: pl.DataFrame) -> None:
    """Whatever stands beside them; and a session of one request is scaled as one without."""
    alone = turns.with_columns(session=pl.lit(None, dtype=pl.String))
    lonely = turns.with_columns(session=pl.int_range(pl.len()).cast(pl.String))
    spec = {"prompt_tokens": {"scale": 1.7, "min": 5, "max": 60}, "output_tokens": {"scale": 0.4}}
    names = ["prompt_tokens", "output_tokens"]
    assert applied(spec, alone).select(names).equals(applied(spec, lonely).select(names))
    expected = (alone["prompt_tokens"].cast(pl.Float64) * 1.7).round().clip(5, 60)
    assert applied(spec, alone)["prompt_tokens"].to_list() == expected.to_list()


def test_a_window_does_not_hide_the_history() -> None:
    """Lengths are scaled before the window is cut out: what was said before it counts."""
    turns = frame([0, 10], session=["a"] * 2, prompt_tokens=[10, 25], output_tokens=[5, 1])
    spec = {"output_tokens": {"scale": 3.0}, "window": {"start_s": 5, "end_s": 20}}
    assert applied(spec, turns)["prompt_tokens"].to_list() == [35]


def test_images_are_never_more_than_their_prompt() -> None:
    """They keep their share of the prompt's own scaling, and fit it where outputs have shrunk."""
    turns = frame(
        [0, 1],
        session=["a"] * 2,
        prompt_tokens=[10, 120],
        output_tokens=[100, 1],
        image_tokens=[4, 110],
    )
    stream = stream_of(turns)
    with_images = type(stream)(
        frames=stream.frames, requests=stream.requests, extras=frozenset({"image_tokens"})
    )
    spec = TransformSpec.model_validate({"output_tokens": {"max": 10}})
    scaled = pl.concat(list(transform(with_images, spec, 0).frames()))
    assert scaled.select("prompt_tokens", "image_tokens").rows() == [(10, 4), (30, 30)]


def texts_of(rng: np.random.Generator, rows: int) -> list[tuple[int, ...]]:
    """Return prompts over two tokens, of which many begin as an earlier one does."""
    texts: list[tuple[int, ...]] = []
    for _ in range(rows):
        begin = texts[rng.integers(len(texts))] if texts and rng.random() < 0.8 else ()
        begin = begin[: rng.integers(len(begin) + 1)]
        texts.append((*begin, *map(int, rng.integers(2, size=rng.integers(1, 30)))))
    return texts


def blocks_of(texts: list[tuple[int, ...]], size: int, *, ceil: bool) -> list[list[int]]:
    """Return the ids of the blocks of each text: equal exactly where text up to the block's end is."""
    ids: dict[tuple[int, ...], int] = {}
    counts = [-(-len(text) // size) if ceil else len(text) // size for text in texts]
    return [
        [ids.setdefault(text[: (block + 1) * size], len(ids)) for block in range(count)]
        for text, count in zip(texts, counts, strict=True)
    ]


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_blocks_stand_for_prefixes_as_before(*, factor: float, ceil: bool) -> None:
    """Two prompts that shared m whole blocks share floor(m * factor), as far as both go. As many ids as before, whole
    blocks or also the last; and no prompt has an id twice.
    """
    size = 4
    texts = texts_of(np.random.default_rng(7), 60)
    old = blocks_of(texts, size, ceil=ceil)
    lengths = [max(1, round(len(text) * factor)) for text in texts]
    requests = frame(
        range(60),
        prompt_tokens=[len(text) for text in texts],
        prefix_blocks=old,
        prefix_block_tokens=[size] * 60,
    )
    made = stretched(requests, pl.Series(lengths), factor, first_row=0).to_list()
    full = [len(text) % size == 0 for text in texts]
    for ids, length, whole in zip(made, lengths, full, strict=True):
        assert len(ids) == (-(-length // size) if ceil and not whole else length // size)
        assert len(set(ids)) == len(ids)
    for i in range(60):
        for j in range(i):
            same = sum(a == b for a, b in zip(old[i], old[j], strict=False))
            new = sum(a == b for a, b in zip(made[i], made[j], strict=False))
            whole_prompt = same == min(len(old[i]), len(old[j]))
            assert new >= min(int(same * factor), len(made[i]), len(made[j])) - (ceil and whole_prompt)
            assert new <= int(same * factor) or (ceil and old[i] == old[j])


def test_limits_cut_blocks_and_add_the_requests_own() -> None:
    """A prompt of 3 blocks that is cut to 2 keeps its first 2; one that grows has new ones that nobody else has."""
    requests = frame(
        [0, 1], prompt_tokens=[13, 13], prefix_blocks=[[1, 2, 3]] * 2, prefix_block_tokens=[4] * 2
    )
    cut = applied({"prompt_tokens": {"max": 8}}, requests)
    assert cut["prefix_blocks"].to_list() == [[1, 2], [1, 2]]
    frames = requests.head(1), requests.slice(1)
    grown = applied({"prompt_tokens": {"min": 20}}, *frames)["prefix_blocks"].to_list()
    assert [ids[:3] for ids in grown] == [[1, 2, 3]] * 2
    assert len({*grown[0], *grown[1]}) == 3 + 2 + 2


def test_what_has_no_ids_gets_none() -> None:
    """Null stays null, an empty list of a short prompt may get ids of its own, fewer ids than blocks stay fewer."""
    requests = frame(
        [0, 1, 2],
        prompt_tokens=[100, 3, 40],
        prefix_blocks=[None, [], [5, 6]],
        prefix_block_tokens=[None, 4, 4],
    )
    blocks = applied({"prompt_tokens": {"scale": 2.0}}, requests)["prefix_blocks"].to_list()
    assert blocks[0] is None
    assert [len(ids) for ids in blocks[1:]] == [1, 4]


@settings(deadline=None)
@given(conversations(), SCALES)
def test_sessions_with_blocks_keep_their_histories(turns: pl.DataFrame, scale: float) -> None:
    """Scaled alike, a prompt that went on has the blocks of the one before it, as far as those were whole before."""
    size = 4
    said: dict[str, list[int]] = {}
    tokens, blocks = 0, []
    for name, prompt, output in turns.select("session", "prompt_tokens", "output_tokens").iter_rows():
        text = said.get(name, [])
        text = text if len(text) <= prompt else []
        text = [*text, *range(tokens, tokens + prompt - len(text))]
        tokens += prompt + output
        blocks.append(text)
        said[name] = [*text, *range(tokens - output, tokens)]
    ids = blocks_of([tuple(text) for text in blocks], size, ceil=False)
    known = turns.with_columns(
        pl.Series("prefix_blocks", ids, dtype=pl.List(pl.Int64)),
        prefix_block_tokens=pl.lit(size, dtype=pl.Int32),
    )
    spec = {"prompt_tokens": {"scale": scale}, "output_tokens": {"scale": scale}}
    scaled = applied(spec, known)
    assert scaled["prefix_blocks"].list.len().to_list() == (scaled["prompt_tokens"] // size).to_list()
    before: dict[str, tuple[int, int, list[int]]] = {}
    for (name, prompt, output), new in zip(
        turns.select("session", "prompt_tokens", "output_tokens").iter_rows(),
        scaled["prefix_blocks"].to_list(),
        strict=True,
    ):
        total, whole, last = before.get(name, (prompt + 1, 0, []))
        if prompt >= total:
            shared = min(int(whole * scale), len(last))
            assert new[:shared] == last[:shared]
        before[name] = (prompt + output, prompt // size, new)


def test_other_outputs_under_block_ids_are_refused() -> None:
    """Which blocks would grow is not known. Without a later prompt, or with new block ids, all is well."""
    turns = frame(
        [0, 1],
        session=["a"] * 2,
        prompt_tokens=[8, 20],
        output_tokens=[4, 4],
        prefix_blocks=[[1, 2], [1, 2, 3, 4, 5]],
        prefix_block_tokens=[4] * 2,
    )
    spec: dict[str, Any] = {"output_tokens": {"scale": 2.0}}
    with pytest.raises(
        ScenarioError, match=r"output_tokens: the outputs of session 'a'.*\(got scale 2.0"
    ) as caught:
        applied(spec, turns)
    assert "workload.prefixes" in str(caught.value.hint)
    for wrong in ({"output_tokens": {"max": 3}}, {"prompt_tokens": {"scale": 2.0}}):
        with pytest.raises(ScenarioError, match="without min and max"):
            applied(wrong, turns.head(1), turns.slice(1))
    assert applied(spec, turns.head(1))["prefix_blocks"].to_list() == [[1, 2]]
    last = turns.with_columns(output_tokens=pl.Series([4, 9], dtype=pl.Int32))
    assert applied({"output_tokens": {"max": 4}}, last)["output_tokens"].to_list() == [4, 4]
    assert applied(spec, turns.with_columns(session=None))["prompt_tokens"].to_list() == [8, 20]
    again = applied(spec | {"prefixes": {"block_tokens": 4, "history": True}}, turns)
    assert again["prompt_tokens"].to_list() == [8, 24]
    assert again["prefix_blocks"][1].to_list()[:2] == again["prefix_blocks"][0].to_list()


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_mooncake_trace_keeps_its_reuse(shared: Callable[[str], Path], scale: float) -> None:
    """Twice as long: the same share of tokens. Half as long: a little less, since only whole blocks are shared."""
    source = {"reader": "mooncake", "path": str(shared("traces/mooncake/conversation_trace.jsonl"))}
    ratio = prefix_hit_ratio(collect({"source": source}), of="tokens")
    scaled = collect({"source": source, "prompt_tokens": {"scale": scale}})
    assert ratio is not None
    assert prefix_hit_ratio(scaled, of="tokens") == pytest.approx(ratio, rel=1e-3 if scale > 1 else 0.1)
    missing = -(-scaled["prompt_tokens"].cast(pl.Int64) // 512) - scaled["prefix_blocks"].list.len().cast(
        pl.Int64
    )
    assert missing.is_between(0, 1).all()
    assert missing.sum() < 0.01 * scaled.height
