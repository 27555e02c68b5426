"""Downloading published traces: resumable, checked, there whole or not at all. Nothing else here uses the network."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from servesim.errors import ServesimError
from servesim.results.frames import disk_errors
from servesim.traces.datasheets import sha256_of
from servesim.traces.published import Published

OnBytes = Callable[[int, int | None], None]
"""Called with bytes that are there and bytes that are expected (None: unknown)."""

TIMEOUT_S = 60.0
_PIECE_BYTES = 1 << 18


def fetch(
    trace: Published,
    folder: Path,
    *,
    sha256: str | None = None,
    url: str | None = None,
    on_bytes: OnBytes | None = None,
) -> tuple[Path, bool]:
    """Download *trace* into *folder*.

    What was downloaded before an interruption is in ``NAME.part`` and is not downloaded again. The file gets its name
    when size and checksum are right.

    Parameters
    ----------
    trace
        What to download.
    folder
        Where to; made if it is not there.
    sha256
        The checksum, where *trace* has none.
    url
        Another place that has the same file, such as a mirror.
    on_bytes
        Told of progress.

    Returns
    -------
    path, downloaded
        The file, and whether it was not there yet.

    Raises
    ------
    ServesimError
        If it cannot be reached or is another file than expected.
    """
    if sha256 is not None and sha256 != UNCHECKED:
        sha256 = sha256.lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ServesimError(
                f"--sha256: no checksum (got {sha256!r}). expected 64 hexadecimal digits, or unchecked"
            )
    if url is not None and urlsplit(url).scheme not in ("http", "https"):
        raise ServesimError(f"--url: no web address (got {url!r}). expected http://... or https://...")
    expected = trace.sha256 or sha256
    if trace.sha256 and sha256 and sha256 != trace.sha256:
        raise ServesimError(
            f"--sha256: another checksum is known (got {sha256!r}). expected {trace.sha256!r}"
        )
    if expected is None:
        raise ServesimError(
            f"{trace.url}: no checksum is known. expected --sha256 with that of the file",
            hint="--sha256 unchecked takes it as it comes and tells its checksum",
        )
    target = folder / trace.file_name
    if target.is_file():
        _check(target, trace, expected, keep=True)
        return target, False
    partial = target.with_name(f"{target.name}.part")
    with disk_errors(target):
        folder.mkdir(parents=True, exist_ok=True)
    _download(url or trace.url, partial, trace, target=target, on_bytes=on_bytes)
    _check(partial, trace, expected, keep=False)
    with disk_errors(target):
        partial.replace(target)
    return target, True


UNCHECKED = "unchecked"
"""What stands for a checksum that nobody knows."""


def _check(path: Path, trace: Published, expected: str, *, keep: bool) -> None:
    """Raise unless *path* has the size and checksum of *trace*; a file that is not kept goes away."""
    size = path.stat().st_size
    found = sha256_of(path)
    if trace.bytes not in (None, size):
        wrong = f"{size:,} bytes). expected {trace.bytes:,}"
    elif expected not in (UNCHECKED, found):
        wrong = f"sha256 {found}). expected {expected}"
    else:
        return
    if not keep:
        path.unlink()
    raise ServesimError(
        f"{path}: not the file that was published (got {wrong}",
        hint="move it away to download it"
        if keep
        else "what was downloaded is removed; try again, or another --url",
    )


def _download(url: str, partial: Path, trace: Published, *, target: Path, on_bytes: OnBytes | None) -> None:
    """Append to *partial* what it lacks of *url*."""
    have = partial.stat().st_size if partial.is_file() else 0
    if trace.bytes is not None and have >= trace.bytes:
        return
    headers = {"User-Agent": "servesim", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S
        ) as answer:
            have = have if answer.status == 206 else 0  # a server that knows no ranges starts anew
            _write(answer, partial, have, trace.bytes, on_bytes)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to download: the checksum tells whether it is all
            return
        raise ServesimError(
            f"{url}: the server refuses it (got {error.code} {error.reason}). expected the file"
        ) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, OSError) as error:
        raise _unreachable(url, target, error) from error


def _write(answer: Any, partial: Path, have: int, total: int | None, on_bytes: OnBytes | None) -> None:
    left = answer.headers.get("Content-Length")
    if total is not None and left is not None and have + int(left) != total:
        raise ServesimError(
            f"{answer.url}: not the file that was published (got {have + int(left):,} bytes). expected {total:,}",
            hint="nothing of it was kept; try again, or another --url",
        )
    total = have + int(left) if total is None and left is not None else total
    with disk_errors(partial), partial.open("ab" if have else "wb") as file:
        while piece := answer.read(_PIECE_BYTES):
            file.write(piece)
            have += len(piece)
            if on_bytes is not None:
                on_bytes(have, total)
    if left is not None and total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def _unreachable(url: str, target: Path, error: Exception) -> ServesimError:
    reason = getattr(error, "reason", None) or error
    return ServesimError(
        f"{url}: cannot be reached (got {reason}). expected a connection to it",
        hint=f"the same command goes on from where it was. Without a connection: download {url} elsewhere, put it at "
        f"{target}, and run the command again, which checks it; --url names a mirror",
    )
