"""The search: which neuron of a channel is the strongest in an image, and in which images it is strongest."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_of
from tffjax.compile.prepared import plain_ops
from tffjax.data import Batch
from tffjax.errors import InputError
from tffjax.nn.canonization import canonize
from tffjax.nn.graph import is_held
from tffjax.nn.model import Model
from tffjax.nn.ops import Operation
from tffjax.nn.sites import outputs_at
from tffjax.pipeline.part import Part
from tffjax.studies.rankings import Channel


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


def maxima(model: Model, images: Float[Any, "n h w c"], channels: Sequence[Channel]) -> Maxima:
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


COLUMNS = ("images", "scores", "values", "positions")

Found = dict[str, np.ndarray]
"""What the search finds in some images, a row for each: `COLUMNS`, that is index of the image, how good it is for each
channel, value and position of the channel's strongest neuron; and the image's squeeze-excite gates by their names."""


class Task(NamedTuple):
    """A neuron to explain, by columns of the table of results: the rank counts from 1."""

    key: str
    generator: str
    rank: int
    score: float
    value: float
    row: int
    column: int


def best_first(scores: Float[np.ndarray, "n c"], images: Int[np.ndarray, " n"], k: int) -> Int[np.ndarray, "_ c"]:
    """The rows with the `k` best scores of each channel; of equal ones the smaller index of an image comes first."""
    return np.lexsort((np.broadcast_to(images[:, None], scores.shape), -scores), axis=0)[:k]


def best_of(parts: Sequence[Found], k: int) -> Found:
    """Of all images, those that are among the `k` best of any channel.

    So the result does not depend on how images are batched or ordered, and memory does not grow.
    """
    every = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    chosen = np.unique(best_first(every["scores"], every["images"], k))
    return {name: array[chosen] for name, array in every.items()}


class TopK:
    """For every generator what was found in the images that are among the best of any channel."""

    def __init__(self, keys: Sequence[str], k: int, generators: Sequence[str | None]) -> None:
        """`keys` are those of the channels; `generators` is that of each file, None for those that do not count."""
        self._keys, self._k, self._generators = keys, k, generators
        self._found: dict[str, Found] = {}

    def add(self, batch: Batch, found: Found) -> str:
        """Take in what was found in a batch."""
        present = batch.weights > 0
        if not np.isfinite(found["scores"][present]).all():
            raise InputError("the network gives NaN or infinity; see where it comes from: tffjax check")
        names = np.where(present, [self._generators[index] for index in batch.indices], None)
        for name in dict.fromkeys(names[present].tolist()):
            part = {key: array[names == name] for key, array in {"images": batch.indices, **found}.items()}
            self._found[name] = best_of([self._found[name], part] if name in self._found else [part], self._k)
        return ""

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays."""
        return {f"{generator}/{name}": a for generator, found in self._found.items() for name, a in found.items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Be as when `state` was taken."""
        self._found = _by_generator(state)

    def merge(self, parts: Sequence[Part]) -> None:
        """Be those of all parts."""
        everyone = [_by_generator(part.sums) for part in parts]
        names = dict.fromkeys(name for name in self._generators if name is not None)
        parts = {name: [found[name] for found in everyone if name in found] for name in names}
        self._found = {name: best_of(some, self._k) for name, some in parts.items() if some}

    def tasks(self) -> dict[int, list[Task]]:
        """Index of an image -> what is to be explained in it."""
        tasks: dict[int, list[Task]] = {}
        for generator, found in self._found.items():
            images, scores, values, positions = (found[name] for name in COLUMNS)
            for (rank, channel), row in np.ndenumerate(best_first(scores, images, self._k)):
                at = row, channel
                numbers = float(scores[at]), float(values[at]), *positions[at].tolist()
                tasks.setdefault(int(images[row]), []).append(Task(self._keys[channel], generator, rank + 1, *numbers))
        return tasks

    def gates(self) -> dict[int, dict[str, np.ndarray]]:
        """Index of an image -> its squeeze-excite gates by name."""
        return {
            int(image): {name: array[row] for name, array in found.items() if name not in COLUMNS}
            for found in self._found.values()
            for row, image in enumerate(found["images"])
        }


def _by_generator(state: dict[str, np.ndarray]) -> dict[str, Found]:
    everything: dict[str, Found] = {}
    for name, array in state.items():
        generator, _, what = name.rpartition("/")
        everything.setdefault(generator, {})[what] = array
    return everything
