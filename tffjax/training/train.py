"""Training as a Python function."""

from collections.abc import Sequence
from pathlib import Path

from tffjax.errors import InputError
from tffjax.pipeline import directory
from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.results.run_result import RunResult
from tffjax.studies.call import PathLike, paths_of
from tffjax.training.repeats import run_repeats
from tffjax.training.run import TrainRequest, run_training


def run_train(request: TrainRequest, reporter: Reporter) -> None:
    """Train a detector, or several.

    Raises:
        InputError: as `run_training` and `run_repeats`.
    """
    (run_repeats if request.repeats > 1 else run_training)(request, reporter)


def train(
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    init: PathLike | None = None,
    arch: str | None = None,
    validation: PathLike | Sequence[PathLike] = (),
    validation_share: float = 0.1,
    epochs: int = 100,
    batch_size: int = 64,
    rate: float = 1e-4,
    patience: int = 5,
    dropout: float | None = None,
    load_size: int = 256,
    crop: int = 224,
    blur: float = 0.5,
    jpeg: float = 0.5,
    color_robust: bool = False,
    seed: int = 0,
    precision: str = "float32",
    labels: str | None = None,
    repeats: int = 1,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> RunResult:
    """Train a detector of generated images, as Wang et al. (CVPR 2020) do (SPEC 8).

    Args:
        data: folders of labeled images, `<generator>/{0_real,1_fake}/...`.
        out: the run directory; an unfinished run of the same request there is gone on with.
        init: checkpoint to start from, an ImageNet network, whose head is replaced, or a detector.
        arch: or random weights of this network.
        validation: folders of images to validate on; without any, `validation_share` of the data is drawn at random.
        epochs, batch_size, rate, patience, dropout, seed, precision: as of `tffjax.training.step.Recipe`; dropout None
            is the network's own.
        load_size: the shorter side becomes so many pixels first; 0 leaves images as they are.
        crop: side of the random crop.
        blur, jpeg: probabilities of blur and of JPEG compression.
        color_robust: also make every second training image gray, at random.
        labels: names of the folders of the labels, as of `tffjax.rank`.
        repeats: train so many detectors, with the seeds from `seed` on, each in a run directory `seed-N/train` below
            `out`, and score them on the images of `validation`.
        overwrite: start anew, whatever `out` holds of a run.
        reporter: where words go; None prints plain lines on standard error.

    Returns:
        The run: `table("train")` (an epoch a row); `folder / "checkpoint"` holds the weights of the best epoch. Of
        repeats: `table("repeats")`, mean and spread of the scores of each generator, and `table("seeds")`.

    Raises:
        InputError: the images, the options or the run directory do not allow it.
    """
    if (init is None) == (arch is None):
        raise InputError("start from a checkpoint with init, or from random weights with arch (not both)")
    out = Path(out)
    options = {"validation_share": validation_share, "epochs": epochs, "batch_size": batch_size, "rate": rate,
               "patience": patience, "dropout": dropout, "load_size": load_size, "crop": crop, "blur": blur,
               "jpeg": jpeg, "color_robust": color_robust, "seed": seed, "precision": precision,
               "labels": labels, "arch": arch}  # fmt: skip
    resume = (out / directory.RECORD).exists() and not overwrite
    init = Path(init) if init is not None else None
    request = TrainRequest(paths_of(data), paths_of(validation), init, options, out, resume, overwrite,
                           repeats=repeats)  # fmt: skip
    run_train(request, reporter or Lines())
    return RunResult(out)
