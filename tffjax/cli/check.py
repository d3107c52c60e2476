"""`tffjax check`: does LRP on this network hold together, and where does relevance get lost?"""

from pathlib import Path

import click
from rich.table import Table

from tffjax.cli.console import Talk, quiet_option, refuse_unused, start_jax
from tffjax.cli.images import size_options
from tffjax.data.preprocessing import Resize, Transform
from tffjax.errors import CheckFailed
from tffjax.lrp.composites import COMPOSITES
from tffjax.lrp.conservation import Check
from tffjax.nn import checkpoint
from tffjax.studies.check import check_images


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, metavar="[PATH...]")
@click.option(
    "--composite",
    type=click.Choice([name for name, composite in COMPOSITES.items() if composite.redistributes]),
    default="beta0",
    show_default=True,
    help="LRP rules.",
)
@click.option("--class", "output", type=click.IntRange(min=0), help="Output index to explain. [default: the largest]")
@size_options
@click.option("--limit", type=click.IntRange(min=1), default=4, show_default=True, help="Take at most so many images.")
@quiet_option
def check(
    weights: Path,
    paths: tuple[Path, ...],
    composite: str,
    output: int | None,
    resize: Resize | None,
    crop: int | None,
    limit: int,
    quiet: bool,
) -> None:
    """Account for relevance layer by layer, on a few images, before a long run.

    For every layer: the relevance that enters at its output and leaves at its input, and what is lost to the bias, to
    the stabilizer, and at outputs whose denominator is zero, as shares of the start relevance; then how much arrives at
    the image, and what to do where something is wrong. Without PATH, on two synthetic images. Exit code 1 if a figure
    is not finite or a loss is not explained to 1e-4.

    \b
    Example:
      tffjax check detector images/ --composite beta0
    """
    talk = Talk(quiet)
    if not paths:
        refuse_unused("without PATH", "limit", "resize", "crop")
    start_jax()
    failed, transform = [], Transform(resize, crop)
    for what, result in check_images(checkpoint.load(weights), paths, limit, transform, output, composite, talk):
        talk.say(_table(result, f"{composite} on {what}: shares of the start"))
        talk.say(f"conserved: {result.conserved:.1%} of the start relevance arrives at the image")
        for note in result.notes:
            talk.warn(note)
        failed += [] if result.ok else [result.trouble]
    if failed:
        raise CheckFailed(failed[0])


def _table(result: Check, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("layer", "rule"):
        table.add_column(column, no_wrap=True)
    for column in ("entered", "left", "to bias", "to stabilizer", "to zeros", "unexplained"):
        table.add_column(column, justify="right")
    table.add_column("what to do")
    for b in result.balances:
        shares = (f"{value:.4f}" for value in (b.entered, b.left, b.bias, b.stabilizer, b.zero))
        table.add_row(b.layer, b.rule, *shares, f"{b.unexplained:.0e}", b.advice)
    return table
