"""``servesim trace ...`` and the options of its commands. What they do is in modules of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from servesim.cli.options import AsJson, Overrides, Quiet, Workers

trace = typer.Typer(
    name="trace",
    help="Look at traces of requests: what they are, other forms of them, and where they are published.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

TraceFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="A trace, or a YAML file with a workload: block.", show_default=False
    ),
]
AnyFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A trace, a YAML file with a workload: block, a client pool (language, reason and multimodal ship), or a "
        "serverless log.",
        show_default=False,
    ),
]
Reader = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Reader that takes the file; else told from it.", show_default=False),
]
AnyReader = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Reader of the trace, format of the log, or servegen for a client pool; else told from the file.",
        show_default=False,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        metavar="FORM",
        help="servesim, azure-2023, azure-2024, azure-2025, burstgpt-6, burstgpt-8, mooncake or table; else told by "
        "the name of OUT.",
        show_default=False,
    ),
]
ToAny = Annotated[
    str | None,
    typer.Option(
        metavar="FORM",
        help="A form as for convert; of a serverless log servesim_cold_starts (else), servesim_invocations or "
        "servesim_functions.",
        show_default=False,
    ),
]
Lossy = Annotated[bool, typer.Option("--lossy", help="Leave out what the form cannot hold.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="File to write.", show_default=False)]


@trace.command()
def info(
    file: AnyFile,
    reader: AnyReader = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the trace: .png, .svg or .pdf.", show_default=False),
    ] = None,
    datasheet: Annotated[
        Path | None,
        typer.Option(metavar="YAML", help="Write a datasheet with what was measured.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Tell what a trace is: its format, statistics, and what is odd about it.

    The statistics are those of the requests that a simulation would get: failed ones are counted and left out. Client
    pools and serverless logs have pages of their own.
    """
    from servesim.cli.trace_info import show_info

    return show_info(file, reader=reader, plot=plot, datasheet=datasheet, as_json=as_json)


@trace.command()
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A trace.", show_default=False)],
    out: Out,
    to: To = None,
    reader: Reader = None,
    lossy: Lossy = False,
) -> int:
    """Write a trace in another form.

    A native file that becomes servesim's Parquet and a native file again loses nothing. What a form cannot hold is
    named, and refused without --lossy.
    """
    from servesim.cli.trace_convert import convert_trace

    return convert_trace(file, out, to=to, reader=reader, lossy=lossy)


@trace.command()
def generate(
    spec: Annotated[
        Path,
        typer.Argument(
            metavar="SPEC",
            help="YAML file with a workload: or serverless: block, or a scenario.",
            show_default=False,
        ),
    ],
    out: Out,
    to: ToAny = None,
    overrides: Overrides = None,
    lossy: Lossy = False,
) -> int:
    """Write the requests, or the serverless log, that a file describes, with a datasheet beside them.

    Requests go to the file while they are made, so memory stays bounded. The same file and seed give the same bytes.
    """
    from servesim.cli.trace_convert import generate_trace

    return generate_trace(spec, out, to=to, overrides=overrides or [], lossy=lossy)


@trace.command()
def fit(
    file: TraceFile,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write: NAME.trace.parquet.", show_default=False)
    ],
    by: Annotated[
        Literal["tenant", "session"],
        typer.Option(metavar="COLUMN", help="What tells the client of a request: tenant or session."),
    ] = "tenant",
    reader: Reader = None,
    as_json: AsJson = False,
) -> int:
    """Fit a client pool to a trace, for the generator servegen.

    NAME.dataset.parquet, with the lengths, and a datasheet are written beside OUT.
    """
    from servesim.cli.trace_fit import fit_trace

    return fit_trace(file, out, by=by, reader=reader, as_json=as_json)


@trace.command()
def compare(
    one: Annotated[
        Path, typer.Argument(metavar="A", help="A trace or workload, or a client pool.", show_default=False)
    ],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another one.", show_default=False)],
    scenario: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Simulate both on this scenario, and explain the difference."),
    ] = None,
    metric: Annotated[str, typer.Option(metavar="KEY", help="Key of the summary to explain.")] = "ttft_s_p99",
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Seeds to average over.")] = 1,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Tell how far two traces are apart, and what makes simulations of them differ.

    With --scenario, every mixture of their gaps, prompt lengths, output lengths and order is simulated; the Shapley
    values of the four add up to the difference exactly. Of a client pool and requests of its clients it tells how
    closely they follow it: rates, lengths, and the CV of each client's gaps.
    """
    from servesim.cli.trace_compare import Question, compare_traces

    question = None
    if scenario is not None:
        question = Question(scenario, overrides or [], metric=metric, seeds=seeds, workers=workers)
    return compare_traces(one, other, question, as_json=as_json, quiet=quiet)


@trace.command()
def fetch(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A published trace; without it, all are listed.", show_default=False
        ),
    ] = None,
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the file.")] = Path(),
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Another place that has the same file.", show_default=False),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(
            metavar="HEX", help="Checksum, where none is known; unchecked takes any.", show_default=False
        ),
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Download a published trace, checked by size and SHA-256.

    An interrupted download goes on where it was. No other command uses the network.
    """
    from servesim.cli.trace_fetch import fetch_trace, list_published

    return (
        list_published() if name is None else fetch_trace(name, folder, url=url, sha256=sha256, quiet=quiet)
    )
