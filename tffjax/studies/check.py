"""The account of relevance on a few images, of any sizes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp

from tffjax.data.preprocessing import Transform, normalize
from tffjax.lrp.conservation import Check, check_model
from tffjax.nn import Model
from tffjax.nn.input_scale import scale_warning
from tffjax.pipeline.groups import read_groups, synthetic_images
from tffjax.pipeline.programs import FIRST_TIME
from tffjax.pipeline.reporter import Reporter
from tffjax.results.words import number_of


def check_images(
    model: Model,
    paths: Sequence[Path],
    limit: int,
    transform: Transform,
    output: int | None,
    composite: str,
    reporter: Reporter,
) -> Iterator[tuple[str, Check]]:
    """What `tffjax.check_model` finds on the images of each size, and in words which these are.

    Args:
        paths: images and folders; none of them means two synthetic images.
        limit: at most so many images.
        output: which output is explained; None is the largest.

    Raises:
        InputError: as `tffjax.data` and `check_model`.
    """
    groups = read_groups(reporter, paths, limit, transform) if paths else [synthetic_images()]
    for group in groups:
        images = jnp.asarray(normalize(group.pixels, model.card.normalization))
        if paths and (warning := scale_warning(model, images)):
            reporter.warn(warning)
        height, width = images.shape[1:3]
        what = f"{number_of(len(group.names), 'image')} of {height}x{width}"
        with reporter.busy(f"compiling and explaining {what} ({FIRST_TIME})"):
            found = check_model(model, images, target="top" if output is None else output, composite=composite)
        yield what, found
