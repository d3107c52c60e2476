"""`tffjax rank`: the forensic feature relevance statistic over any number of images."""

from pathlib import Path
from typing import Any

import click

from tffjax.cli.asked import input_options, run_study, study_options
from tffjax.cli.console import precision_option, refuse_unused
from tffjax.cli.memory import halving
from tffjax.cli.numbers import REPLICATES, SEED, RealRange
from tffjax.data import LABELS
from tffjax.lrp.composites import COMPOSITES
from tffjax.studies.classes import FROM_DATA


class _Target(click.ParamType):
    """`top`, `label`, or the index of an output."""

    name = "target"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if not isinstance(value, str) or value in ("top", FROM_DATA):
            return value
        if not value.isdecimal():
            self.fail(f"{value!r} is neither top, label nor the index of an output")
        return int(value)


@click.command()
@input_options
@click.option(
    "--composite",
    type=click.Choice([name for name, composite in COMPOSITES.items() if composite.linear]),
    default="beta0",
    show_default=True,
    help="LRP rules.",
)
@click.option(
    "--confidence",
    type=RealRange(0, 1),
    default=0.9,
    show_default=True,
    help="Keep fake images with p >= this and real ones with p <= 1 - this, or with --target those whose explained "
    "output has p >= this; 0 keeps all.",
)
@click.option("--k", type=click.IntRange(min=1), help="Length of the top list. [default: 114; EfficientNet-B0: 27]")
@click.option("--label", type=click.Choice(LABELS), help="Label of images whose folders do not say it.")
@click.option(
    "--target",
    type=_Target(),
    metavar="top|label|INDEX",
    help="Of a network with several outputs: explain the largest of each image, that of the image's class, or one.",
)
@click.option("--bootstrap", type=REPLICATES, default=200, show_default=True, help="Bootstrap replicates; 0: none.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the bootstrap.")
@click.option("--per-image", is_flag=True, help="Also write every image's statistic (about 100 KB an image).")
@click.option("--own-size", is_flag=True, help="Leave images at their own size, without --resize and --crop.")
@precision_option
@click.option(
    "--random-crop", type=SEED, metavar="SEED", help="Random resized crops as the released code draws them, seeded."
)
@click.option(
    "--released-quirks",
    is_flag=True,
    help="Leave an emptied batch norm, 1/sqrt(1+eps), behind each folded convolution as the released code does.",
)
@click.option(
    "--squeeze-excite-from",
    type=click.Path(path_type=Path),
    metavar="CHECKPOINT",
    help="Take the squeeze-excite weights from there, as the released code took ImageNet's.",
)
@study_options
@click.pass_context
@halving
def rank(context: click.Context, **given: Any) -> None:
    """Rank the channels of a detector by how much relevance they receive (FF-RS).

    WEIGHTS is a folder written by `tffjax convert`, DATA folders of labeled images. Every image that the detector is
    sure of is explained by LRP; a channel's statistic omega is the mean share of its site's relevance that it gets.
    Fake and real images make a ranking each. Of a network with several outputs, --target says which one is explained;
    images need not be real or fake then, and all make one ranking, ranking_top.csv, ranking_label.csv or
    ranking_output_INDEX.csv. The class of an image is its category in a list (or the folder above 0_real), or else the
    folder that it lies in: an index, or a name that the checkpoint knows (tffjax convert --class-names). Images are
    resized to 224 and cropped, unless you say otherwise.

    Writes ranking_fake.csv and ranking_real.csv (key,mean_relevance), statistics.parquet (standard errors, bootstrap
    intervals, counts), near_cut.csv, stability.csv, images.csv, groups.parquet (by generator and class), plots, and
    run.json with the provenance. The same question gives the same bytes. An interrupted run goes on with --resume.

    \b
    Example:
      tffjax rank detector images/ --out run
      tffjax rank --resume run
      tffjax rank imagenet photos/ --target top --out run
      tffjax rank imagenet photos-by-class/ --target label --out run
      tffjax rank detector images/ --out run --shard 0/4    # and 1/4, 2/4, 3/4, anywhere, then:
      tffjax merge run
    """
    if given["own_size"]:
        refuse_unused("with --own-size", "resize", "crop", "random_crop")
    if given["random_crop"] is not None:
        refuse_unused("with --random-crop", "resize")
    for name in ("resize", "crop"):
        given[name] = None if given["own_size"] else given[name] or 224
    if given["random_crop"] is not None:
        given["resize"] = None
    run_study(context, given)
