"""The report of runs, as a file."""

import os
from collections.abc import Sequence
from pathlib import Path

from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.places import look_for_file, new_file
from tffjax.report.page import report_page
from tffjax.report.sources import read_sources


def write_report(
    runs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    notes: str = "",
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Write one HTML file that shows runs of one network and opens without a server or network.

    The same runs give the same bytes.

    Args:
        runs: finished run directories of rank, dropout, find-k, lrpmax and color, and folders of heatmaps.
        out: the HTML file.
        notes: Markdown for the overview: headings (# ), bullets (- ), a paragraph a line.
        overwrite: replace the file if it is there.
        reporter: where words go; None prints plain lines on standard error.

    Returns:
        The file.

    Raises:
        InputError: a run is missing, unfinished, damaged, or of another network; `out` exists already.
    """
    out, reporter = Path(out), reporter or Lines()
    with new_file(look_for_file(out, overwrite)) as file:
        sources = read_sources([Path(run) for run in runs])
        with reporter.busy("making the report"):
            page = report_page(sources, notes)
        file.write_text(page, encoding="utf-8")
    count = f"{len(sources)} runs" if len(sources) > 1 else "1 run"
    reporter.say(f"{count} in {out}, {out.stat().st_size / 1e6:.1f} MB; open it in a browser")
    return out
