"""Engine step logs: our own form, vLLM's iteration lines, and what is no step."""

from __future__ import annotations

import json

import pytest

from servesim.errors import TraceError
from servesim.measurements.step_log import is_step_log, read_step_log


def write(path, *rows):
    """Write JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


STEP = {"sequences": 8, "context_tokens": 800, "chunks": [[512, 0], [16, 32]], "duration_s": 0.01}


def test_our_form(tmp_path):
    """Sequences, attended tokens, chunks with what precedes them; chunks may be left out."""
    path = write(tmp_path / "steps.jsonl", STEP, {"sequences": 1, "context_tokens": 5, "duration_s": 0.002})
    assert is_step_log(path)
    first, second = read_step_log(path).steps
    assert (first.sequences, first.context_tokens, first.duration_s) == (8, 800, 0.01)
    assert first.chunks == ((512, 0), (16, 32))
    assert second.chunks == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    (
        ({"duration_s": 0}, "a step of no length"),
        ({"duration_s": None}, "not a number"),
        ({"sequences": -1}, "not a count"),
        ({"sequences": 2.5}, "not a count"),
        ({"chunks": [5]}, "no chunks"),
        ({"chunks": [[0, 5]]}, "no step"),
        ({"sequences": 0, "context_tokens": 0, "chunks": []}, "no step"),
        ({"context_tokens": 3}, "no step"),
    ),
)
def test_what_is_no_step_is_named_by_its_row(tmp_path, changed, message):
    """The second row is wrong."""
    path = write(tmp_path / "steps.jsonl", STEP, STEP | changed)
    with pytest.raises(TraceError, match=f"row 2: .*{message}"):
        read_step_log(path)


def test_a_row_that_lacks_a_key(tmp_path):
    """It is told which."""
    path = write(tmp_path / "steps.jsonl", STEP, {"sequences": 1, "context_tokens": 1})
    with pytest.raises(TraceError, match="row 2: no duration_s"):
        read_step_log(path)


LINE = (
    "(EngineCore pid=7) INFO 11-20 10:00:00 [core.py:400] Iteration({index}): {prompts} context requests, "
    "{tokens} context tokens, {decodes} generation requests, {decodes} generation tokens, "
    "iteration elapsed time: {ms} ms{kv}\n"
)
KV = ", GPU KV cache usage: 12.5%"


def iterations(path, *rows, kv=KV):
    """Write lines of vLLM's: prompts, their tokens, decodes, milliseconds."""
    keys = ("prompts", "tokens", "decodes", "ms")
    lines = [
        LINE.format(index=index, kv=kv, **dict(zip(keys, row, strict=True))) for index, row in enumerate(rows)
    ]
    path.write_text("INFO other lines are skipped\n" + "".join(lines), encoding="utf-8")
    return path


def test_vllm_iterations(tmp_path):
    """Prompts of a step are taken for equal; what decodes attend to is told by the use of the cache."""
    path = iterations(tmp_path / "server.log", (3, 100, 0, 20.0), (0, 0, 3, "5.50"))
    assert is_step_log(path)
    first, second = read_step_log(path).steps
    assert [tokens for tokens, _ in first.chunks] == [34, 33, 33]
    assert (second.sequences, second.duration_s, second.kv_used_ratio) == (3, pytest.approx(0.0055), 0.125)
    assert second.context_tokens is None


def test_vllm_iterations_without_the_cache_or_without_waiting_are_refused(tmp_path):
    """They tell no attended tokens, or the time that it takes to start a step."""
    with pytest.raises(TraceError, match="do not tell what they attend to"):
        read_step_log(iterations(tmp_path / "server.log", (0, 0, 3, 5.0), kv=""))
    with pytest.raises(TraceError, match=r"less than 0\.1 ms"):
        read_step_log(iterations(tmp_path / "server.log", (0, 0, 3, 0.03), (0, 0, 3, 5.0)))


def test_other_files_are_no_step_logs(tmp_path):
    """Nor is a folder."""
    assert not is_step_log(tmp_path)
    assert not is_step_log(write(tmp_path / "requests.jsonl", {"arrival": 0.0, "duration_s": 1.0}))
