"""`tffjax lrpmax`: what a channel looks at."""

from typing import Any

import click

from tffjax.cli.asked import input_options, run_study, study_options
from tffjax.cli.channels import k_option, ranking_options
from tffjax.cli.memory import halving
from tffjax.cli.numbers import TOP
from tffjax.data import LABELS
from tffjax.lrp.composites import COMPOSITES


@click.command()
@input_options
@ranking_options
@k_option
@click.option("--top", type=TOP, default=20, show_default=True, help="Images of each channel and generator.")
@click.option(
    "--by",
    type=click.Choice(["activation", "relevance"]),
    default="activation",
    show_default=True,
    help="What makes an image a top one: the channel's largest activation, or its share of relevance in the decision.",
)
@click.option(
    "--label",
    type=click.Choice([*LABELS, "any"]),
    default="fake",
    show_default=True,
    help="Which images; those without a label always count.",
)
@click.option("--composite", type=click.Choice(list(COMPOSITES)), default="beta0", show_default=True, help="LRP rules.")
@study_options
@click.pass_context
@halving
def lrpmax(context: click.Context, **given: Any) -> None:
    """LRP-max: find the strongest neuron of each channel and explain it alone, on the images where it is strongest.

    WEIGHTS is a folder written by `tffjax convert`, DATA are images or folders, used at their own size unless --resize
    or --crop are given. A first pass over all images finds each channel's top images for every generator; a second one
    explains those neurons, on crops where their receptive field is small.

    Writes index.parquet and index.csv (channel, image, value, position, patch box), maps.parquet (relevance maps as
    crops with their place, in 8-bit codes), patches/ (PNG), collages of patches and of their places (channels by
    generators), and run.json with the provenance.

    \b
    Example:
      tffjax lrpmax detector images/ --ranking run/ranking_fake.csv --k 114 --top 20 --out patches
      tffjax lrpmax detector images/ --ranking run/ranking_fake.csv --k 12 --top 4 --by relevance --out patches
      tffjax lrpmax detector images/ --keys 'conv1.#7(T=64),layer1.0.conv1.#63(T=64)' --top 4 --out two
      tffjax lrpmax detector images/ --ranking run/ranking_fake.csv --where not-color-conditional --color color --out n
    """
    run_study(context, given)
