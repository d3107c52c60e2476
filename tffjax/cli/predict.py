"""`tffjax predict`: probabilities of images, and metrics per generator."""

from pathlib import Path
from typing import Any

import click

from tffjax.cli.asked import input_options, pad_option, run_study, study_options
from tffjax.cli.memory import halving


@click.command()
@input_options
@click.option(
    "--threshold-from",
    type=click.Path(path_type=Path),
    help="predictions.csv of other labeled images: the calibrated threshold is theirs.",
)
@pad_option
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

    Writes predictions (one row an image: logit, probability of being fake) and, where labels are known, metrics (AP,
    ROC AUC, accuracies at 0.5, at the calibrated and at the best threshold, TPR at 1 % and 5 % FPR, EER) and their 95 %
    bootstrap intervals, each as CSV to read and as Parquet in full precision; skipped.csv, and run.json with the
    provenance. Images are ranked by logits, thresholds are logits. An interrupted run goes on with --resume.

    \b
    Example:
      tffjax predict detector images/ --out results
      tffjax predict detector new/ --threshold-from results/predictions.csv --out new-results
      tffjax predict detector a.png b.jpg --crop 224 --out results
      tffjax predict detector GenImage/ --labels real=nature,fake=ai --resize 256 --crop 224 --out results
      tffjax predict detector images.parquet --out results
    """
    run_study(context, given)
