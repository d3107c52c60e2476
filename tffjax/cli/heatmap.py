"""`tffjax heatmap`: pictures of what a single decision rests on."""

from pathlib import Path
from typing import Any

import click

from tffjax.cli.console import Talk, overwrite_option, quiet_option, refuse_unused, start_jax
from tffjax.cli.images import labels_option, size_options
from tffjax.lrp.composites import COMPOSITES
from tffjax.studies.heatmaps.run import METHODS, heatmaps


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="PATH...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the pictures.")
@click.option(
    "--method",
    "methods",
    type=click.Choice(list(METHODS)),
    multiple=True,
    default=list(METHODS),
    show_default=True,
    help="Which explanations; give it several times for several.",
)
@click.option(
    "--beside",
    type=click.Path(path_type=Path),
    help="Another network, such as an ImageNet classifier, whose maps of its largest output stand beside.",
)
@click.option(
    "--surest",
    type=click.Path(path_type=Path),
    metavar="PREDICTIONS.csv",
    help="Take the fakes of each generator of which the detector is surest, from predictions.csv of tffjax predict.",
)
@click.option("--each", type=click.IntRange(min=1), default=1, show_default=True, help="With --surest: how many.")
@click.option("--class", "output", type=click.IntRange(min=0), help="Output index to explain. [default: the largest]")
@click.option("--negative", is_flag=True, help="Explain the negative of the output (for a detector: the other label).")
@click.option("--composite", type=click.Choice(list(COMPOSITES)), default="beta0", show_default=True, help="LRP rules.")
@size_options
@labels_option
@click.option("--limit", type=click.IntRange(min=1), default=24, show_default=True, help="Take at most so many images.")
@overwrite_option
@quiet_option
def heatmap(weights: Path, paths: tuple[Path, ...], out: Path, quiet: bool, **options: Any) -> None:
    """Explain single decisions: positive relevance drawn over each image.

    WEIGHTS is a folder written by `tffjax convert`. Detectors are explained at their logit, networks with several
    outputs at the largest one of each image or at --class.

    Writes one picture for each image and method (PNG and PDF), contact sheets of images by methods, heatmaps.npz with
    the raw arrays (pixels, logits, one map for each method), and run.json with the provenance. With --beside, the maps
    of both networks are on one sheet, as in the figures J.1 to J.3 of the paper's supplement.

    \b
    Example:
      tffjax heatmap detector images/ --out heatmaps
      tffjax heatmap detector images/ --surest scores/predictions.csv --beside imagenet --out sheets
      tffjax heatmap imagenet cat.png --resize 256 --crop 224 --class 285 --method lrp --out cat
    """
    if "lrp" not in options["methods"]:
        refuse_unused("without --method lrp", "composite")
    if options["surest"] is None:
        refuse_unused("without --surest", "each")
    start_jax()
    heatmaps(weights, paths, out, **options, reporter=Talk(quiet))
