"""The commands and their options. What a command does is in a module of its own, imported when it runs."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from servesim.cli.exits import OK, guarded
from servesim.cli.options import AsJson, Overrides, Quiet, ScenarioFile, Workers
from servesim.cli.profile_options import profile
from servesim.cli.trace import trace


class _Commands(TyperGroup):
    """Commands that leave Ctrl-C to `guarded`: typer would end without a word."""

    def invoke(self, ctx: Any) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise typer.Abort from interrupt


app = typer.Typer(
    name="servesim",
    cls=_Commands,
    help="Simulate LLM serving clusters: what happens to latency, throughput and cost if ...?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: readable in pipes, and starts faster
)
app.add_typer(trace)

Vary = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE,VALUE",
        help="A key of the scenario and the values it takes; every combination of repeated ones is a variant.",
        show_default=False,
    ),
]
Seeds = Annotated[int, typer.Option(metavar="N", min=1, help="How many seeds, from the scenario's own on.")]
Confidence = Annotated[
    float, typer.Option(metavar="RATIO", min=0.5, max=0.9999, help="Confidence of intervals.")
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments
        What follows the program's name; None means the arguments of this process.

    Returns
    -------
    int
        0 ok, 1 gate failed, 2 user error, 3 internal error, 130 interrupted, 141 the reader of the output
        went away.
    """
    if arguments is None:
        gc.disable()  # a process of one command: collecting while libraries load is a tenth of its start-up
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(lambda: _command()(args=given, prog_name="servesim", standalone_mode=False), given)


@cache
def _command() -> Any:
    """Return the commands as they are called, which typer would make anew, from all signatures, for every call."""
    return typer.main.get_command(app)


