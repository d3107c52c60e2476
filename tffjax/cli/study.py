"""What the studies share that go through many images: preparing, a run directory, resuming, several processes."""

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import pyarrow as pa

from tffjax import __version__, runs
from tffjax.cli.asked import Asked
from tffjax.cli.console import Talk, compile_pass
from tffjax.cli.images import default_batch_size, warn_left_out
from tffjax.compile.placement import put_model
from tffjax.data import (
    Batch,
    BatchPlan,
    ImageFile,
    Plan,
    Variant,
    find_images,
    fingerprint,
    label_warning,
    plan,
    relative_names,
)
from tffjax.distributed import gather_bytes, share, wait_for_all
from tffjax.errors import InputError
from tffjax.ffrs import LABELS
from tffjax.nn import Model, checkpoint, network_of
from tffjax.preprocessing import Transform
from tffjax.rankings import Channel, check_channels, read_ranking
from tffjax.runs import Run
from tffjax.streaming import stream
from tffjax.tables import write_table

SAVE_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Job:
    """A study ready to run.

    Attributes:
        asked: the question.
        talk: where words go.
        model: the checkpoint.
        files: all images.
        names: their paths below the folder that is common to all, which identify them wherever that folder lies.
        transform: resize and crop.
        batch_size: images a pass.
        work: the batches of this process.
        all_batches: those of all processes.
        total: number of readable images of all processes.
        record: of the run directory.
    """

    asked: Asked
    talk: Talk
    model: Model
    files: tuple[ImageFile, ...]
    names: tuple[str, ...]
    transform: Transform
    batch_size: int
    work: Plan
    all_batches: tuple[BatchPlan, ...]
    total: int
    record: dict[str, Any]


def prepare(asked: Asked, talk: Talk, **extra: Any) -> Job:
    """Load the weights, find the images, plan the batches; `extra` becomes part of the run's identity.

    Raises:
        InputError: as `tffjax.nn.checkpoint.load` and `tffjax.data`; the run directory cannot be used.
    """
    if not asked.resume:
        runs.check_free(asked.run, asked.overwrite)
        wait_for_all("run directory looked at", asked.process)
    model = checkpoint.load(asked.weights)
    with talk.busy("looking for images"):
        files = find_images(asked.data)
        arguments = {**asked.arguments, "batch_size": asked.arguments["batch_size"] or default_batch_size()}
        transform = Transform(arguments["resize"], arguments["crop"], arguments.get("random_crop"))
        work = plan(files, transform, arguments["batch_size"], arguments["max_shapes"])
    if work.skipped and arguments["strict"]:
        raise InputError(f"{len(work.skipped)} images are unreadable (--strict): {next(iter(work.skipped.values()))}")
    warn_left_out(talk, asked.data)
    if warning := label_warning(files):
        talk.warn(warning)
    names = relative_names(files)
    record = {
        "command": asked.command,
        "tffjax": __version__,
        "identity": {
            "weights": dataclasses.asdict(model.card),
            "images": fingerprint(files, names),
            "arguments": arguments,
            "processes": asked.process.count,
            **extra,
        },
        "paths": {"weights": str(asked.weights.absolute()), "data": [str(path.absolute()) for path in asked.data]},
        "environment": environment(),
    }
    return Job(
        asked,
        talk,
        put_model(model, arguments["batch_size"]),
        files,
        names,
        transform,
        arguments["batch_size"],
        share(work, asked.process),
        work.batches,
        len(files) - len(work.skipped),
        record,
    )


def environment() -> dict[str, Any]:
    """Versions and devices."""
    packages = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow")
    devices = [device.device_kind for device in jax.devices()]
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "machine": f"{platform.system()} {platform.machine()}",
        "devices": {kind: devices.count(kind) for kind in dict.fromkeys(devices)},
    }


@contextlib.contextmanager
def opened(job: Job) -> Iterator[Run]:
    """The run directory, made or found, and locked.

    Raises:
        InputError: as `tffjax.runs` and `resumable`.
    """
    asked = job.asked
    if not asked.resume and asked.process.index:
        wait_for_all("run directory made", asked.process)
    if asked.resume or asked.process.index:
        entered = runs.resume(asked.run, job.record, process=asked.process.index)
    else:
        entered = runs.start(asked.run, job.record, overwrite=asked.overwrite)
    with entered as run:
        if not asked.resume and not asked.process.index:
            wait_for_all("run directory made", asked.process)
        with resumable(run, asked.command, asked.resume):
            yield run


@contextlib.contextmanager
def resumable(run: Run, command: str, resumed: bool) -> Iterator[None]:
    """Log that work on a run begins; what interrupts the block is turned into one line that says how to go on.

    Raises:
        InputError: interrupted; the disk is full.
    """
    again = f"go on with: tffjax {command} --resume {run.path}"
    try:
        run.log("resumed" if resumed else "started", environment=environment())
        yield
    except KeyboardInterrupt:
        raise InputError(f"interrupted; {again}") from None
    except OSError as error:
        raise InputError(
            f"{error.filename or run.path}: {error.strerror or error}; when that is mended, {again}"
        ) from None


