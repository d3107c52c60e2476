"""Patches: the part of an image that an explanation points at (SPEC 5), and the files that hold them."""

import re

import numpy as np
from jaxtyping import Bool, Float, Int


def patch_boxes(
    maps: Float[np.ndarray, "n h w"],
    places: Int[np.ndarray, "n 2"] | None = None,
    size: tuple[int, int] | None = None,
) -> Int[np.ndarray, "n 4"]:
    """The smallest half-open boxes [top, bottom) x [left, right) that hold every pixel above the 75th percentile.

    The percentile is that of max(R, 0) over all pixels of the image. A map in which no pixel is above it (all zero, or
    constant) gets the whole image.

    With N pixels and numpy's linear interpolation, a pixel is above the percentile exactly if it is above the one of
    rank floor(0.75 (N - 1)), counted from 0 and from below. The released code takes the percentile of what is left
    once more, which changes nothing, and stores the last row and column as the end of the box (SPEC 5).

    Args:
        maps: relevance, summed over colors: of the whole image, or of a crop that has all relevance there is.
        places: top and left of each crop in its image; None for whole images.
        size: height and width of the image; None for whole images.

    Returns:
        (top, bottom, left, right) of each map, in the image.
    """
    count, h, w = maps.shape
    height, width = size or (h, w)
    positive = np.maximum(maps, 0).reshape(count, -1)
    outside = height * width - h * w  # pixels that are zero and not in the map
    rank = 3 * (height * width - 1) // 4 - outside
    threshold = np.zeros((count, 1), maps.dtype)
    if rank >= 0:
        threshold = np.partition(positive, rank, axis=1)[:, rank : rank + 1]
    above = (positive > threshold).reshape(maps.shape)
    boxes = extents(above)
    if places is not None:
        boxes += np.repeat(places, 2, axis=1)
    boxes[~above.any(axis=(1, 2))] = (0, height, 0, width)
    return boxes


def patch_file(number: int, key: str, generator: str, rank: int) -> str:
    """Where below its folder the patch of the `number`th channel (from 1) in its `rank`th image of a generator lies."""
    channel = re.sub(r"[^A-Za-z0-9.]+", "_", key).strip("_")
    return f"{number:03d}_{channel}/{generator or 'all'}_{rank:02d}.png"


def extents(marked: Bool[np.ndarray, "n h w"]) -> Int[np.ndarray, "n 4"]:
    """The smallest half-open boxes (top, bottom, left, right) of all marked pixels; zeros where there are none."""
    axes = (marked.any(axis=axis) for axis in (2, 1))
    edges = [edge for a in axes for edge in (a.argmax(axis=1), a.shape[1] - a[:, ::-1].argmax(axis=1))]
    return np.stack(edges, axis=1) * marked.any(axis=(1, 2))[:, None]
