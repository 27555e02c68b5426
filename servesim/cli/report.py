"""``servesim report``: saved runs, or a saved comparison, as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from servesim.cli.exits import OK
from servesim.cli.output import write
from servesim.errors import ServesimError


def write_reports(directories: Sequence[Path], *, out: Path) -> int:
    """Write the report of the results, or of the one comparison, in *directories* to *out*; return the exit code."""
    from servesim.experiments.saved import COMPARISON
    from servesim.report.comparison_report import comparison_report
    from servesim.report.files import check_place, load_runs, write_page, write_report

    check_place(out)
    compared = [directory for directory in directories if COMPARISON.is_in(directory)]
    if compared and len(directories) > 1:
        raise ServesimError(
            f"{compared[0]}: a comparison goes into a report of its own (got {len(directories)} directories). expected "
            "it alone, or saved runs only"
        )
    if compared:
        write_page(out, comparison_report(compared[0]))
    else:
        write_report(load_runs(directories), out)
    write(f"wrote {out} ({out.stat().st_size / 2**20:.1f} MiB)\n")
    return OK
