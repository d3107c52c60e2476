"""The images in which each channel is strongest, while images stream by."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tffjax.data import Batch
from tffjax.distributed import Process, gather_arrays
from tffjax.errors import InputError

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

    def merge(self, process: Process) -> None:
        """Be those of all processes; all of them must call this."""
        everyone = [_by_generator(state) for state in gather_arrays(self.state(), process)]
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
