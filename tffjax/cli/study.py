"""`tffjax study`: the whole study of a detector."""

from pathlib import Path

import click

from tffjax.cli.console import Talk, overwrite_option, quiet_option, start_jax
from tffjax.cli.images import labels_option, size_options
from tffjax.cli.numbers import RealRange
from tffjax.data.preprocessing import Resize
from tffjax.whole.command import do_whole
from tffjax.whole.run import chosen_steps, whole_of


class Steps(click.ParamType):
    """Names of steps with commas between them."""

    name = "STEP,..."

    def convert(
        self, value: str | tuple[str, ...], parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[str, ...]:
        """The names."""
        return tuple(value.split(",")) if isinstance(value, str) else value


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="DATA...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option("--seen", metavar="GENERATOR", help="The generator that the detector was trained on.")
@size_options
@labels_option
@click.option(
    "--confidence",
    type=RealRange(0, 1),
    default=0.9,
    show_default=True,
    help="rank keeps fake images with p >= this and real ones with p <= 1 - this; 0 keeps all.",
)
@click.option("--k", type=click.IntRange(min=1), help="How many channels dropout switches off; leaves find-k out.")
@click.option("--max-k", type=click.IntRange(min=2), help="find-k searches up to here. [default: half of the channels]")
@click.option("--generator", type=click.Path(path_type=Path), help="A generator whose channels are studied, too.")
@click.option("--only", type=Steps(), default=(), help="Do these steps only.")
@click.option("--skip", type=Steps(), default=(), help="Leave these steps out.")
@click.option("--dry-run", is_flag=True, help="Print the commands, and what they will take, then stop.")
@overwrite_option
@quiet_option
def study(
    weights: Path,
    data: tuple[Path, ...],
    out: Path,
    seen: str | None,
    resize: Resize | None,
    crop: int | None,
    labels: str | None,
    confidence: float,
    k: int | None,
    max_k: int | None,
    generator: Path | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    dry_run: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """The whole study of a detector of yours: which channels find fakes, does detection need them, what do they see?

    WEIGHTS is a folder written by `tffjax convert`, DATA are folders of labeled images. The steps are predict, rank,
    find-k, dropout, lrpmax, color, heatmap, generator (with --generator) and report; each command is printed before it
    runs, so that you can repeat it with other options. With --seen, channels are ranked, and k is found, on that
    generator alone, and the findings say whether it transfers to the others.

    Writes a folder for each step, report.html with all of them, and findings.md, the findings in words with their
    numbers. Interrupted at any moment, the study goes on when it is called again.

    \b
    Example:
      tffjax study detector images/ --seen progan --out study
      tffjax study detector images/ --resize 256 --crop 224 --skip color,heatmap --out study
    """
    start_jax()
    whole = whole_of(weights, data, seen, (resize, crop), confidence, k, max_k, labels, generator)
    do_whole(Talk(quiet), whole, out, chosen_steps(only, skip), dry_run, overwrite, "tffjax study with the same words")