def console() -> NoReturn:
    """Run the command line of this process and end it.

    After a success nothing is left to clean up, and the process ends at once: taking the libraries down in order would
    cost a tenth of a second.
    """
    code = main()
    if code == OK and "loky" not in sys.modules:  # worker processes are ended in order
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        from servesim._version import __version__
        from servesim.cli.output import write

        write(f"servesim {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    plugins: Annotated[
        list[Path] | None,
        typer.Option(
            "--plugins",
            metavar="DIR",
            help="Use the plugins that the pyproject.toml in this folder declares, without installing them; may be "
            "repeated. Goes before the command. The environment variable SERVESIM_PLUGINS lists more folders.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Simulate LLM serving clusters: what happens to latency, throughput and cost if ...?"""
    if plugins:
        from servesim.plugin_folders import with_plugin_folders

        context.with_resource(with_plugin_folders(plugins))


@app.command()
def run(
    file: ScenarioFile,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Save the result in this directory. It may hold an older result, which is replaced.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Simulate a scenario and print a summary.

    The summary goes to stdout; the scenario's hash and seed, and a progress bar for long runs, go to stderr.
    Ctrl-C ends the run and keeps what there is.
    """
    from servesim.cli.run import run_scenario

    return run_scenario(file, overrides or (), out=out, as_json=as_json, quiet=quiet)


@app.command()
def compare(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Scenarios in YAML.", show_default=False)
    ],
    vary: Vary = None,
    overrides: Overrides = None,
    seeds: Seeds = 10,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Variant that the others are compared with; else the first one."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="KEY", help="Key of the summary to compare; may be repeated."),
    ] = None,
    interval: Annotated[
        str, typer.Option(metavar="METHOD", help="How intervals are made: t or bootstrap.")
    ] = "t",
    confidence: Confidence = 0.95,
    warm_up: Annotated[
        str, typer.Option(metavar="RULE", help="scenario, auto (MSER-5), or a time in s.")
    ] = "scenario",
    workers: Workers = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Save the comparison in this directory.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Compare variants of a scenario: is B better than A, by how much, and is that noise?

    All variants see the same arrivals for a seed. Prints each metric with its paired difference to the
    baseline and the interval of it, and marks what is significant.
    """
    from servesim.cli.compare import Output, compare_options, compare_scenarios

    return compare_scenarios(
        files,
        vary or (),
        overrides or (),
        seeds=seeds,
        baseline=baseline,
        options=compare_options(metrics, interval=interval, confidence=confidence, warm_up=warm_up),
        workers=workers,
        how=Output(as_json=as_json, quiet=quiet, out=out),
    )


@app.command()
def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Check files in YAML.", show_default=False)
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Count what is undecided as failed.")] = False,
    junit: Annotated[
        Path | None,
        typer.Option(metavar="XML", help="Write a JUnit report to this file.", show_default=False),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(metavar="MD", help="Add a Markdown report to this file.", show_default=False),
    ] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Store the numbers as the new baseline.")
    ] = False,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Check expectations of scenarios: a gate for CI.

    Prints what was expected and measured, and ends with exit code 1 if an expectation failed. What the seeds
    cannot decide is said, with the number of seeds that would.
    """
    from servesim.cli.check import check_files

    return check_files(
        files,
        strict=strict,
        junit=junit,
        markdown=markdown,
        update_baseline=update_baseline,
        workers=workers,
        as_json=as_json,
        quiet=quiet,
    )


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Sweep file in YAML.", show_default=False)],
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PARQUET", help="File to write; else FILE's name.", show_default=False),
    ] = None,
    backend: Annotated[
        str, typer.Option(metavar="NAME", help="Where runs are computed: processes or ray.")
    ] = "processes",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Ray cluster, or auto; else one is started here.", show_default=False
        ),
    ] = None,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Run a grid or list of points times seeds into one Parquet file.

    A sweep that was interrupted goes on where it was: runs that are done are in a journal beside the file.
    """
    from servesim.cli.sweep import sweep_file

    return sweep_file(
        file,
        overrides or (),
        out=out,
        backend=backend,
        address=address,
        workers=workers,
        as_json=as_json,
        quiet=quiet,
    )


RunDirectory = Annotated[
    Path, typer.Argument(metavar="RUN_DIR", help="Directory of a saved run.", show_default=False)
]


@app.command()
def timeline(
    run: RunDirectory,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="FILE", help="File to write; .gz compresses it.", show_default=False
        ),
    ],
    start_s: Annotated[
        float | None, typer.Option("--from", metavar="S", help="Show what happens from this time on, in s.")
    ] = None,
    end_s: Annotated[
        float | None, typer.Option("--to", metavar="S", help="Show what happens before this time, in s.")
    ] = None,
    replicas: Annotated[
        str | None, typer.Option(metavar="N,N", help="Numbers of the replicas to show; else all.")
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Most requests to show, drawn at random; else what has room."),
    ] = None,
    steps: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="Engine steps: all, segments (of identical steps), none, or auto: what has room.",
        ),
    ] = "auto",
    max_events: Annotated[int, typer.Option(metavar="N", help="Most events in the file.")] = 200_000,
    quiet: Quiet = False,
) -> int:
    """Write a timeline of a saved run that Perfetto shows.

    It has the requests with their phases, the engine steps and the state of every replica. What does not fit
    into the file is left out and named on stderr, with the options that show it.
    """
    from servesim.cli.timeline import replica_numbers, write_timeline
    from servesim.report.timeline import TimelineOptions

    options = TimelineOptions(
        start_s=start_s,
        end_s=end_s,
        replicas=replica_numbers(replicas),
        requests=requests,
        steps=steps,  # type: ignore[arg-type]  # checked with the others
        most_events=max_events,
    )
    return write_timeline(run, options, out=out, quiet=quiet)


@app.command()
def export(
    run: RunDirectory,
    form: Annotated[str, typer.Option("--format", metavar="NAME", help="vllm-bench.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="File to write; else stdout.", show_default=False),
    ] = None,
    detailed: Annotated[
        bool, typer.Option("--detailed", help="Add the lists of every request and token.")
    ] = False,
) -> int:
    """Write a saved run as the result file of another tool.

    vllm-bench: the JSON that vllm bench serve --save-result writes, with the same keys and definitions.
    """
    from servesim.cli.export import export_run

    return export_run(run, form, out=out, detailed=detailed)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.", show_default=False)],
) -> int:
    """Make a project: a scenario, a router of your own, its check, its tests and its CI.

    All of them pass at once. Nothing is overwritten; what is printed last is what to type next.
    """
    from servesim.cli.init import init_project

    return init_project(folder)


@app.command()
def report(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="RUN_DIR...", help="Results of servesim run --out.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="HTML", help="File to write; an older one is replaced.")
    ] = Path("report.html"),
) -> int:
    """Show saved runs as one HTML file, which opens offline.

    Several runs are shown side by side, with their differences to the first one. A directory of servesim
    compare --out is shown as the comparison that it is.
    """
    from servesim.cli.report import write_reports

    return write_reports(directories, out=out)


