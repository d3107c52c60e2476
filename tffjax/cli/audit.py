"""`tffjax audit`: what tells real from fake in a data set besides the pictures."""

from pathlib import Path
from typing import Any

import click

from tffjax.cli.console import Talk, overwrite_option, quiet_option
from tffjax.cli.images import labels_option, workers_option
from tffjax.cli.numbers import RealRange
from tffjax.data.loading import THREADS
from tffjax.data.traps import LIMIT
from tffjax.errors import CheckFailed
from tffjax.report.audit import ALL, audit
from tffjax.results.words import number_of


@click.command("audit")
@click.argument("data", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="DATA...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for tables and page.")
@click.option(
    "--limit",
    type=RealRange(0.5, 1),
    default=LIMIT,
    show_default=True,
    help="Fail where a trap alone is right more often than this.",
)
@labels_option
@workers_option
@overwrite_option
@quiet_option
def audit_command(**given: Any) -> None:
    """Look for traps in a data set before any study of it.

    Real images that are JPEG and fakes that are PNG are the classic: whatever is measured on them may be about files.
    For format, size, aspect, JPEG quality, sampling and grid, metadata, bit depth and mean color a small decision tree
    guesses the labels from that alone; its balanced accuracy is cross-validated, over all images and within each
    generator (chance is 0.5). Duplicates are found across labels and splits (folders train, val, test, or the DATA), as
    files and as pictures.

    DATA are labeled images, as of `tffjax predict`. Writes the tables traps, duplicates and facts (a row an image),
    audit.html and run.json. Exit code 1 if a trap gives the labels away, or a duplicate is where it must not be.

    \b
    Example:
      tffjax audit images/ --out audit
      tffjax audit train/ test/ --limit 0.8 --out audit
    """
    talk, out = Talk(given["quiet"]), given["out"]
    workers = given["workers"] or THREADS
    options = {name: given[name] for name in ("limit", "labels", "overwrite")}
    run = audit(given["data"], out, workers=workers, reporter=talk, **options)
    table = run.table("traps").to_pylist()
    rows = [row for row in table if row["generator"] == ALL or row["gives_away"]]
    formats = {"generator": "", "trap": "", "accuracy": ".3f", "standard_error": ".3f", "real": "", "fake": ""}
    talk.table(type(run.table("traps")).from_pylist(rows), "what tells real from fake, alone", formats)
    found, misplaced = run.summary["gives_away"], run.summary["misplaced_duplicates"]
    groups = len(set(run.table("duplicates")["group"].to_pylist()))
    talk.say(
        f"{number_of(run.summary['images'], 'image')}, {number_of(groups, 'group')} of duplicates; "
        f"page and tables in {out}"
    )
    if found or misplaced:
        words = [f"labels are given away by {', '.join(found)}"] if found else []
        words += [f"{misplaced} groups of duplicates across labels or splits"] if misplaced else []
        raise CheckFailed("; ".join(words))
