"""Client pools read from both forms, and what breaks them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pools import LENGTHS, pool_of, write

from servesim.errors import TraceError
from servesim.servegen.packed import read_packed, write_packed
from servesim.servegen.pool import ClientPool
from servesim.servegen.read import read_pool

TRACE = "0,0.5,1.25,Weibull,0.8,1.5\n600,0,0,,0,0\n1200,0.001666666666666667,0,Gamma,1.0,600"
DATASET = {
    "0": {"input_tokens": "{20: 0.25, 10: 0.75}", "output_tokens": "{3: 1.0}"},
    "21600": {"input_tokens": "{}", "output_tokens": "{}"},
}


def native(folder: Path, *, trace: str = TRACE, dataset: object = DATASET, client: str = "7") -> Path:
    """Write one client in the native form and return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / f"chunk-{client}-trace.csv").write_text(trace)
    if dataset is not None:
        text = dataset if isinstance(dataset, str) else json.dumps(dataset)
        (folder / f"chunk-{client}-dataset.json").write_text(text)
    return folder


def contents(pool: ClientPool) -> dict[tuple[str, int, str], tuple[list[int], list[float]]]:
    """Return the histograms of a pool as values and probabilities."""
    found = {}
    for number, (client, window, field) in enumerate(
        pool.lengths.rows.select("client", "window6h", "field").rows()
    ):
        values, shares = pool.lengths.histogram(number)
        found[pool.clients[client], window, field] = (values.tolist(), shares.tolist())
    return found


def test_a_native_client_is_read(tmp_path: Path) -> None:
    """Without header and final newline; idle windows and empty histograms are left out, values are put in order."""
    pool = read_pool(native(tmp_path / "pool"))
    assert pool.clients == ("7",)
    assert pool.windows == 36
    assert pool.activity.rows() == [(0, 0, 300.0, 1.25, True, 0.8, 1.5), (0, 2, 1.0, 0.0, False, 1.0, 600.0)]
    assert contents(pool) == {
        ("7", 0, "input_tokens"): ([10, 20], [0.75, 0.25]),
        ("7", 0, "output_tokens"): ([3], [1.0]),
    }


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    """The same rows come out."""
    plain = read_pool(native(tmp_path / "plain"))
    other = read_pool(native(tmp_path / "other", trace="\ufeff" + TRACE.replace("\n", "\r\n") + "\r\n"))
    assert other.activity.equals(plain.activity)


