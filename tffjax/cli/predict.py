"""`tffjax predict`: probabilities of images, and metrics per generator."""

from typing import Any

import click

from tffjax.cli.asked import input_options, run_study, study_options
from tffjax.cli.memory import halving


@click.command()
@input_options
@study_options
@click.pass_context
@halving
def predict(context: click.Context, **given: Any) -> None:
    """Score images with a converted checkpoint.

    WEIGHTS is a folder written by `tffjax convert`. DATA are images or folders, searched with their subfolders.
    Labels are known below folders named 0_real and 1_fake: give the folder that holds <generator>/0_real/ or
    <generator>/<class>/0_real/.

    Images are used at their own size unless --resize or --crop are given. Every different size is compiled once.

    Writes predictions.csv and predictions.parquet (one row an image, probability of being fake), metrics.csv where
    labels are known (AP, accuracy on real and fake images at 0.5 and at the calibrated threshold), skipped.csv, and
    run.json with the provenance. An interrupted run goes on with --resume.

    \b
    Example:
      tffjax predict detector images/ --out results
      tffjax predict detector a.png b.jpg --crop 224 --out results
    """
    run_study(context, given)
