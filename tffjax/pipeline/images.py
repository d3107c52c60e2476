"""The images of a study, and the batches of all its shards."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from tffjax.data import (
    Batch,
    BatchPlan,
    ImageFile,
    Plan,
    batches,
    find,
    fingerprint,
    label_warning,
    plan,
    relative_names,
)
from tffjax.data.labels import label_word
from tffjax.data.loading import THREADS, check_batch
from tffjax.data.preprocessing import Transform
from tffjax.data.sizes import size_warnings
from tffjax.data.traps import warning_of
from tffjax.errors import InputError
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Request
from tffjax.results.generators import ALL


@dataclasses.dataclass(frozen=True)
class Images:
    """What a study goes through.

    Attributes:
        files: all images.
        names: their paths below the folder that is common to all, which identify them wherever that folder lies.
        transform: resize and crop.
        batch_size: images a pass.
        plan: the batches of all shards, and the files whose header is unreadable.
        kinds: of the sources, for the record.
        workers: images read at a time.
    """

    files: tuple[ImageFile, ...]
    names: tuple[str, ...]
    transform: Transform
    batch_size: int
    plan: Plan
    kinds: tuple[str, ...] = ()
    workers: int = THREADS

    @property
    def total(self) -> int:
        """Number of readable images."""
        return len(self.files) - len(self.plan.skipped)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Their distinct sizes; each needs one compile."""
        return self.plan.shapes

    @property
    def padded(self) -> bool:
        """Whether images are filled up to common sizes."""
        return any(batch.sizes is not None for batch in self.plan.batches)

    @property
    def read(self) -> Callable[..., Iterator[Batch]]:
        """What turns a plan into batches: `tffjax.data.batches`, or a function of the same arguments."""
        return functools.partial(batches, threads=self.workers)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What tells this list of images from another."""
        return fingerprint(self.files, self.names)

    def batches(self, only: Collection[int] | None = None) -> tuple[BatchPlan, ...]:
        """The batches of a pass over all images, or over some of them, given by their indices."""
        if only is None:
            return self.plan.batches
        if self.padded:
            raise ValueError("a pass over some images does not know the sizes of padded ones")
        by_shape: dict[tuple[int, int], list[int]] = {}
        for batch in self.plan.batches:
            by_shape.setdefault(batch.shape, []).extend(index for index in batch.indices if index in only)
        return tuple(
            BatchPlan(shape, tuple(members[start : start + self.batch_size]))
            for shape, members in by_shape.items()
            for start in range(0, len(members), self.batch_size)
        )

    def rows(self, batch: Batch) -> tuple[np.ndarray, dict[str, Any]]:
        """The rows of a batch that hold images, and who they are: index, path, generator, category, label."""
        present = np.flatnonzero(batch.weights > 0)
        indices = batch.indices[present].tolist()
        files = [self.files[index] for index in indices]
        return present, {
            "index": indices,
            "path": [self.names[index] for index in indices],
            "generator": [file.generator for file in files],
            "category": [file.category for file in files],
            "label": [label_word(file.label) for file in files],
        }


def images_in(batches: Sequence[BatchPlan]) -> int:
    """How many images some batches hold."""
    return sum(len(batch.indices) for batch in batches)


def default_batch_size() -> int:
    """What a pass takes at once where nobody says."""
    return 16 if jax.default_backend() == "cpu" else 128


def images_for(study: Any, request: Request, reporter: Reporter) -> Images:
    """The images that a study goes through: those that it makes, if it has a method `images(request)`, or `images_of`.

    Raises:
        InputError: as either.
    """
    return study.images(request) if hasattr(study, "images") else images_of(request, reporter)


def images_of(request: Request, reporter: Reporter) -> Images:
    """The images that a request names.

    Raises:
        InputError: as `tffjax.data`, a batch takes too much memory, or an image's header is unreadable and the study is
            strict.
    """
    reading = request.reading
    batch_size = reading.batch_size or default_batch_size()
    with reporter.busy("looking for images"):
        found = find(request.data, reading.labels)
        files = found.files
        transform = Transform(reading.resize, reading.crop, reading.random_crop)
        work = plan(files, transform, batch_size, reading.max_shapes, reading.pad_to)
        check_batch(work.shapes, batch_size)
    if any(file.generator == ALL for file in files):
        raise InputError(
            f"a generator is called {ALL}, which tables call the images of all generators; rename its folder"
        )
    if work.skipped and reading.strict:
        raise InputError(f"{len(work.skipped)} images are unreadable (--strict): {next(iter(work.skipped.values()))}")
    for warning in found.warnings:
        reporter.warn(warning)
    for warning in (label_warning(files), warning_of(files), *size_warnings(files, transform)):
        if warning:
            reporter.warn(warning)
    return Images(files, relative_names(files), transform, batch_size, work, found.kinds, request.workers or THREADS)
