"""`tffjax train`: detectors, and color-robust ones."""

from pathlib import Path
from typing import Any

import click

from tffjax.cli.asked import record_to_resume
from tffjax.cli.console import Talk, overwrite_option, precision_option, quiet_option, refuse_unused, start_jax
from tffjax.cli.images import labels_option, workers_option
from tffjax.cli.numbers import BATCH_SIZE, SEED, SIDE, RealRange
from tffjax.errors import InputError
from tffjax.nn.networks import names
from tffjax.training.run import TrainRequest
from tffjax.training.train import run_train

_ABOUT_THE_RUN = ("data", "validation", "init", "out", "resume", "overwrite", "dry_run", "quiet", "workers")
_PROBABILITY = RealRange(0, 1)


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
    type=RealRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Without --validation: this share of DATA, drawn at random.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=100, show_default=True, help="At most.")
@click.option(
    "--batch-size", type=click.IntRange(2, BATCH_SIZE.max), default=64, show_default=True, help="Images a step."
)
@click.option("--rate", type=RealRange(0, min_open=True), default=1e-4, show_default=True, help="First learning rate.")
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Divide the rate by 10 after so many epochs without a rise of validation accuracy; end when it falls "
    "under 1e-6.",
)
@click.option("--dropout", type=RealRange(0, 1, max_open=True), help="[default: 0; EfficientNet-B0: 0.2]")
@click.option(
    "--load-size",
    type=click.IntRange(min=0),
    default=256,
    show_default=True,
    help="Resize the shorter side to this first; 0: leave images as they are.",
)
@click.option(
    "--crop", type=click.IntRange(32, SIDE.max), default=224, show_default=True, help="Side of the random crop."
)
@click.option("--blur", type=_PROBABILITY, default=0.5, show_default=True, help="Probability of blur, sigma 0 to 3.")
@click.option("--jpeg", type=_PROBABILITY, default=0.5, show_default=True, help="Probability of JPEG, quality 30-100.")
@click.option("--color-robust", is_flag=True, help="Also make every second training image gray, at random.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of everything random.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1, max=1000),
    default=1,
    show_default=True,
    help="Train so many detectors below RUN, with the seeds from --seed on; needs --validation.",
)
@precision_option
@labels_option
@workers_option
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

    With --repeats, RUN/seed-N/train are such runs, and RUN/repeats.csv has mean and spread of their scores on the
    validation images, for each generator.

    \b
    Example:
      tffjax train progan/train --validation progan/val --init imagenet --out run
      tffjax train images/ --arch efficientnet_b0 --crop 96 --load-size 0 --color-robust --out run
      tffjax train images/ --validation val/ --arch resnet50 --repeats 3 --out runs
      tffjax train --resume run
    """
    start_jax()
    run_train(_ask(context, given), Talk(given["quiet"]))


def _ask(context: click.Context, given: dict[str, Any]) -> TrainRequest:
    arguments = {name: value for name, value in given.items() if name not in _ABOUT_THE_RUN}
    repeats = arguments.pop("repeats")
    flags = {name: given[name] for name in ("overwrite", "dry_run", "workers")}
    if given["resume"] is None:
        if not given["data"] or given["out"] is None:
            raise InputError("give DATA and --out RUN, or --resume RUN; see tffjax train --help")
        if (given["init"] is None) == (given["arch"] is None):
            raise InputError("start from a checkpoint with --init, or from random weights with --arch (not both)")
        if given["validation"]:
            refuse_unused("with --validation", "validation_share")
        return TrainRequest(
            *(given[name] for name in ("data", "validation", "init")), arguments, given["out"], repeats=repeats, **flags
        )
    record = record_to_resume(context, given, arguments | {"repeats": repeats})
    kept, paths = record["identity"]["arguments"], record["paths"]
    data = given["data"] or tuple(map(Path, paths["data"]))
    validation = given["validation"] or tuple(map(Path, paths["validation"]))
    init = given["init"] or (Path(paths["weights"]) if paths["weights"] else None)
    if (made := kept.pop("repeats", 1)) != repeats and repeats > 1:
        raise InputError(f"{given['resume']} was made with repeats = {made}, not {repeats}; start another run")
    return TrainRequest(data, validation, init, kept, given["resume"], resume=True, repeats=made, **flags)
