"""`tffjax predict`: probabilities of images, and metrics per generator."""

from typing import Any

import click

from tffjax.cli.asked import ask, input_options, study_options
from tffjax.cli.console import Talk
from tffjax.cli.memory import halving
from tffjax.nn import checkpoint
from tffjax.pipeline.run import run
from tffjax.studies.predict import Predict


@click.command()
@input_options
@study_options
@click.pass_context
@halving
def predict(context: click.Context, **given: Any) -> None:
    """Score images with a converted checkpoint.

    WEIGHTS is a folder written by `tffjax convert`. DATA, as of every command, are images; folders, searched with
    their subfolders; lists (.csv or .parquet with columns path, label, generator, category); packed records (`tffjax
    pack`); and TFDS (tfds:NAME/SPLIT). Labels are known below folders named 0_real and 1_fake, or as --labels says:
    give the folder that holds <generator>/0_real/ or <generator>/<class>/0_real/.

    Images are used at their own size unless --resize or --crop are given. Every different size is compiled once.

    Writes predictions.csv and predictions.parquet (one row an image, probability of being fake), metrics.csv where
    labels are known (AP, accuracy on real and fake images at 0.5 and at the calibrated threshold), skipped.csv, and
    run.json with the provenance. An interrupted run goes on with --resume.

    \b
    Example:
      tffjax predict detector images/ --out results
      tffjax predict detector a.png b.jpg --crop 224 --out results
      tffjax predict detector GenImage/ --labels real=nature,fake=ai --resize 256 --crop 224 --out results
      tffjax predict detector images.parquet --out results
    """
    asked = ask(context, given)
    run(Predict(checkpoint.load(asked.weights)), asked.request, Talk(given["quiet"]))
