"""What commands that read images share: options, and small sets of images in memory."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from jaxtyping import UInt8

from tffjax.cli.console import Talk
from tffjax.data import Plan, batches, find_images, other_extensions, plan
from tffjax.data.preprocessing import Transform, resize
from tffjax.errors import InputError

_SIZE_OPTIONS = (
    click.option("--resize", type=click.IntRange(min=1), help="Resize the shorter side to this many pixels."),
    click.option("--crop", type=click.IntRange(min=1), help="Crop a square of this size from the center."),
)
_BATCH_OPTIONS = (
    click.option("--batch-size", type=click.IntRange(min=1), help="Images a pass. [default: 16 on a CPU, else 128]"),
    click.option(
        "--max-shapes",
        type=click.IntRange(min=1),
        default=8,
        show_default=True,
        help="Refuse more different image sizes than this; each needs a compile.",
    ),
    click.option("--strict", is_flag=True, help="Fail if an image is unreadable, instead of skipping it."),
)


def size_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--resize and --crop."""
    return _apply(_SIZE_OPTIONS, command)


def image_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that go through any number of images."""
    return _apply((*_SIZE_OPTIONS, *_BATCH_OPTIONS), command)


def _apply(options: Sequence[Callable[..., Any]], command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


def warn_left_out(talk: Talk, paths: Sequence[Path]) -> None:
    """Say which files were not taken for images."""
    for suffix, count in other_extensions(paths).items():
        talk.warn(f"left out {count} files ending in {suffix or 'nothing'}")


class Group(NamedTuple):
    """Images of one size: their names and pixels."""

    names: list[str]
    pixels: UInt8[np.ndarray, "n h w 3"]


def read_groups(talk: Talk, paths: Sequence[Path], limit: int, transform: Transform) -> list[Group]:
    """The first `limit` images at and below the paths, grouped by size.

    Raises:
        InputError: as `tffjax.data`, or none of the images can be read.
    """
    files = find_images(paths)
    if len(files) > limit:
        talk.warn(f"takes the first {limit} of {len(files)} images; more with --limit")
        files = files[:limit]
    work = plan(files, transform, limit, max_shapes=limit)
    groups = list(_groups(talk, work, files, transform, limit))
    if not groups:
        raise InputError(f"{paths[0]}: none of the images could be read")
    return groups


def _groups(talk: Talk, work: Plan, files: Sequence[Any], transform: Transform, limit: int) -> Iterator[Group]:
    for reason in work.skipped.values():
        talk.warn(f"skipped: {reason}")
    for batch in batches(work, files, transform, limit):
        for reason in batch.skipped.values():
            talk.warn(f"skipped: {reason}")
        kept = batch.weights > 0
        if kept.any():
            yield Group([str(files[index].path) for index in batch.indices[kept]], batch.images[kept])


def synthetic_images(size: int = 224, count: int = 2) -> Group:
    """Images of smooth colored noise under sharp noise, the same every time."""
    rng = np.random.default_rng(0)
    smooth = [resize(rng.integers(0, 256, (8, 8, 3), np.uint8), size) for _ in range(count)]
    sharp = rng.integers(-40, 41, (count, size, size, 3))
    pixels = np.clip(np.stack(smooth) + sharp, 0, 255).astype(np.uint8)
    return Group([f"synthetic {i + 1}" for i in range(count)], pixels)
