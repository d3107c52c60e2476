"""`tffjax dropout`: switch channels off and see whether detection collapses."""

from typing import Any

import click

from tffjax.cli.asked import classes_option, input_options, pad_option, published_option, run_study, study_options
from tffjax.cli.channels import ranking_options
from tffjax.cli.memory import halving
from tffjax.cli.numbers import DRAWS, SEED


class Numbers(click.ParamType):
    """Whole numbers above 0 with commas between them."""

    name = "k,k,..."

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> list[int]:
        """The numbers."""
        if not isinstance(value, str):
            return value
        try:
            numbers = [int(part) for part in value.split(",")]
        except ValueError:
            numbers = [0]
        if min(numbers) < 1:
            self.fail(f"{value!r} is not a list of whole numbers above 0, such as 29,57,114", parameter, context)
        return numbers


seed_option = click.option("--seed", type=SEED, default=0, show_default=True, help="Of the random channels.")
chunk_option = click.option(
    "--chunk", type=click.IntRange(min=1), help="Settings computed at a time. [default: what suits the memory]"
)


@click.command()
@input_options
@ranking_options
@click.option(
    "--k",
    "ks",
    type=Numbers(),
    help="How many. [default: 29,57,114,228; EfficientNet-B0: 5,27,49; with --keys or --where: all]",
)
@click.option("--random", "draws", type=DRAWS, default=5, show_default=True, help="Draws of random-k.")
@click.option("--low", is_flag=True, help="Also the last k channels of the ranking.")
@click.option("--each", type=click.IntRange(min=1), metavar="N", help="Also each of the first N channels alone.")
@click.option(
    "--greedy", type=click.IntRange(min=1), metavar="STEPS", help="Choose STEPS of the --each channels greedily."
)
@seed_option
@chunk_option
@published_option
@classes_option
@pad_option
@study_options
@click.pass_context
@halving
def dropout(context: click.Context, **given: Any) -> None:
    """Feature-map dropout: switch the top channels of a ranking off, before batch norm, and score the images again.

    WEIGHTS is a folder written by `tffjax convert`, DATA are folders of labeled images, used at their own size unless
    --resize or --crop are given. Scored are the baseline, the first k channels, and k random others (probabilities
    averaged over the draws); --low, --each and --greedy add more. The channels are those of the whole ranking, or with
    --keys and --where chosen ones; random ones are drawn from all others of the ranking.

    Writes dropout (the metrics of every setting and generator), table-e1 (AP and accuracies on real and fake images at
    the baseline's calibrated threshold, in the paper's layout, also as LaTeX and HTML; with --published the paper's
    values), draws and scores (logits), each as CSV to read and as Parquet in full precision; dropout.png and .pdf; with
    --each effects and a map of effect against omega; with --greedy greedy; run.json with the provenance. Of a network
    with several outputs: classes (the probability of the correct class, or of the network's own top-1 on the images,
    and how many images keep it) and scores.

    \b
    Example:
      tffjax dropout detector images/ --ranking run/ranking_fake.csv --k 29,57,114,228 --random 5 --low --out dropout
      tffjax dropout detector images/ --ranking run/ranking_fake.csv --each 114 --out effects
      tffjax dropout detector images/ --ranking run/ranking_fake.csv --where color-conditional --color color --out d
      tffjax dropout imagenet photos/ --ranking run/ranking_top.csv --resize 256 --crop 224 --out dropout
    """
    run_study(context, given)
