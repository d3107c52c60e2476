"""`tffjax compare`: how much do two rankings agree?"""

from pathlib import Path

import click

from tffjax.cli.console import Talk, overwrite_option, quiet_option, refuse_unused
from tffjax.studies.comparison import compare_rankings, say_comparison, write_comparison


@click.command()
@click.argument("a", type=click.Path(path_type=Path), metavar="A.csv")
@click.argument("b", type=click.Path(path_type=Path), metavar="B.csv")
@click.option(
    "--k",
    "ks",
    type=click.IntRange(min=1),
    multiple=True,
    default=(27, 114),
    show_default=True,
    help="Length of the lists of top channels; give it several times for several. Movers are of the longest.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for tables and plots. [default: only print]")
@overwrite_option
@quiet_option
def compare(a: Path, b: Path, ks: tuple[int, ...], out: Path | None, overwrite: bool, quiet: bool) -> None:
    """Compare two rankings of the channels of one network.

    A.csv and B.csv are rankings in the form of `tffjax rank` and of the paper's release: key,mean_relevance.

    Prints what the two lists of k top channels have in common and what chance would give (random lists have k^2/C
    channels in common; p is the probability of at least so many), Spearman's and Kendall's rank correlation, and the
    channels whose rank differs most. Over the union of two top lists correlations are biased down: which channels are
    in it depends on the ranks themselves.

    With --out, writes overlap.csv, movers.csv (all channels in either list), correlations.csv, a plot (PNG and PDF),
    and run.json with the provenance.

    \b
    Example:
      tffjax compare run/ranking_fake.csv published/omega-resnet50-progan_val-fake.csv --k 114 --out agreement
    """
    talk = Talk(quiet)
    if out is None:
        refuse_unused("without --out", "overwrite")
    found = compare_rankings(a, b, ks)
    if out is not None:
        write_comparison(found, out, overwrite=overwrite)
    say_comparison(found, talk)
    if out is not None:
        talk.say(f"tables and plot in {out}")
