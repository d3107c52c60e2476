"""Where channels are most active: the largest value of a channel, and the images where it is largest."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_of
from tffjax.compile.prepared import plain_ops, precision_of
from tffjax.nn.canonization import canonize
from tffjax.nn.graph import is_held
from tffjax.nn.model import Model
from tffjax.nn.ops import Operation
from tffjax.nn.sites import outputs_at


class Maxima(NamedTuple):
    """The strongest neuron of some channels, per site, and the squeeze-excite gates of the same pass.

    Attributes:
        values: site -> (n, k), the largest output of the folded convolution; it may be negative.
        positions: site -> (n, k, 2), its row and column, the first in scan order on ties.
        gates: name of a gate -> (n, 1, 1, c), of the gates before the last site.
    """

    values: dict[str, Float[Any, "n k"]]
    positions: dict[str, Int[Any, "n k 2"]]
    gates: dict[str, Float[Any, "n 1 1 c"]]


def maxima(
    model: Model, images: Float[Any, "n h w 3"], channels: Mapping[str, Sequence[int]], precision: str | None = None
) -> Maxima:
    """Value and position of the maximum of some channels of some sites (SPEC 5), in one forward pass.

    The model is canonized first. No map leaves the pass, which ends at the last of the sites. Compiled once for each
    shape of images and number of channels of each site.
    """
    indices = {site: np.asarray(some, np.int32) for site, some in channels.items()}
    precision, micro_batch = precision_of(model, precision), micro_batch_of(model, images)
    return _maxima(model, images, indices, sites=tuple(channels), precision=precision, micro_batch=micro_batch)


def _maxima_of_batch(
    model: Model,
    images: jax.Array,
    channels: dict[str, jax.Array],
    sites: tuple[str, ...],
    precision: str,
    micro_batch: int,
) -> Maxima:
    model = canonize(model)

    def find(images: jax.Array) -> Maxima:
        gates = {}

        def keep(operation: Operation, y: jax.Array) -> jax.Array:
            if operation.kind == "gate" and is_held(operation.inputs[1]):
                gates[operation.name] = operation.inputs[1]
            return y

        ops = dataclasses.replace(plain_ops(model, precision), behind=keep)
        outputs = zip(sites, outputs_at(model, images, sites, ops), strict=True)
        found = {site: _maximum(y[..., channels[site]]) for site, y in outputs}
        values, positions = ({site: pair[i] for site, pair in found.items()} for i in (0, 1))
        return Maxima(values, positions, gates)

    return in_micro_batches(find, images, micro_batch)


_maxima = Pass(_maxima_of_batch, static_argnames=("sites", "precision", "micro_batch"))


def _maximum(y: Float[Array, "n h w c"]) -> tuple[Float[Array, "n c"], Int[Array, "n c 2"]]:
    """Largest value of each channel and its position."""
    n, h, w, c = y.shape
    y = y.reshape(n, h * w, c)
    value = y.max(axis=1)
    # XLA's argmax is a scalar loop on CPUs; two plain reductions are not.
    scan = jnp.arange(h * w, dtype=jnp.int32)[:, None]
    place = jnp.where(y == value[:, None], scan, h * w - 1).min(axis=1)
    return value, jnp.stack([place // w, place % w], axis=2)


class Top(NamedTuple):
    """The images in which each channel is most active, best first. A place that nothing has taken holds image -1.

    Attributes:
        images: index of the image.
        values: the channel's largest value in it, minus infinity where there is no image.
        positions: row and column of that value.
    """

    images: Int[np.ndarray, "top c"]
    values: Float[np.ndarray, "top c"]
    positions: Int[np.ndarray, "top c 2"]


def no_top(top: int, channels: int, dtype: Any = np.float32) -> Top:
    """The top images of no images, to start from."""
    return Top(
        np.full((top, channels), -1, np.int64),
        np.full((top, channels), -np.inf, dtype),
        np.zeros((top, channels, 2), np.int32),
    )


def top_images(
    so_far: Top,
    images: Int[np.ndarray, " n"],
    values: Float[np.ndarray, "n c"],
    positions: Int[np.ndarray, "n c 2"],
) -> Top:
    """The top images after one more batch; memory does not grow. Of equal values the smaller image index comes first.

    The result does not depend on how the images are batched or ordered. Rows of image -1 (padding) are left out.
    """
    taken = images >= 0
    count = int(taken.sum())
    index = np.broadcast_to(images[taken, None], (count, values.shape[1]))
    parts = (index, values[taken], positions[taken])
    merged = [np.concatenate([old, new.astype(old.dtype)]) for old, new in zip(so_far, parts, strict=True)]
    order = np.lexsort((merged[0], -merged[1]), axis=0)[: len(so_far.images)]
    return Top(
        np.take_along_axis(merged[0], order, axis=0),
        np.take_along_axis(merged[1], order, axis=0),
        np.take_along_axis(merged[2], order[..., None], axis=0),
    )
