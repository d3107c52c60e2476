"""`tffjax predict`: probabilities of images, and metrics per generator."""

from pathlib import Path

import click
import jax
import numpy as np
import pyarrow as pa

from tffjax.cli.console import (
    Talk,
    check_output,
    compile_pass,
    output_folder,
    overwrite_option,
    prepared,
    quiet_option,
    start_jax,
)
from tffjax.cli.images import default_batch_size, image_options, warn_left_out
from tffjax.cli.memory import halving
from tffjax.compile.placement import put
from tffjax.data import ImageFile, Plan, batches, find_images, label_warning, plan
from tffjax.errors import InputError
from tffjax.logits import forward
from tffjax.nn import Model, checkpoint
from tffjax.predictions import metrics_table, prediction_table
from tffjax.preprocessing import Transform
from tffjax.tables import screen_table, write_table


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="PATH...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@image_options
@click.option("--dry-run", is_flag=True, help="Say what would be done, then stop.")
@overwrite_option
@quiet_option
@halving
def predict(
    weights: Path,
    paths: tuple[Path, ...],
    out: Path,
    resize: int | None,
    crop: int | None,
    batch_size: int | None,
    max_shapes: int,
    strict: bool,
    dry_run: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Score images with a converted checkpoint.

    WEIGHTS is a folder written by `tffjax convert`. Each PATH is an image or a folder, searched with its subfolders.
    Labels are known below folders named 0_real and 1_fake: give the folder that holds <generator>/0_real/ or
    <generator>/<class>/0_real/.

    Images are used at their own size unless --resize or --crop are given. Every different size is compiled once.

    Writes predictions.csv and predictions.parquet (one row an image, probability of being fake), metrics.csv where
    labels are known (AP, accuracy on real and fake images at 0.5 and at the calibrated threshold), and skipped.csv.

    \b
    Example:
      tffjax predict detector images/ --out results
      tffjax predict detector a.png b.jpg --crop 224 --out results
    """
    talk = Talk(quiet)
    start_jax()
    model = checkpoint.load(weights)
    files = find_images(paths)
    transform = Transform(resize, crop)
    batch_size = batch_size or default_batch_size()
    work = plan(files, transform, batch_size, max_shapes)
    sizes = ", ".join(f"{h}x{w}" for h, w in work.shapes)
    warn_left_out(talk, paths)
    if warning := label_warning(files):
        talk.warn(warning)
    if strict:
        _refuse_skipped(files, work.skipped)
    if dry_run:
        check_output(out, overwrite)
        talk.say(f"would score {len(files) - len(work.skipped)} images ({sizes}) in {len(work.batches)} batches of "
                 f"{batch_size} with {model.card.architecture}, into {out}")  # fmt: skip
        return
    with output_folder(out, overwrite) as folder:
        logits, skipped = _logits(talk, model, files, transform, batch_size, work)
        if strict:
            _refuse_skipped(files, skipped)
        _report_skipped(talk, skipped)
        kept = [index for index in range(len(files)) if index not in skipped]
        if not kept:
            raise InputError("none of the images could be read")
        predictions = prediction_table(model.card, [files[index] for index in kept], logits[kept])
        write_table(predictions, folder / "predictions.csv")
        write_table(predictions, folder / "predictions.parquet")
        write_table(_skipped_table(files, skipped), folder / "skipped.csv")
        if model.card.num_outputs == 1 and any(files[index].label is not None for index in kept):
            metrics = metrics_table(predictions)
            write_table(metrics, folder / "metrics.csv")
            talk.say(_screen(metrics))
        else:
            columns = [name for name in ("path", "output", "logit", "probability") if name in predictions.column_names]
            formats = {name: ".4f" if name in ("logit", "probability") else "" for name in columns}
            talk.say(screen_table(predictions.slice(0, 20), "first predictions", formats))
    talk.say(f"{len(kept)} images scored, {len(skipped)} skipped; results in {out}")


def _logits(
    talk: Talk, model: Model, files: tuple[ImageFile, ...], transform: Transform, batch_size: int, work: Plan
) -> tuple[np.ndarray, dict[int, str]]:
    """Logits (files, outputs) in the order of the files, NaN for skipped ones, and why those were skipped."""
    logits = np.full((len(files), model.card.num_outputs), np.nan, np.float32)
    skipped = dict(work.skipped)
    model = prepared(model, work.shapes, batch_size)
    passes = {
        size: compile_pass(talk, "the forward pass", forward, model, (batch_size, *size, 3)) for size in work.shapes
    }
    pending: list[tuple[np.ndarray, jax.Array]] = []

    def collect() -> None:
        indices, values = pending.pop()
        logits[indices[indices >= 0]] = np.asarray(values)[indices >= 0]

    with talk.progress("scoring", len(files), "images") as advance:
        advance(len(skipped))
        for batch in batches(work, files, transform, batch_size):
            skipped |= batch.skipped
            values = passes[batch.images.shape[1:3]](model, put(batch.images))
            if pending:  # the previous batch's values are fetched while this one is computed
                collect()
            pending.append((batch.indices, values))
            advance(int((batch.indices >= 0).sum()))
        if pending:
            collect()
    bad = [index for index in range(len(files)) if index not in skipped and not np.isfinite(logits[index]).all()]
    if bad:
        raise InputError(f"the network gives NaN or infinity for {len(bad)} images, first {files[bad[0]].path}")
    return logits, skipped


def _refuse_skipped(files: tuple[ImageFile, ...], skipped: dict[int, str]) -> None:
    if skipped:
        raise InputError(
            f"{len(skipped)} of {len(files)} images are unreadable (--strict): {next(iter(skipped.values()))}"
        )


def _report_skipped(talk: Talk, skipped: dict[int, str]) -> None:
    for reason in list(skipped.values())[:20]:
        talk.warn(f"skipped: {reason}")
    if len(skipped) > 20:
        talk.warn(f"... and {len(skipped) - 20} more, all in skipped.csv")


def _skipped_table(files: tuple[ImageFile, ...], skipped: dict[int, str]) -> pa.Table:
    rows = sorted(skipped.items())
    return pa.table(
        {
            "path": pa.array([str(files[index].path) for index, _ in rows], pa.string()),
            "reason": pa.array([reason for _, reason in rows], pa.string()),
        }
    )


def _screen(metrics: pa.Table) -> object:
    percent = dict.fromkeys(["ap", "real", "fake"], ".1%")
    calibrated = {"threshold": ".3f", "real_calibrated": ".1%", "fake_calibrated": ".1%"}
    counts = {"num_real": "d", "num_fake": "d"}
    return screen_table(metrics, "detection per generator", {"generator": "", **percent, **calibrated, **counts})
