"""`tffjax train`: detectors, and color-robust ones."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from tffjax import __version__
from tffjax.cli.asked import record_to_resume
from tffjax.cli.console import Talk, overwrite_option, precision_option, quiet_option, refuse_unused, start_jax
from tffjax.cli.images import warn_left_out
from tffjax.data import ImageFile, find_images, fingerprint, plan, relative_names
from tffjax.data.augmentations import Augmentation
from tffjax.data.preprocessing import Transform
from tffjax.errors import InputError
from tffjax.nn import Model, checkpoint, network_of
from tffjax.nn.networks import names
from tffjax.pipeline import directory as runs
from tffjax.pipeline.directory import Run
from tffjax.pipeline.passes import environment, resumable
from tffjax.results.figures import save_figure
from tffjax.training import loop as fit
from tffjax.training import step as training
from tffjax.training.figures import training_curves
from tffjax.training.images import TrainingImages, check_labels, split
from tffjax.training.state import Epoch, Progress, States
from tffjax.training.step import Recipe

_ABOUT_THE_RUN = ("data", "validation", "init", "out", "resume", "overwrite", "dry_run", "quiet")
_PROBABILITY = click.FloatRange(0, 1)


@click.command()
@click.argument("data", type=click.Path(path_type=Path), nargs=-1, metavar="DATA...")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory to make.")
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Go on with an interrupted run; all else is taken from there."
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="CHECKPOINT",
    help="Start from a converted ImageNet network, whose head is replaced, or from a detector.",
)
@click.option("--arch", type=click.Choice(names()), help="Start from random weights of this network.")
@click.option(
    "--validation", type=click.Path(path_type=Path), multiple=True, metavar="DIR", help="Images to validate on."
)
@click.option(
    "--validation-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Without --validation: this share of DATA, drawn at random.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=100, show_default=True, help="At most.")
@click.option("--batch-size", type=click.IntRange(min=2), default=64, show_default=True, help="Images a step.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), default=1e-4, show_default=True, help="First learning rate."
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Divide the rate by 10 after so many epochs without a rise of validation accuracy; end when it falls "
    "under 1e-6.",
)
@click.option("--dropout", type=click.FloatRange(0, 1, max_open=True), help="[default: 0; EfficientNet-B0: 0.2]")
@click.option(
    "--load-size",
    type=click.IntRange(min=0),
    default=256,
    show_default=True,
    help="Resize the shorter side to this first; 0: leave images as they are.",
)
@click.option("--crop", type=click.IntRange(min=32), default=224, show_default=True, help="Side of the random crop.")
@click.option("--blur", type=_PROBABILITY, default=0.5, show_default=True, help="Probability of blur, sigma 0 to 3.")
@click.option("--jpeg", type=_PROBABILITY, default=0.5, show_default=True, help="Probability of JPEG, quality 30-100.")
@click.option("--color-robust", is_flag=True, help="Also make every second training image gray, at random.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random.")
@precision_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, then stop.")
@overwrite_option
@quiet_option
@click.pass_context
def train(context: click.Context, **given: Any) -> None:
    """Train a detector of generated images, as Wang et al. (CVPR 2020) do.

    DATA are folders of labeled images: <generator>/0_real/, <generator>/1_fake/, as in ForenSynths. Training is by
    Adam with random crops, flips, blur and JPEG; the learning rate falls when validation accuracy stops rising.

    RUN/checkpoint holds the weights of the best epoch, for every other command; `tffjax convert --to torch` turns them
    into a PyTorch file. RUN/last holds those of the last epoch; train.csv and curves.png say how it went. An
    interrupted run goes on with --resume RUN and ends as if it had not been interrupted.

    \b
    Example:
      tffjax train progan/train --validation progan/val --init imagenet --out run
      tffjax train images/ --arch efficientnet_b0 --crop 96 --load-size 0 --color-robust --out run
      tffjax train --resume run
    """
    talk = Talk(given["quiet"])
    start_jax()
    asked = _ask(context, given)
    if not asked.resume:
        runs.check_free(asked.run, asked.overwrite)
    model = _model(asked)
    recipe, images, validation, record = _prepare(asked, talk, model)
    head = "its own head" if asked.init and checkpoint.read_card(asked.init).num_outputs == 1 else "a new head"
    start = f"{asked.init} with {head}" if asked.init else "random weights"
    if asked.dry_run:
        talk.say(f"would train {model.card.architecture} from {start} on {len(images.files)} images "
                 f"({images.batches} batches of {recipe.batch_size} an epoch), validate on {len(validation)}, "
                 f"for at most {recipe.epochs} epochs, into {asked.run}")  # fmt: skip
        return
    with _opened(asked, record) as run:
        states = States(run.path / "states")
        if run.done:
            states.delete()
            talk.say(f"{asked.run} is done already")
            return
        talk.say(f"{model.card.architecture} from {start}: {len(images.files)} images, {len(validation)} to validate")
        progress = _train(talk, run, model, recipe, images, validation)
        _finish(talk, run, progress)
        states.delete()


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is asked for, from the command line or from the run that is resumed; `arguments` decide on the result."""

    data: tuple[Path, ...]
    validation: tuple[Path, ...]
    init: Path | None
    arguments: dict[str, Any]
    run: Path
    resume: bool
    overwrite: bool
    dry_run: bool