def compile_shapes(
    job: Job, model: Model, what: str, function: Callable[..., Any], *row_types: Any, variants: int = 0
) -> dict[tuple[int, int], Callable[..., Any]]:
    """Programs of pixels, see `compile_pass`, for every size of the images.

    With `variants`, the pixels are (n, 1 + variants, h, w, 3).
    """
    before = (job.batch_size, 1 + variants) if variants else (job.batch_size,)
    return {
        size: compile_pass(job.talk, what, function, model, (*before, *size, 3), *row_types) for size in job.work.shapes
    }


@runtime_checkable
class Sums(Protocol):
    """What a study keeps from batch to batch."""

    def add(self, batch: Batch, outputs: Any) -> str:
        """Take in a batch; returns a word on how it goes, for the progress bar."""

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Be as when `state` was taken."""


def go_through(
    job: Job,
    run: Run,
    what: str,
    step: Callable[[Batch], Any],
    sums: Sums,
    variants: Sequence[Variant] = (),
    stage: int = 0,
    save_seconds: float = SAVE_SECONDS,
) -> dict[int, str]:
    """Bring all batches of this process through `step` into `sums`, from where the run stands; saves its state.

    `variants` as in `tffjax.data.batches`. A study that goes through images several times numbers its stages; what the
    earlier ones found stays in the state.

    Returns:
        Index of a file that turned out unreadable -> why.

    Raises:
        InputError: an image is unreadable and the study is strict.
    """
    position, skipped = 0, dict(job.work.skipped)
    saved = run.load_state()
    stages = saved[1] if saved else {}
    ours = {name.removeprefix(f"{stage}/"): array for name, array in stages.items() if name.startswith(f"{stage}/")}
    if ours:
        position = int(ours.pop("position"))
        skipped = {int(index): reason for index, reason in json.loads(ours.pop("skipped").tobytes()).items()}
        sums.restore(ours)

    def save() -> None:
        reasons = np.frombuffer(json.dumps(skipped).encode(), np.uint8)
        ours = {**sums.state(), "position": np.array(position), "skipped": reasons}
        run.save_state(position, stages | {f"{stage}/{name}": array for name, array in ours.items()})

    count = sum(len(batch.indices) for batch in job.work.batches)
    with job.talk.progress(what, count, "images") as advance:
        advance(sum(len(batch.indices) for batch in job.work.batches[:position]))
        saved_at = time.monotonic()
        for done in stream(step, job.work, job.files, job.transform, job.batch_size, variants, position):
            skipped |= done.batch.skipped
            if done.batch.skipped and job.asked.arguments["strict"]:
                raise InputError(f"an image is unreadable (--strict): {next(iter(done.batch.skipped.values()))}")
            advance(int((done.batch.indices >= 0).sum()), sums.add(done.batch, done.outputs))
            position = done.position
            if time.monotonic() - saved_at > save_seconds:
                save()
                saved_at = time.monotonic()
    save()
    return skipped


def chosen_k(job: Job) -> int:
    """How many channels count as the top ones: --k, or as many as in the paper.

    Raises:
        InputError: neither is there.
    """
    k = job.asked.arguments["k"] or network_of(job.model.card).paper_k
    if k is None:
        raise InputError(f"the paper has no number of channels for {job.model.card.architecture}; give --k")
    return k


def chosen_channels(job: Job) -> tuple[Channel, ...]:
    """The first --k channels of --ranking.

    Raises:
        InputError: no ranking, a ranking of another network or with fewer channels, no number of channels.
    """
    path = job.asked.arguments["ranking"]
    if path is None:
        raise InputError("give --ranking RANK.csv, such as tffjax rank writes")
    k = chosen_k(job)
    channels = read_ranking(Path(path)).channels
    check_channels(channels, job.model)
    if k > len(channels):
        raise InputError(f"{path} has {len(channels)} channels, fewer than --k {k}")
    return channels[:k]


def row_columns(job: Job, batch: Batch) -> tuple[np.ndarray, dict[str, Any]]:
    """The rows of a batch that hold images, and who they are: index, path, generator, category, label."""
    present = np.flatnonzero(batch.weights > 0)
    indices = batch.indices[present].tolist()
    files = [job.files[index] for index in indices]
    labels = [None if file.label is None else LABELS[file.label] for file in files]
    return present, {
        "index": indices,
        "path": [job.names[index] for index in indices],
        "generator": [file.generator for file in files],
        "category": [file.category for file in files],
        "label": labels,
    }


def gather_skipped(job: Job, skipped: dict[int, str]) -> dict[int, str]:
    """What all processes skipped, by index of the file; all of them must call this.

    Raises:
        InputError: none of the images could be read.
    """
    everyone: dict[int, str] = {}
    for part in gather_bytes(json.dumps(skipped).encode(), job.asked.process):
        everyone |= {int(index): reason for index, reason in json.loads(part).items()}
    if len(everyone) == len(job.files):
        raise InputError(f"none of the images could be read: {next(iter(everyone.values()))}")
    return dict(sorted(everyone.items()))


def write_skipped(job: Job, skipped: dict[int, str], folder: Path) -> None:
    """Write skipped.csv and name the first on the screen."""
    for reason in list(skipped.values())[:20]:
        job.talk.warn(f"skipped: {reason}")
    if len(skipped) > 20:
        job.talk.warn(f"... and {len(skipped) - 20} more, all in skipped.csv")
    columns = {"path": [job.names[index] for index in skipped], "reason": list(skipped.values())}
    write_table(pa.table(columns, schema=pa.schema(dict.fromkeys(columns, pa.string()))), folder / "skipped.csv")
