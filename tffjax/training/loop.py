"""Training a detector, epoch by epoch; killed at any moment and called again, it ends with the same weights.

RUN/train.csv       one row an epoch, and in full precision train.parquet
RUN/checkpoint/     the best weights so far (`tffjax.nn.checkpoint`)
RUN/last/           the weights of the last epoch, once training is over
RUN/states/STEP/    the latest state (`tffjax.training.state`), until then
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from tffjax.compile.logits import logits_of
from tffjax.compile.placement import put, put_model
from tffjax.compile.products import products
from tffjax.data import Batch, ImageFile, plan
from tffjax.data.preprocessing import Transform
from tffjax.errors import InputError
from tffjax.lrp.prepare import prepare
from tffjax.nn import Model, checkpoint
from tffjax.nn.normalization import normalized
from tffjax.pipeline.streaming import stream
from tffjax.pipeline.waiting import Waiting
from tffjax.results.metrics import measure
from tffjax.results.tables import write_table
from tffjax.studies.predictions import fake_score
from tffjax.training import step as training
from tffjax.training.images import TrainingImages, check_labels
from tffjax.training.schedule import Plateau
from tffjax.training.state import Epoch, Progress, States, Validation
from tffjax.training.step import Recipe

SAVE_SECONDS = 20.0
SAVING_SHARE = 0.05  # of the time at most, where saving is slow


def fit(
    model: Model,
    recipe: Recipe,
    images: TrainingImages,
    validation: Sequence[ImageFile],
    folder: Path,
    report: Callable[..., None] = lambda progress, waiting="": None,
    busy: Callable[[str], Any] = contextlib.nullcontext,
    save_seconds: float = SAVE_SECONDS,
    say: Callable[[str], Any] = lambda text: None,
) -> tuple[Model, Progress]:
    """Train until the schedule stops or the epochs are over, from where the states in `folder` stand.

    Validation images are resized as the training images are and cropped centrally. The best epoch is that of the
    highest validation accuracy, then AP, then the earliest.

    Args:
        model: to start from, as `tffjax.training.step.from_scratch` and `as_detector` give it.
        recipe: hyperparameters.
        images: to train on.
        validation: labeled files, of both labels.
        folder: the run directory.
        report: called with the progress after every batch and every epoch, and in the former case with what the run
            waits for, in words.
        busy: called with a word on what is going on; the value is entered as a context.
        say: called with what the compiled step computes its products in, where that is not float32 on a CPU.
        save_seconds: save the state in the middle of an epoch when so much time has passed.

    Returns:
        The best model, as saved, and the final progress.

    Raises:
        InputError: as `TrainingImages`; the loss is NaN or infinite; a state that cannot be read.
    """
    validate = _validation(images, validation, recipe.batch_size)
    for leftover in folder.glob(".*.tmp*"):  # of a killed process
        delete(leftover)
    states = States(folder / "states")
    fresh = training.start(model), Progress(plateau=Plateau(recipe.rate, recipe.patience))
    state, progress = states.load(fresh[0]) or fresh
    state = put_model(state, recipe.batch_size)
    crop = images.augmentation.crop
    with busy(f"compiling a training step for {crop}x{crop} (the first time takes a while, later runs find it in the "
              "cache)"):  # fmt: skip
        step = training.compile_step(model, recipe, state, crop)
    if recipe.precision != "float32" or jax.default_backend() != "cpu":
        say(f"the compiled step has {products(step.as_text())}")
    saved_at, pause = time.monotonic(), save_seconds
    while not progress.over(recipe.epochs):
        rate = np.float32(progress.plateau.rate)
        waiting = Waiting()
        for batch, labels in waiting.reading(images.epoch(progress.epochs, progress.batch)):
            with waiting.computing():
                state, loss, logits = step(state, put(batch), put(labels), rate)
                progress = progress.after_batch(float(loss), int(((np.asarray(logits) > 0) == (labels > 0)).sum()))
            if not np.isfinite(progress.loss):
                raise InputError("the loss is NaN or infinite; start another run with a lower --rate")
            report(progress, str(waiting))
            if time.monotonic() - saved_at > pause:
                started = time.monotonic()
                states.save(state, progress)
                saved_at = time.monotonic()
                pause = max(save_seconds, (saved_at - started) / SAVING_SHARE)
        with busy("validating"):
            progress = progress.after_epoch(validate(training.trained(model, state)), recipe.batch_size)
        if progress.history[-1].best:
            checkpoint.save(training.trained(model, state), folder / "checkpoint", overwrite=True)
        write_table(history_table(progress.history), folder / "train")
        states.save(state, progress)
        saved_at = time.monotonic()
        report(progress)
    checkpoint.save(training.trained(model, state), folder / "last", overwrite=True)
    return checkpoint.load(folder / "checkpoint"), progress


def history_table(history: Sequence[Epoch]) -> pa.Table:
    """One row an epoch."""
    return pa.Table.from_pylist([dataclasses.asdict(epoch) for epoch in history])


def _validation(images: TrainingImages, files: Sequence[ImageFile], batch_size: int) -> Callable[[Model], Validation]:
    """What validates a model; compiled at its first call."""
    check_labels(files, "validation")
    transform = Transform(images.augmentation.load_size, images.augmentation.crop)
    work = plan(files, transform, batch_size)

    def validate(model: Model) -> Validation:
        prepared = prepare(model, size=(images.augmentation.crop,) * 2)

        def step(batch: Batch) -> jax.Array:
            return logits_of(prepared, normalized(put(batch.images), images.normalization))

        found, labels = [], []
        for done in stream(step, work, files, transform, batch_size):
            rows = np.flatnonzero(done.batch.weights)
            found.append(done.outputs[rows, 0])
            labels.append([files[index].label for index in done.batch.indices[rows]])
        return validation_of(np.concatenate(found), np.concatenate(labels).astype(np.int64), model)

    return validate


def validation_of(logits: np.ndarray, labels: np.ndarray, model: Model) -> Validation:
    """Loss, accuracy and AP of logits (n,) against labels (n,), 1 for fake.

    Raises:
        InputError: a label is missing because its images could not be read.
    """
    if not 0 < labels.sum() < len(labels):
        raise InputError("the validation images that can be read do not have both labels")
    metrics = measure(fake_score(logits, model.card), labels)
    return Validation(
        loss=float(np.mean(np.logaddexp(0, logits.astype(np.float64)) - logits * labels)),
        accuracy=metrics.accuracy,
        ap=metrics.ap,
        real=metrics.real,
        fake=metrics.fake,
    )
