"""`tffjax generator`: which channels of a generator make the traces that a detector sees."""

from pathlib import Path
from typing import Any

import click

from tffjax.cli.asked import place_options, run_study, study_options
from tffjax.cli.memory import halving
from tffjax.cli.numbers import BATCH_SIZE, DRAWS, REPLICATES, SEED, RealRange
from tffjax.lrp.composites import COMPOSITES


@click.command()
@click.argument("weights", type=click.Path(path_type=Path), required=False, metavar="DETECTOR")
@click.argument("data", type=click.Path(path_type=Path), nargs=-1, metavar="GENERATOR")
@place_options
@click.option("--n", type=click.IntRange(min=1), default=500, show_default=True, help="How many images.")
@click.option("--top", default="5%", show_default=True, help="Percentage of the generator's channels that is masked.")
@click.option(
    "--draws", type=click.IntRange(1, DRAWS.max), default=20, show_default=True, help="Draws of random channels."
)
@click.option(
    "--threshold",
    type=RealRange(0, 1),
    default=0.5,
    show_default=True,
    help="An image is found if its probability of being fake is at least this.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of latents, draws, bootstrap.")
@click.option(
    "--composite",
    type=click.Choice([name for name, composite in COMPOSITES.items() if composite.linear]),
    default="beta0",
    show_default=True,
    help="LRP rules of the detector; convolutions of the generator have z+.",
)
@click.option("--bootstrap", type=REPLICATES, default=200, show_default=True, help="Bootstrap replicates; 0: none.")
@click.option("--batch-size", type=BATCH_SIZE, help="Images a pass. [default: 16 on a CPU, else 128]")
@study_options
@click.pass_context
@halving
def generator(context: click.Context, **given: Any) -> None:
    """Which channels of a generator make the traces that a detector sees?

    DETECTOR and GENERATOR are folders written by `tffjax convert`. LRP goes from the detector's logit through the image
    into the generator, whose channels are ranked by FF-RS over --n images. Then the top ones are masked (set to 0), and
    as many random ones, and the detector scores the saved images again: 1, 2, 5 and 10 % of the channels, and --top.
    PSNR, color shift and fine detail say how far the image itself moved.

    Writes the tables ranking_generator, statistics, stability, masking, layers and per_image;
    figure-m1 (boxes before and after), masking, layers, omega and images (PNG, PDF); run.json with the provenance.

    \b
    Example:
      tffjax generator detector bedroom --n 500 --top 5% --draws 20 --out generator
      tffjax generator --resume generator
    """
    run_study(context, given)
