"""`tffjax color`: what grayscale and other ablations do to a detector and to its channels."""

from typing import Any

import click

from tffjax.cli.asked import classes_option, input_options, pad_option, published_option, run_study, study_options
from tffjax.cli.channels import k_option, ranking_options
from tffjax.cli.memory import halving


@click.command()
@input_options
@ranking_options
@k_option
@click.option(
    "--ablation",
    "ablations",
    multiple=True,
    default=["grayscale"],
    show_default=True,
    metavar="NAME[:STRENGTH,...]",
    help="grayscale, hue:DEGREES, desaturate:SHARE, blur:SIGMA, jpeg:QUALITY, noise:SIGMA; several times for several.",
)
@classes_option
@published_option
@pad_option
@study_options
@click.pass_context
@halving
def color(context: click.Context, **given: Any) -> None:
    """Is a feature about color? Compare images with their grayscale (or otherwise ablated) versions.

    WEIGHTS is a folder written by `tffjax convert`, DATA are images or folders; images keep their size unless --resize
    or --crop are given. The image and its ablations go through the network together; for each of the first --k channels
    of the ranking the largest activation before batch norm is compared by Mood's median test (the paper's criterion:
    p <= 0.05), with Benjamini-Hochberg adjusted p, Wilcoxon's paired test and an effect size beside it.

    Writes metrics, grayscale (color and grayscale images), table-i1 (that in the paper's layout, also as LaTeX and
    HTML), tests, shares, whiskers, densities and curves: tables as CSV to read and as Parquet in full precision,
    figures as PNG and PDF; per_image.parquet, and run.json with the provenance. The paper's values stand beside ours
    with --published.

    \b
    Example:
      tffjax color detector images/ --ranking run/ranking_fake.csv --out color
      tffjax color detector images/ --ranking run/ranking_fake.csv --ablation grayscale --ablation jpeg:90,60,30 --out c
      tffjax color imagenet photos/ --ranking run/ranking_top.csv --resize 256 --crop 224 --out c
      tffjax color imagenet photos-by-class/ --ranking run/ranking_top.csv --classes label --crop 224 --out c
      tffjax color imagenet photos/ --ranking run/ranking_top.csv --classes classes.csv --resize 256 --crop 224 --out c
    """
    run_study(context, given)
