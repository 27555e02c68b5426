"""What a file really holds, told from its first bytes: what is not data is refused with its own message.

A folder, an empty file, the pointer that Git LFS leaves where the data was not fetched, an archive of files, damaged
gzip, and, where text is expected, anything that is no UTF-8. Parsing is in `servesim.workload.files`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from servesim.errors import TraceError

BOM = b"\xef\xbb\xbf"
_LFS_POINTER = b"version https://git-lfs"
_BINARY = {b"PAR1": "a Parquet file", b"\xff\xfe": "UTF-16 text", b"\xfe\xff": "UTF-16 text"}
_ARCHIVES = {
    b"PK\x03\x04": 0,  # zip
    b"ustar": 257,  # tar, also within gzip
    b"Rar!": 0,
    b"7z\xbc\xaf\x27\x1c": 0,
    b"\xfd7zXZ": 0,  # xz
    b"1AY&SY": 4,  # bzip2
    b"\x28\xb5\x2f\xfd": 0,  # zstd
}
"""What packed files begin with, from which byte on; gzip alone is read as it is."""

_HEAD_BYTES = 4096


def check_is_data(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked.

    Raises
    ------
    TraceError
        If *path* is nothing that can hold a trace, or cannot be read.
    """
    with opened(path) as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(_LFS_POINTER):
        raise TraceError(
            f"{path}: a Git LFS pointer. expected the data it points to",
            hint="fetch the file itself: `git lfs pull` where it was cloned, or a download of the release",
        )
    if not head:
        raise TraceError(f"{path}: empty (got no data). expected a trace")
    if any(head[place:].startswith(magic) for magic, place in _ARCHIVES.items()):
        raise TraceError(
            f"{path}: an archive (got {path.name!r}). expected a file of its own, plain or gzipped",
            hint="unpack it first",
        )
    return head


def without_companions(files: Iterable[Path]) -> list[Path]:
    """Return *files* without hidden ones, such as the companions that macOS puts into archives: ``._name`` beside each
    file, or all of them in ``__MACOSX``.
    """
    return [file for file in files if not file.name.startswith(".") and "__MACOSX" not in file.parts]


def first_line(path: Path) -> str:
    """Return the first line of a text file that is not blank, without byte-order mark and line end.

    Raises
    ------
    TraceError
        As `check_is_data`, and if the file is not UTF-8 text or has blank lines only.
    """
    head = check_is_data(path)
    for magic, what in _BINARY.items():
        if head.startswith(magic):
            raise TraceError(f"{path}: {what}. expected UTF-8 text")
    with opened(path) as file:
        for line in file:
            if b"\0" in line:
                raise TraceError(f"{path}: not text (got a byte 0). expected UTF-8 text")
            try:
                text = line.decode("utf-8-sig").rstrip("\r\n")
            except UnicodeDecodeError as error:
                got = f"byte {error.object[error.start]:#04x}"
                raise TraceError(f"{path}: not text (got {got}). expected UTF-8 text") from error
            if text.strip():
                return text
    raise TraceError(f"{path}: empty (got blank lines only). expected a trace")


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader | gzip.GzipFile]:
    """Open a file for reading, unpacked if it is gzipped, whatever its name.

    Raises
    ------
    TraceError
        If it cannot be opened, or read within the block.
    """
    try:
        if path.is_dir():
            raise TraceError(f"{path}: a folder. expected a file")
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as data:
            yield data
    except FileNotFoundError as error:
        raise TraceError(
            f"{path}: no such file. expected a trace",
            hint="a relative path starts from the scenario file's folder",
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: cannot be read ({error}). expected a readable file") from error
