"""``servesim trace fetch``: download a published trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from servesim.cli.exits import OK
from servesim.cli.output import write
from servesim.results.units import bytes_text, count_text


def list_published() -> int:
    """Print which traces can be fetched; return the exit code."""
    from rich.markup import escape

    from servesim.cli.summary import numbers_table, rendered
    from servesim.traces.published import published

    rows = [
        [
            name,
            "-" if each.bytes is None else count_text(each.bytes),
            each.licence,
            "yes" if each.sha256 else "no",
        ]
        for name, each in published().items()
    ]
    parts: list[Any] = [
        numbers_table(["trace", "bytes", "licence", "checksum"], rows),
        "",
        *(f"{name}: {escape(each.description)}" for name, each in published().items()),
    ]
    write(rendered(parts))
    return OK


def fetch_trace(name: str, folder: Path, *, url: str | None, sha256: str | None, quiet: bool) -> int:
    """Download the trace called *name* into *folder*; return the exit code."""
    from servesim.cli.progress import BytesProgress
    from servesim.traces.datasheets import sha256_of
    from servesim.traces.fetch import fetch
    from servesim.traces.published import published_trace

    trace = published_trace(name)
    if not quiet:
        print(f"{trace.description} Licence: {trace.licence}", file=sys.stderr)
    with BytesProgress(enabled=not quiet and sys.stderr.isatty()) as progress:
        path, downloaded = fetch(trace, folder, sha256=sha256, url=url, on_bytes=progress)
    said = "wrote" if downloaded else "already there:"
    write(f"{said} {path} ({bytes_text(path.stat().st_size)})\nsha256 {sha256_of(path)}\n")
    return OK