@app.command()
def capacity(
    file: ScenarioFile,
    slo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC<=NUMBER",
            help="Objective for a key of the summary, <= or >=; may be repeated. Else the scenario's slo.",
            show_default=False,
        ),
    ] = None,
    find: Annotated[
        str, typer.Option(metavar="WHAT", help="What to look for: max-rate or min-replicas.")
    ] = "max-rate",
    pool: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Pool whose replicas are counted, where there are several."),
    ] = None,
    overrides: Overrides = None,
    seeds: Seeds = 5,
    confidence: Confidence = 0.95,
    workers: Workers = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Save the answer and the curve in this directory.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Find the highest rate, or the fewest replicas, at which objectives are met.

    The same requests are played at every load. Prints the loads that were tried, the answer with its interval,
    and the load from which the backlog grows.
    """
    from servesim.cli.capacity import asked, search_capacity

    question = asked(
        file, slo or (), overrides or (), find=find, pool=pool, seeds=seeds, confidence=confidence
    )
    return search_capacity(question, workers=workers, out=out, as_json=as_json, quiet=quiet)


@app.command()
def validate(file: ScenarioFile, overrides: Overrides = None) -> int:
    """Check a scenario without running it.

    Its keys, the parameters of its plugins, the memory of its GPUs, and whether its traces are there.
    """
    from servesim.cli.validate import validate_scenario

    return validate_scenario(file, overrides or ())


@app.command("validate-model")
def validate_model(
    measured: Annotated[
        Path,
        typer.Argument(metavar="MEASURED", help="Results of a benchmark, or a folder.", show_default=False),
    ],
    scenario: Annotated[
        Path | None,
        typer.Argument(
            metavar="SCENARIO",
            help="Scenario whose cluster serves the measured load; else what MEASURED says.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    fitted: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN",
            help="Run, or pattern of runs, that the latency model was fitted to; may be repeated.",
            show_default=False,
        ),
    ] = None,
    fail_above: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=RATIO",
            help="Exit with 1 if the mean error of held-out runs exceeds this, as tpot_s_mean=0.1; may be repeated.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw figures into this folder.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Save the errors in this directory.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Replay measured benchmarks and tell how far the simulation is off.

    Takes request logs (JSON lines), results of vllm bench serve, AIPerf and inference-perf. Open loops are played by
    their time stamps, closed loops by their concurrency.
    """
    from servesim.cli.validate_model import Output, validate_model

    return validate_model(
        measured,
        scenario,
        overrides or (),
        fitted=fitted or (),
        fail_above=fail_above or (),
        how=Output(as_json=as_json, quiet=quiet, plots=plot, out=out),
    )


@app.command()
def calibrate(
    measured: Annotated[
        list[Path],
        typer.Argument(
            metavar="MEASURED...",
            help="Results of benchmarks, folders, or engine step logs.",
            show_default=False,
        ),
    ],
    scenario: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Scenario whose first pool is calibrated; else what MEASURED says.",
            show_default=False,
        ),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="KEY,KEY",
            help="Parameters to fit, such as launch_s,link_efficiency; else a default set of the latency model.",
            show_default=False,
        ),
    ] = None,
    hold_out: Annotated[
        str,
        typer.Option(
            metavar="SHARE|RUN|last",
            help="What is judged and not fitted: the last share of the requests of each run (of runs without "
            "single requests: so many runs), a run or a pattern, or the last run.",
        ),
    ] = "0.2",
    only: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Use only runs of such a name.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    workers: Workers = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the calibration to this file.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Fit a latency model to your own measurements, by simulating these.

    Takes what validate-model takes, and logs of engine steps. Prints parameters with their confidence, and errors
    before and after, on what was fitted and on what was held out. Refuses parameters that the measurements cannot tell.
    """
    from servesim.cli.calibrate import Output, Question, calibrate_model

    return calibrate_model(
        measured,
        Question(scenario=scenario, overrides=overrides or (), fit=fit, hold_out=hold_out, only=only),
        workers=workers,
        how=Output(as_json=as_json, quiet=quiet, out=out),
    )


app.command()(profile)


@app.command()
def schema() -> int:
    """Print the JSON Schema of scenario files.

    Editors check and complete scenarios with it. Plugins that cannot be used are left out, and named on
    stderr.
    """
    from servesim.cli.plugins import print_schema

    return print_schema()


@app.command()
def plugins(as_json: AsJson = False) -> int:
    """List what scenarios can name.

    Every kind of plugin, and the length distributions, each with what it does and its parameters with their
    defaults.
    """
    from servesim.cli.plugins import list_plugins

    return list_plugins(as_json=as_json)
