"""Reference page of the columns of serverless logs, generated from their declarations in `schema`."""

from __future__ import annotations

from servesim.serverless.formats import FORMATS
from servesim.serverless.parquet import FORMS
from servesim.serverless.schema import FRAMES

_NOTES = {
    "cold_starts": "One row per cold start, in order of time.",
    "invocations": "One row per request, or per function and window with requests.",
    "functions": "One row per function, or application, and file.",
    "series": "One row per function, window and value.",
}


def serverless_page() -> str:
    """Return ``docs/reference/serverless.md``: every column of every frame, and how formats are told apart."""
    parts = [
        "# Serverless logs\n\n"
        "What `servesim.serverless.read`, `generate_cold_starts` and `generate_functions` return. Times are "
        "seconds since the start of the log. What is unknown, or has not happened, is null. "
        "[The model](../model/serverless.md) tells where values come from.\n"
    ]
    for name, columns in FRAMES.items():
        rows = "".join(
            f"| `{column.name}` | {column.dtype} | {column.unit} | {'yes' if column.required else ''} "
            f"| {column.description}. |\n"
            for column in columns
        )
        header = "| column | type | unit | never null | meaning |\n| --- | --- | --- | --- | --- |\n"
        parts.append(f"## {name}\n\n{_NOTES[name]}\n\n{header}{rows}")
    rows = "".join(
        f"| `{name}` | {', '.join(f'`{column}`' for column in sorted(columns))} |\n"
        for name, (columns, _) in FORMATS.items()
    )
    parts.append(
        "## Formats\n\n"
        "The header tells which one a file has; `read(path, form=NAME)` says it instead.\n\n"
        f"| format | columns that tell it |\n| --- | --- |\n{rows}"
        "| `huawei_series` | `day`, `time` and names of functions |\n\n"
        f"Files that servesim writes (Parquet) are marked: {', '.join(f'`{form}`' for form in FORMS)}, one for each "
        "frame, with its columns.\n"
    )
    return "\n".join(parts)
