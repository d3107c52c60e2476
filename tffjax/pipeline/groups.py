"""Small sets of images in memory, grouped by size."""

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from tffjax.data import ImageFile, Plan, batches, find, plan
from tffjax.data.loading import check_batch
from tffjax.data.preprocessing import Transform, resize
from tffjax.errors import InputError
from tffjax.files import utf8
from tffjax.pipeline.reporter import Reporter


class Group(NamedTuple):
    """Images of one size: their names and pixels."""

    names: list[str]
    pixels: UInt8[np.ndarray, "n h w 3"]


def read_groups(reporter: Reporter, paths: Sequence[Path], limit: int, transform: Transform) -> list[Group]:
    """At most `limit` images at and below the paths, see `few_images`, grouped by size.

    Raises:
        InputError: as `few_images` and `in_groups`.
    """
    return in_groups(reporter, few_images(reporter, paths, limit), paths[0], transform)


def few_images(
    reporter: Reporter, paths: Sequence[Path], limit: int, labels: str | None = None
) -> tuple[ImageFile, ...]:
    """At most `limit` images at and below the paths, of all generators and labels alike; `labels` as of `find`.

    Raises:
        InputError: as `tffjax.data`.
    """
    found = find(paths, labels)
    for warning in found.warnings:
        reporter.warn(warning)
    files = found.files
    if len(files) > limit:
        reporter.warn(f"takes {limit} of {len(files)} images, of all generators and labels alike; more with --limit")
        files = spread(files, limit)
    return files


def in_groups(reporter: Reporter, files: Sequence[ImageFile], place: Path, transform: Transform) -> list[Group]:
    """The images that can be read, grouped by size.

    Args:
        reporter: is told which ones cannot be read.
        files: the images.
        place: where they are, for the error.
        transform: resize and crop.

    Raises:
        InputError: none of the images can be read, or they take too much memory.
    """
    limit = len(files)  # also the rows of a batch
    work = plan(files, transform, limit, max_shapes=limit)
    check_batch(work.shapes, limit, "--limit")
    groups = list(_groups(reporter, work, files, transform, limit))
    if not groups:
        raise InputError(f"{place}: none of the images could be read")
    return groups


def spread(files: Sequence[ImageFile], limit: int) -> tuple[ImageFile, ...]:
    """At most `limit` files, as many of each generator and label as can be, the first ones of each; in their order."""
    turns: collections.Counter[tuple[str, int | None]] = collections.Counter()
    by_turn = []
    for index, file in enumerate(files):
        kind = file.generator, file.label
        by_turn.append((turns[kind], index))
        turns[kind] += 1
    return tuple(files[index] for index in sorted(index for _, index in sorted(by_turn)[:limit]))


def _groups(reporter: Reporter, work: Plan, files: Sequence[Any], transform: Transform, limit: int) -> Iterator[Group]:
    for reason in work.skipped.values():
        reporter.warn(f"skipped: {reason}")
    for batch in batches(work, files, transform, limit):
        for reason in batch.skipped.values():
            reporter.warn(f"skipped: {reason}")
        kept = batch.weights > 0
        if kept.any():
            yield Group([utf8(str(files[index].path)) for index in batch.indices[kept]], batch.images[kept])


def synthetic_images(size: int = 224, count: int = 2) -> Group:
    """Images of smooth colored noise under sharp noise, the same every time."""
    rng = np.random.default_rng(0)
    smooth = [resize(rng.integers(0, 256, (8, 8, 3), np.uint8), size) for _ in range(count)]
    sharp = rng.integers(-40, 41, (count, size, size, 3))
    pixels = np.clip(np.stack(smooth) + sharp, 0, 255).astype(np.uint8)
    return Group([f"synthetic {i + 1}" for i in range(count)], pixels)
