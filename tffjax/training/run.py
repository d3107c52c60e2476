"""Training over any number of images: a run directory, gone on with after anything."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from tffjax.data import ImageFile, find, fingerprint, plan, relative_names
from tffjax.data.augmentations import Augmentation
from tffjax.data.loading import THREADS, check_batch
from tffjax.data.preprocessing import Transform
from tffjax.data.traps import warning_of
from tffjax.errors import InputError
from tffjax.nn import Model, checkpoint, layers_of, network_of
from tffjax.pipeline import directory
from tffjax.pipeline.contents import Contents
from tffjax.pipeline.directory import Run
from tffjax.pipeline.passes import resumable
from tffjax.pipeline.provenance import run_record
from tffjax.pipeline.reporter import Reporter
from tffjax.results.figures import save_figure
from tffjax.training import loop, step
from tffjax.training.figures import training_curves
from tffjax.training.images import TrainingImages, check_labels, split
from tffjax.training.state import Epoch, Progress, States
from tffjax.training.step import Recipe


@dataclasses.dataclass(frozen=True)
class TrainRequest:
    """What is asked for; `arguments` decide on the result.

    Attributes:
        data, validation: folders of labeled images; without validation a share of the data is drawn for it.
        init: the checkpoint to start from, None for random weights of `arguments["arch"]`.
        arguments: fields of `Recipe` and `Augmentation`, `arch`, `validation_share`, `color_robust`.
        out: the run directory.
        resume, overwrite, dry_run, workers: as of `tffjax.pipeline.request.Request`.
        repeats: how many trainings, with the seeds from `arguments["seed"]` on (`tffjax.training.repeats`).
        part_of: the run directory of the repeats that this training is one of.
    """

    data: tuple[Path, ...]
    validation: tuple[Path, ...]
    init: Path | None
    arguments: dict[str, Any]
    out: Path
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    workers: int | None = None
    repeats: int = 1
    part_of: Path | None = None


def run_training(request: TrainRequest, reporter: Reporter) -> None:
    """Train, from where the run directory stands.

    Raises:
        InputError: the images, the options or the run directory do not allow it; interrupted; the disk is full.
    """
    if not request.resume:
        directory.check_free(request.out, request.overwrite)
    model = _model(request)
    recipe, images, validation, record = _prepare(request, reporter, model)
    crop = request.arguments["crop"]
    layers_of(model, jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.float32))  # the network takes such images
    head = "its own head" if request.init and checkpoint.read_card(request.init).num_outputs == 1 else "a new head"
    start = f"{request.init} with {head}" if request.init else "random weights"
    if request.dry_run:
        reporter.say(
            f"would train {model.card.architecture} from {start} on {len(images.files)} images "
            f"({images.batches} batches of {recipe.batch_size} an epoch), validate on {len(validation)}, "
            f"for at most {recipe.epochs} epochs, into {request.out}"
        )
        return
    with _opened(request, record) as run:
        states = States(run.path / "states")
        if run.done:
            states.delete()
            reporter.say(f"{request.out} is done already")
            return
        reporter.say(
            f"{model.card.architecture} from {start}: {len(images.files)} images, {len(validation)} to validate"
        )
        with reporter.busy("reading the images"):
            contents = Contents((*images.files, *validation))
            contents.load([run])
            contents.check()
            contents.read_all()
            contents.save(run)
        progress = _train(reporter, run, model, recipe, images, validation)
        _finish(reporter, run, progress)
        states.delete()


def _model(request: TrainRequest) -> Model:
    seed = request.arguments["seed"]
    if request.init is None:
        return step.from_scratch(request.arguments["arch"], seed)
    return step.as_detector(checkpoint.load(request.init), seed)


def _prepare(
    request: TrainRequest, reporter: Reporter, model: Model
) -> tuple[Recipe, TrainingImages, tuple[ImageFile, ...], dict[str, Any]]:
    """Recipe, training images, validation files, and the record of the run."""
    arguments = dict(request.arguments)
    if arguments["dropout"] is None:
        arguments["dropout"] = network_of(model.card).dropout
    fields = [field.name for field in dataclasses.fields(Recipe)]
    recipe = Recipe(**{name: arguments[name] for name in fields})
    augmentation = Augmentation(
        load_size=arguments["load_size"] or None,
        crop=arguments["crop"],
        blur=arguments["blur"],
        jpeg=arguments["jpeg"],
        grayscale=0.5 if arguments["color_robust"] else 0.0,
    )
    check_batch([(augmentation.crop, augmentation.crop)], recipe.batch_size)
    with reporter.busy("looking for images"):
        found = find(request.data, arguments["labels"])
        validating = find(request.validation, arguments["labels"])
        for warning in (*found.warnings, *validating.warnings):
            reporter.warn(warning)
        files, validation = found.files, validating.files
        check_labels(files, "training")
        if not validation:
            files, validation = split(files, arguments["validation_share"], recipe.seed)
        check_labels(validation, "validation")
        if warning := warning_of(files):
            reporter.warn(warning)
        if augmentation.load_size is None:
            _check_sizes((*files, *validation), augmentation.crop)
    workers = request.workers or THREADS
    images = TrainingImages(files, augmentation, model.card.normalization, recipe.batch_size, recipe.seed, workers)
    identity = {
        "weights": {"sha256": checkpoint.digest(model.variables), **dataclasses.asdict(model.card)},
        "images": fingerprint(files, relative_names(files)),
        "validation": fingerprint(validation, relative_names(validation)),
        "arguments": arguments,
    }
    paths = {"data": request.data, "validation": request.validation}
    record = run_record("train", identity, request.init, (*found.kinds, *validating.kinds), **paths)
    return recipe, images, validation, record


def _check_sizes(files: Sequence[ImageFile], crop: int) -> None:
    """Raise an InputError if an image is smaller than the crop."""
    for batch in plan(files, Transform(), 1, max_shapes=len(files)).batches:
        if min(batch.shape) < crop:
            height, width = batch.shape
            raise InputError(
                f"{files[batch.indices[0]].path}: {height}x{width} pixels are smaller than --crop {crop}; take a "
                f"smaller one, or resize with --load-size"
            )


@contextlib.contextmanager
def _opened(request: TrainRequest, record: dict[str, Any]) -> Iterator[Run]:
    """The run directory, made or found, and locked."""
    if request.resume:
        entered = directory.resume(request.out, record)
    else:
        entered = directory.start(request.out, record, overwrite=request.overwrite)
    with entered as run, resumable(run, f"tffjax train --resume {request.part_of or request.out}", request.resume):
        yield run


def _train(
    reporter: Reporter, run: Run, model: Model, recipe: Recipe, images: TrainingImages, validation: Sequence[ImageFile]
) -> Progress:
    done = 0
    with reporter.progress("training", recipe.epochs * images.batches, "batches") as advance:

        def report(progress: Progress, waiting: str = "") -> None:
            nonlocal done
            before, done = done, progress.epochs * images.batches + progress.batch
            advance(done - before, ", ".join(filter(None, (_note(progress, recipe.batch_size), waiting))))
            if progress.batch == 0:
                run.log("epoch", **dataclasses.asdict(progress.history[-1]))
                reporter.say(_line(progress.history[-1]))

        return loop.fit(model, recipe, images, validation, run.path, report, reporter.busy, say=reporter.say)[1]


def _line(row: Epoch) -> str:
    """What is printed of an epoch."""
    return (
        f"epoch {row.epoch}: loss {row.loss:.4f}, accuracy {row.accuracy:.1%}; validation: loss "
        f"{row.validation_loss:.4f}, accuracy {row.validation_accuracy:.1%}, AP {row.validation_ap:.1%}; "
        f"rate {row.rate:.0e}{', best so far' if row.best else ''}"
    )


def _note(progress: Progress, batch_size: int) -> str:
    """How the current epoch goes, for the progress bar."""
    now = f"epoch {progress.epochs + 1}"
    if progress.batch:
        accuracy = progress.correct / (progress.batch * batch_size)
        now += f", loss {progress.loss / progress.batch:.4f}, accuracy {accuracy:.1%}"
    if progress.history:
        now += f", validation AP {progress.history[-1].validation_ap:.1%}"
    return now


def _finish(reporter: Reporter, run: Run, progress: Progress) -> None:
    best = progress.best
    card = checkpoint.read_card(run.path / "checkpoint")
    results = {
        "epochs": progress.epochs,
        "stopped_by": "schedule" if progress.plateau.stopped else "epochs",
        "best": dataclasses.asdict(best),
        "weights_sha256": card.weights_sha256,
    }
    with run.finish() as (folder, written):
        save_figure(training_curves(progress.history), folder / "curves")
        written |= results
    run.log("done", **results)
    reporter.say(
        f"best of {progress.epochs} epochs: {best.epoch}, with a validation accuracy of {best.validation_accuracy:.1%} "
        f"({best.validation_real:.1%} of real, {best.validation_fake:.1%} of fake images) and AP "
        f"{best.validation_ap:.1%}; checkpoint in {run.path / 'checkpoint'}"
    )