def _ask(context: click.Context, given: dict[str, Any]) -> Asked:
    arguments = {name: value for name, value in given.items() if name not in _ABOUT_THE_RUN}
    flags = {name: given[name] for name in ("overwrite", "dry_run")}
    if given["resume"] is None:
        if not given["data"] or given["out"] is None:
            raise InputError("give DATA and --out RUN, or --resume RUN; see tffjax train --help")
        if (given["init"] is None) == (given["arch"] is None):
            raise InputError("start from a checkpoint with --init, or from random weights with --arch (not both)")
        if given["validation"]:
            refuse_unused("with --validation", "validation_share")
        return Asked(given["data"], given["validation"], given["init"], arguments, given["out"], resume=False, **flags)
    record = record_to_resume(context, given, arguments)
    kept, paths = record["identity"]["arguments"], record["paths"]
    data = given["data"] or tuple(map(Path, paths["data"]))
    validation = given["validation"] or tuple(map(Path, paths["validation"]))
    init = given["init"] or (Path(paths["weights"]) if paths["weights"] else None)
    return Asked(data, validation, init, kept, given["resume"], resume=True, **flags)


def _model(asked: Asked) -> Model:
    seed = asked.arguments["seed"]
    if asked.init is None:
        return training.from_scratch(asked.arguments["arch"], seed)
    return training.as_detector(checkpoint.load(asked.init), seed)


def _prepare(
    asked: Asked, talk: Talk, model: Model
) -> tuple[Recipe, TrainingImages, tuple[ImageFile, ...], dict[str, Any]]:
    """Recipe, training images, validation files, and the record of the run."""
    arguments = dict(asked.arguments)
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
    with talk.busy("looking for images"):
        files = find_images(asked.data)
        check_labels(files, "training")
        if asked.validation:
            validation = find_images(asked.validation)
        else:
            files, validation = split(files, arguments["validation_share"], recipe.seed)
        check_labels(validation, "validation")
        if augmentation.load_size is None:
            _check_sizes((*files, *validation), augmentation.crop)
    warn_left_out(talk, (*asked.data, *asked.validation))
    images = TrainingImages(files, augmentation, model.card.normalization, recipe.batch_size, recipe.seed)
    record = {
        "command": "train",
        "tffjax": __version__,
        "identity": {
            "weights": {"sha256": checkpoint.digest(model.variables), **dataclasses.asdict(model.card)},
            "images": fingerprint(files, relative_names(files)),
            "validation": fingerprint(validation, relative_names(validation)),
            "arguments": arguments,
        },
        "paths": {
            "weights": str(asked.init.absolute()) if asked.init else None,
            "data": [str(path.absolute()) for path in asked.data],
            "validation": [str(path.absolute()) for path in asked.validation],
        },
        "environment": environment(),
    }
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
def _opened(asked: Asked, record: dict[str, Any]) -> Iterator[Run]:
    """The run directory, made or found, and locked."""
    if asked.resume:
        entered = runs.resume(asked.run, record)
    else:
        entered = runs.start(asked.run, record, overwrite=asked.overwrite)
    with entered as run, resumable(run, f"tffjax train --resume {asked.run}", asked.resume):
        yield run


def _train(
    talk: Talk, run: Run, model: Model, recipe: Recipe, images: TrainingImages, validation: Sequence[ImageFile]
) -> Progress:
    done = 0
    with talk.progress("training", recipe.epochs * images.batches, "batches") as advance:

        def report(progress: Progress) -> None:
            nonlocal done
            before, done = done, progress.epochs * images.batches + progress.batch
            advance(done - before, _note(progress, recipe.batch_size))
            if progress.batch == 0:
                run.log("epoch", **dataclasses.asdict(progress.history[-1]))
                talk.say(_line(progress.history[-1]))

        return fit.fit(model, recipe, images, validation, run.path, report, talk.busy, say=talk.say)[1]


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


def _finish(talk: Talk, run: Run, progress: Progress) -> None:
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
    talk.say(
        f"best of {progress.epochs} epochs: {best.epoch}, with a validation accuracy of {best.validation_accuracy:.1%} "
        f"({best.validation_real:.1%} of real, {best.validation_fake:.1%} of fake images) and AP "
        f"{best.validation_ap:.1%}; checkpoint in {run.path / 'checkpoint'}"
    )
