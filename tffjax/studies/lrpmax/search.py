"""The search: which neuron of a channel is the strongest in an image."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_of
from tffjax.compile.prepared import plain_ops
from tffjax.nn.canonization import canonize
from tffjax.nn.graph import is_held
from tffjax.nn.model import Model
from tffjax.nn.ops import Operation
from tffjax.nn.sites import outputs_at
from tffjax.rankings import Channel


class Maxima(NamedTuple):
    """The strongest neuron of some channels, and the squeeze-excite gates of the same pass.

    Attributes:
        values: the largest output of the folded convolution; it may be negative.
        positions: its row and column, the first in scan order on ties.
        gates: name of a gate -> (n, 1, 1, channels of the gate), of the gates before the last site.
    """

    values: Float[Any, "n c"]
    positions: Int[Any, "n c 2"]
    gates: dict[str, Float[Any, "n 1 1 _"]]


def maxima(model: Model, images: Float[Any, "n h w 3"], channels: Sequence[Channel]) -> Maxima:
    """Value and position of the maximum of some channels (SPEC 5), in their order, in one forward pass.

    The model is canonized first. No map leaves the pass, which ends at the last of the sites. Compiled once for each
    shape of images and number of channels of each site.
    """
    columns: dict[str, list[int]] = {}
    for column, channel in enumerate(channels):
        columns.setdefault(channel.site, []).append(column)
    indices = {site: np.array([channels[i].index for i in some], np.int32) for site, some in columns.items()}
    order = np.argsort(np.concatenate([*columns.values()]))
    micro_batch = micro_batch_of(model, images)
    return _maxima(model, images, indices, order, sites=tuple(columns), micro_batch=micro_batch)


def _maxima_of_batch(
    model: Model,
    images: jax.Array,
    indices: dict[str, jax.Array],
    order: jax.Array,
    sites: tuple[str, ...],
    micro_batch: int,
) -> Maxima:
    model = canonize(model)

    def find(images: jax.Array) -> Maxima:
        gates = {}

        def keep(operation: Operation, y: jax.Array) -> jax.Array:
            if operation.kind == "gate" and is_held(operation.inputs[1]):
                gates[operation.name] = operation.inputs[1]
            return y

        ops = dataclasses.replace(plain_ops(model), behind=keep)
        outputs = zip(sites, outputs_at(model, images, sites, ops), strict=True)
        found = [_maximum(y[..., indices[site]]) for site, y in outputs]
        values, positions = (jnp.concatenate(arrays, axis=1)[:, order] for arrays in zip(*found, strict=True))
        return Maxima(values, positions, gates)

    return in_micro_batches(find, images, micro_batch)


_maxima = Pass(_maxima_of_batch, static_argnames=("sites", "micro_batch"))


def _maximum(y: Float[Array, "n h w c"]) -> tuple[Float[Array, "n c"], Int[Array, "n c 2"]]:
    """Largest value of each channel and its position."""
    n, h, w, c = y.shape
    y = y.reshape(n, h * w, c)
    value = y.max(axis=1)
    # XLA's argmax is a scalar loop on CPUs; two plain reductions are not.
    scan = jnp.arange(h * w, dtype=jnp.int32)[:, None]
    place = jnp.where(y == value[:, None], scan, h * w - 1).min(axis=1)
    return value, jnp.stack([place // w, place % w], axis=2)