def test_shares_of_reasoning_are_501sts(tmp_path: Path) -> None:
    """Keys i/501, as floats, become i."""
    dataset = {
        "0": {"input_tokens": "{1: 1}", "reason_ratio": f"{{{100 / 501}: 0.5, {500 / 501}: 0.5, 0.0: 0.25}}"}
    }
    pool = read_pool(native(tmp_path / "pool", dataset=dataset))
    assert contents(pool)["7", 0, "reason_ratio"][0] == [0, 100, 500]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Packed: activity, names and histograms are the same."""
    pool = pool_of()
    again = read_pool(write(tmp_path / "three.trace.parquet", pool))
    assert again.clients == pool.clients
    assert again.name == "three"
    assert again.activity.equals(pool.activity)
    assert contents(again) == contents(pool)


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ("0,0.5,1,Pareto,1,1", "row 1: pattern: unknown (got 'Pareto'). expected Gamma or Weibull"),
        ("0,0,0,,0,0\n600,0.5,1,,1,1", "row 2: pattern: unknown (got None)"),
        ("0,0.5,1,Gamma,one,1", "row 1: shape: not a number (got 'one')"),
        ("0,0.5,1,Gamma,0,1", "chunk-7-trace.csv: row 1: shape: too small (got 0.0)"),
        ("0,0.5,1,Gamma,nan,1", "chunk-7-trace.csv: row 1: shape: unusable value (got nan)"),
        ("0,-0.5,1,Gamma,1,1", "row 1: rate_per_s: negative (got -0.5)"),
        ("300,0.5,1,Gamma,1,1", "row 1: start_s: not a window (got 300.0)"),
        ("0,0.5,1,Gamma,1,1\n0,0.25,1,Gamma,1,1", "client '7' has window 0 more than once"),
        ("0,0,0,,0,0", "no client is ever active"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1", "a Git LFS pointer"),
        ("", "empty (got no data)"),
    ],
)
def test_a_bad_trace_is_refused_by_row_and_column(tmp_path: Path, trace: str, message: str) -> None:
    """The message names the file or folder, the row and what was found."""
    with pytest.raises(TraceError) as error:
        read_pool(native(tmp_path / "pool", trace=trace))
    assert message in str(error.value)
    assert "pool" in str(error.value)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"0": {"input_tokens": "__import__('os').getcwd()"}}, "not a Python dict of numbers"),
        ({"0": {"input_tokens": "[1, 2]"}}, "not a Python dict of numbers (got '[1, 2]')"),
        ({"0": {"input_tokens": "{1.5: 1.0}"}}, "no whole number of tokens (got 1.5)"),
        (
            {"0": {"input_tokens": "{-1: 1.0}"}},
            "chunk-7-dataset.json: 0: input_tokens: unusable value (got -1)",
        ),
        (
            {"0": {"input_tokens": "{1: -0.5}"}},
            "chunk-7-dataset.json: 0: input_tokens: unusable count (got -0.5)",
        ),
        (
            {"0": {"in_tokens": "{1: 1}"}},
            "chunk-7-dataset.json: 0: field: unknown (got 'in_tokens'). expected any of input_tokens, ",
        ),
        ({"0": {"input_tokens": "{1: 1"}}, "not a Python dict of numbers"),
        ({"100": {"input_tokens": "{1: 1}"}}, "not the start of six hours (got '100')"),
        ({"0": {"input_tokens": "{}"}}, "no client has lengths"),
        ([1], "not lengths by window and field"),
        ("{", "not JSON"),
        (None, "no client has lengths"),
    ],
)
def test_a_bad_dataset_is_refused(tmp_path: Path, dataset: object, message: str) -> None:
    """Code in it is never run."""
    with pytest.raises(TraceError) as error:
        read_pool(native(tmp_path / "pool", dataset=dataset))
    assert message in str(error.value)


def test_a_folder_without_clients_is_refused(tmp_path: Path) -> None:
    """And a pool whose dataset is missing."""
    with pytest.raises(TraceError, match=r"no client pool \(got no chunk"):
        read_pool(tmp_path)
    trace = write(tmp_path / "three.trace.parquet", pool_of())
    (tmp_path / "three.dataset.parquet").unlink()
    with pytest.raises(TraceError, match=r"three\.dataset\.parquet: no such file"):
        read_packed(trace)
    with pytest.raises(TraceError, match="not the name of a client pool"):
        write_packed(pool_of(), tmp_path / "three.parquet")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.lit("prompts").alias("field"), "row 1: field: unknown (got 'prompts')"),
        (pl.lit([-1, 8]).alias("dvalues"), "row 1: input_tokens: unusable value (got -1)"),
        (pl.lit([0.0, 1.0]).alias("counts"), "row 1: input_tokens: unusable count (got 0.0)"),
    ],
)
def test_a_bad_packed_dataset_is_refused(tmp_path: Path, column: pl.Expr, message: str) -> None:
    """Named are its row and column."""
    trace = write(tmp_path / "three.trace.parquet", pool_of())
    dataset = tmp_path / "three.dataset.parquet"
    whole = pl.read_parquet(dataset).filter(pl.col("dvalues").list.len() == 2)
    whole.filter(field="input_tokens").with_columns(column).write_parquet(dataset)
    with pytest.raises(TraceError) as error:
        read_packed(trace)
    assert f"three.dataset.parquet: {message}" in str(error.value)


def test_lists_of_unequal_length_are_refused(tmp_path: Path) -> None:
    """A count for every value."""
    trace = write(tmp_path / "three.trace.parquet", pool_of())
    dataset = tmp_path / "three.dataset.parquet"
    broken = pl.read_parquet(dataset).with_columns(
        counts=pl.concat_list(pl.lit(1.0), pl.lit(1.0), pl.lit(1.0))
    )
    broken.write_parquet(dataset)
    with pytest.raises(TraceError, match="histograms with unequal lists"):
        read_packed(trace)


def test_a_pool_of_a_form_that_is_not_known_is_refused() -> None:
    """Lengths without prompts say nothing of requests."""
    from servesim.rng import stream
    from servesim.servegen.draws import Lengths

    pool = pool_of(lengths={key: value for key, value in LENGTHS.items() if key[2] == "output_tokens"})
    with pytest.raises(TraceError, match="lengths of no known form"):
        Lengths(pool, stream(0, "test"))


def test_histograms_are_drawn_by_their_shares() -> None:
    """Quantiles of a histogram of 10 and 20 at three to one; the ends stay within it."""
    pool = pool_of()
    number = int(pool.histograms("input_tokens")[0, 0])
    uniform = np.array([0.0, 0.74999, 0.75001, np.nextafter(1.0, 0.0)])
    assert pool.lengths.draw(np.full(4, number), uniform).tolist() == [10, 10, 20, 20]
