"""`tffjax report`: what runs found, as one HTML file."""

from pathlib import Path

import click

from tffjax.cli.console import Talk, quiet_option
from tffjax.errors import InputError
from tffjax.files import read_text
from tffjax.report.write import write_report


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="HTML file to write.")
@click.option(
    "--notes",
    type=click.Path(path_type=Path),
    help="Text of yours for the overview: headings (# ), bullets (- ), a paragraph a line.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@quiet_option
def report(runs: tuple[Path, ...], out: Path, notes: Path | None, overwrite: bool, quiet: bool) -> None:
    """Turn run directories of one network into a report: a single HTML file that opens without a server or network.

    RUN are finished runs of rank, dropout, find-k, lrpmax and color, any of them, and folders of `tffjax heatmap`. Of
    several lrpmax runs the last is shown; of several color runs the last is on the pages of channels. Where patches are
    in their images is shown if these are still where they were.

    The same runs give the same bytes.

    \b
    Example:
      tffjax report rank dropout k patches color --out report.html
      tffjax report rank dropout --notes findings.md --out report.html
    """
    try:
        text = read_text(notes) if notes else ""
    except UnicodeDecodeError:
        raise InputError(f"{notes} is no text in UTF-8; --notes takes a text file") from None
    write_report(runs, out, notes=text, overwrite=overwrite, reporter=Talk(quiet))
