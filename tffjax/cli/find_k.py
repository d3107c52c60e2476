"""`tffjax find-k`: how many channels must be switched off until detection breaks?"""

from typing import Any

import click

from tffjax.cli.asked import input_options, run_study, study_options
from tffjax.cli.channels import ranking_options
from tffjax.cli.dropout import chunk_option, seed_option
from tffjax.cli.memory import halving
from tffjax.cli.numbers import DRAWS, RealRange


@click.command("find-k")
@input_options
@ranking_options
@click.option(
    "--share",
    type=RealRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Of its way from the baseline to chance that the metric must fall, on every generator.",
)
@click.option(
    "--metric",
    type=click.Choice(["either", "ap", "fake"]),
    default="either",
    show_default=True,
    help="What must fall: AP, the accuracy on fakes at the baseline's calibrated threshold, or either of them.",
)
@click.option("--max-k", type=click.IntRange(min=2), help="Search up to here. [default: half of the ranking]")
@click.option("--random", "draws", type=DRAWS, default=3, show_default=True, help="Draws of random-k.")
@seed_option
@chunk_option
@study_options
@click.pass_context
@halving
def find_k_command(context: click.Context, **given: Any) -> None:
    """Find the smallest k such that switching off the top k channels makes detection drop substantially.

    Tries k = 1, 2, 4, ... and then halves the interval in which the drop begins. A drop is substantial if on every
    generator AP, or the accuracy on fake images at the baseline's calibrated threshold (--metric says which), falls by
    --share of its way to chance. Says so when as many random channels make such a drop too.

    Writes find-k.csv (all that was evaluated), find-k.png and .pdf, and run.json with the provenance and the k.

    \b
    Example:
      tffjax find-k detector images/ --ranking run/ranking_fake.csv --out k
    """
    run_study(context, given)
