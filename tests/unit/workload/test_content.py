"""What a file holds instead of a trace: each reader names the file and says what is wrong with it."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from workloads import build

from servesim.errors import TraceError
from servesim.workload.content import first_line

SAMPLES = {
    "azure": "azure_conv_sample.csv",
    "burstgpt": "burstgpt_3_sample.csv",
    "mooncake": "mooncake_sample.jsonl",
    "table": "table_sample.csv",
}
TABLE = {
    "columns": {"arrival_s": "received_ms", "prompt_tokens": "input_len", "output_tokens": "output_len"},
    "time_unit": "ms",
}


def parquet_bytes(folder: Path) -> bytes:
    """Return a whole Parquet file of requests."""
    path = folder / "whole.parquet"
    frame = {"arrival_s": [0.0, 1.0], "prompt_tokens": [3, 4], "output_tokens": [5, 6]}
    pl.DataFrame(frame).write_parquet(path)
    return path.read_bytes()


def archived(text: bytes, packing: str) -> bytes:
    """Return an archive that holds *text* and the companion that macOS adds: a tar, packed or not, or a zip."""
    whole = io.BytesIO()
    files = {"._trace": b"\x00\x05\x16\x07", "trace": text}
    if packing == "zip":
        with zipfile.ZipFile(whole, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return whole.getvalue()
    with tarfile.open(fileobj=whole, mode=f"w:{packing}") as tar:  # type: ignore[call-overload]  # a mode by name
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return whole.getvalue()


@pytest.fixture(params=SAMPLES)
def read(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that lets one reader read its sample, changed by another function, and returns the
    notes.
    """
    reader = request.param
    whole = (root / "traces" / SAMPLES[reader]).read_bytes()

    def notes(change: Callable[[bytes], bytes], ending: str = "") -> dict[str, Any]:
        path = tmp_path / f"{reader} [a-z]*?{Path(SAMPLES[reader]).suffix}{ending}"
        path.write_bytes(change(whole))
        parameters = TABLE if reader == "table" else {}
        workload = build({"source": {"reader": reader, "path": path, **parameters}, "model": "m"})
        return {**workload.notes, "frames": sum(frame.height for frame in workload.frames())}

    return notes


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
        lambda text: b"\n" * 5000 + text,
        lambda text: text.rstrip(b"\r\n"),
        lambda text: text + b"\n\n",
    ],
    ids=["byte-order mark", "CRLF", "5,000 blank lines first", "no final newline", "blank last lines"],
)
def test_text_is_read_in_all_its_forms(change: Callable[[bytes], bytes], read: Callable[..., Any]) -> None:
    """The requests and the counts are those of the file as it was."""
    assert read(change) == read(lambda text: text)


def test_gzipped_text_is_read(read: Callable[..., Any]) -> None:
    """As the plain file."""
    assert read(gzip.compress, ".gz") == read(lambda text: text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: b"", "empty"),
        (lambda _: b" \r\n\n", "empty"),
        (lambda _: b"\x1c\n", "empty"),
        (lambda text: text.decode().encode("utf-16"), "UTF-16 text. expected UTF-8 text"),
        (lambda text: text.decode().encode("utf-16-be"), "not text .got a byte 0"),
        (lambda _: b"caf\xe9,1\n2,3\n", "not text .got byte 0xe9.. expected UTF-8 text"),
        (lambda _: np.random.default_rng(0).bytes(5000), "not text"),
        (lambda _: b"PAR1\x15\x00", "a Parquet file. expected UTF-8 text"),
        (lambda text: b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (
            lambda text: text[: len(text) // 2] + b"\xe9\xe8" + text[len(text) // 2 :],
            "not readable as|not a JSON object",
        ),
        (lambda text: archived(text, "gz"), "an archive .got '.*unpack it first"),
        (lambda text: archived(text, "xz"), "an archive .got '.*unpack it first"),
        (lambda text: archived(text, ""), "an archive .got '.*unpack it first"),
        (lambda text: archived(text, "zip"), "an archive .got '.*unpack it first"),
        (lambda _: b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "not text .got a byte 0"),
        (lambda text: gzip.compress(text)[:-30], "not readable as|cannot be read"),
        (lambda text: gzip.compress(text)[:20] + b"\xff" * 40, "cannot be read"),
        (lambda _: b"\x1f\x8bjunk", "cannot be read"),
    ],
)
def test_what_is_no_text_is_told(
    change: Callable[[bytes], bytes], message: str, read: Callable[..., Any]
) -> None:
    """By a `TraceError` with the file's name, whatever reader it is given to; archives also by what to do."""
    with pytest.raises(TraceError, match=f"(?s){message}") as caught:
        read(change)
    assert "[a-z]*?" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read"),
        (OSError(36, "File name too long"), "long"),
    ],
)
def test_a_file_that_may_not_be_opened_is_named(
    error: OSError, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system says is in the message."""

    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TraceError, match=rf"secret\.csv: .*{message}"):
        first_line(tmp_path / "secret.csv")


@pytest.mark.parametrize("reader", ["table", "empirical"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-30], "not readable as Parquet"),
        (lambda whole: whole[:60], "not readable as Parquet"),
        (lambda _: b"PAR1", "not readable as Parquet"),
        (lambda _: b"a,b\n1,2\n", "not readable as Parquet"),
        (gzip.compress, "not readable as Parquet"),
        (lambda _: b"", "empty"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_damaged_parquet_is_told(
    reader: str, damage: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    """In a trace, and in a table of lengths."""
    path = tmp_path / "t.parquet"
    path.write_bytes(damage(parquet_bytes(tmp_path)))
    one = {"distribution": "constant", "value": 1}
    lengths = {"prompt_tokens": {"distribution": "empirical", "file": path}, "output_tokens": one}
    spec = {
        "table": {"source": {"reader": "table", "path": path}},
        "empirical": {"generator": {"name": "constant", "rate_per_s": 1, "requests": 1, **lengths}},
    }[reader]
    with pytest.raises(TraceError, match=rf"t\.parquet: {message}"):
        list(build(spec).frames())


@pytest.mark.parametrize("where", ["nowhere.parquet", "folder.parquet"])
def test_parquet_that_is_not_there_is_told(where: str, tmp_path: Path) -> None:
    """No file, or a folder."""
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(TraceError, match=r"no such file|a folder"):
        build({"source": {"reader": "table", "path": tmp_path / where}})


def test_a_panic_of_the_parquet_reader_is_an_unreadable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polars panics on some damaged pages; that is the file's fault."""

    def panics(*_: Any, **__: Any) -> None:
        raise pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value")

    path = tmp_path / "t.parquet"
    path.write_bytes(parquet_bytes(tmp_path))
    monkeypatch.setattr(pl.LazyFrame, "collect_schema", panics)
    with pytest.raises(TraceError, match=r"not readable as Parquet \(called"):
        build({"source": {"reader": "table", "path": path}})


def test_parquet_may_have_any_name(tmp_path: Path) -> None:
    """Neither brackets nor stars are a pattern, nor is the ending's case important; gzipped it is refused."""
    for name in ("day [1]*?.parquet", "DAY.PARQUET"):
        (tmp_path / name).write_bytes(parquet_bytes(tmp_path))
        assert build({"source": {"reader": "table", "path": tmp_path / name}}).requests == 2
    with pytest.raises(TraceError, match=r"unknown kind of file \(got 't\.parquet\.gz'\)"):
        build({"source": {"reader": "table", "path": tmp_path / "t.parquet.gz"}})
