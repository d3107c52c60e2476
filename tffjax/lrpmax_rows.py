"""LRP-max over many images: first each channel's top images, then a row for every neuron that is explained there."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Int
from PIL import Image

from tffjax.compile.placement import put
from tffjax.compile.prepared import Prepared
from tffjax.data import Batch, ImageFile
from tffjax.distributed import Process, gather_arrays
from tffjax.errors import InputError
from tffjax.ffrs import relevance_shares
from tffjax.lrpmax import Maps, Neurons, neuron_maps
from tffjax.lrpmax_plan import Plan, plan
from tffjax.maxima import Top, maxima, no_top, top_images
from tffjax.nn.normalization import normalized
from tffjax.patches import patch_boxes
from tffjax.rankings import Channel, all_channels

INDEX = pa.schema(
    [("index", pa.int64()), *((name, pa.string()) for name in ("key", "generator", "path"))]
    + [("rank", pa.int64()), ("score", pa.float32()), ("value", pa.float32())]
    + [(name, pa.int64()) for name in ("row", "column", "top", "bottom", "left", "right")]
)
"""Columns: the place in the list of files, channel, generator, image; rank (from 1) and score in the channel's top
images; the neuron's activation and position; the patch box, half open."""

_MAP = [(f"map_{name}", pa.int64()) for name in ("top", "left", "height", "width")]

SCHEMA = pa.schema([*INDEX, *_MAP, ("map", pa.list_(pa.float32())), ("patch", pa.binary())])
"""`INDEX`, the relevance map (summed over colors) as the smallest crop outside of which it is zero, and the patch as a
PNG file."""


class Task(NamedTuple):
    """A neuron to explain: column of its channel, generator, rank, what it was chosen by, and its position."""

    channel: int
    generator: str
    rank: int
    score: float
    position: tuple[int, int]


class Found(NamedTuple):
    """What the first pass finds in a batch: how good an image is for each channel, and where its maximum is."""

    scores: Float[np.ndarray, "n k"]
    positions: Int[np.ndarray, "n k 2"]


class Tops:
    """Each channel's top images for every generator, while images stream by (`tffjax.maxima.top_images`)."""

    def __init__(self, channels: int, top: int, generators: Sequence[str | None]) -> None:
        """`generators` is that of each file, None for those that do not count."""
        self._generators = generators
        self.names = [name for name in dict.fromkeys(generators) if name is not None]
        self.tops = {name: no_top(top, channels) for name in self.names}

    def add(self, batch: Batch, found: Found) -> str:
        """Take in a batch."""
        present = batch.weights > 0
        if not np.isfinite(found.scores[present]).all():
            raise InputError("the network gives NaN or infinity; see where it comes from: tffjax check")
        for name, top in self.tops.items():
            ours = [self._generators[index] == name for index in batch.indices]
            images = np.where(present & ours, batch.indices, -1)
            self.tops[name] = top_images(top, images, found.scores, found.positions)
        return ""

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays."""
        return {
            f"{field}{i}": array
            for i, name in enumerate(self.names)
            for field, array in self.tops[name]._asdict().items()
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Be as when `state` was taken."""
        self.tops = {name: Top(*(state[f"{field}{i}"] for field in Top._fields)) for i, name in enumerate(self.names)}

    def merged(self, process: Process) -> dict[str, Top]:
        """The top images over all processes; all of them must call this."""
        everyone = gather_arrays(self.state(), process)
        merged = {}
        for i, name in enumerate(self.names):
            parts = [Top(*(arrays[f"{field}{i}"] for field in Top._fields)) for arrays in everyone]
            images, values, positions = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            best = np.lexsort((images, -values), axis=0)[: len(parts[0].images)]
            merged[name] = Top(
                np.take_along_axis(images, best, 0),
                np.take_along_axis(values, best, 0),
                np.take_along_axis(positions, best[..., None], 0),
            )
        return merged


def work_list(tops: dict[str, Top]) -> dict[int, list[Task]]:
    """Index of an image -> what is to be explained in it."""
    tasks: dict[int, list[Task]] = {}
    for generator, top in tops.items():
        for (rank, channel), image in np.ndenumerate(top.images):
            if image >= 0:
                row, column = top.positions[rank, channel].tolist()
                task = Task(channel, generator, rank + 1, float(top.values[rank, channel]), (row, column))
                tasks.setdefault(int(image), []).append(task)
    return tasks


class Explainer:
    """The two passes for a list of channels."""

    def __init__(self, model: Prepared, channels: Sequence[Channel], by_relevance: bool) -> None:
        """Images are scored by the channel's share of relevance, or by its maximum."""
        self._model, self._channels, self._by_relevance = model, tuple(channels), by_relevance
        self._columns: dict[str, list[int]] = {}
        for column, channel in enumerate(channels):
            self._columns.setdefault(channel.site, []).append(column)
        self._indices = {
            site: [channels[column].index for column in columns] for site, columns in self._columns.items()
        }
        number = {channel: index for index, channel in enumerate(all_channels(model))}
        self._numbers = [number[channel] for channel in channels]

    def search(self, batch: Batch, signs: Int[np.ndarray, " n"]) -> Found:
        """Scores and positions of the maxima of a batch."""
        images = self._images(batch)
        found = maxima(self._model, images, self._indices)
        positions = self._in_order(found.positions)
        if not self._by_relevance:
            return Found(self._in_order(found.values), positions)
        shares = relevance_shares(self._model, images, put(signs)).shares
        return Found(np.asarray(shares)[:, self._numbers], positions)

    def plan(self, shape: tuple[int, int], tasks: Sequence[list[Task]]) -> Plan:
        """How neurons are explained in images of one size, from the tasks of all of them."""
        counts = dict.fromkeys(self._columns, 0)
        for task in (task for one in tasks for task in one):
            counts[self._channels[task.channel].site] += 1
        wanted = {site: count / len(tasks) for site, count in counts.items() if count}
        return plan(self._model, shape, wanted, len(tasks))

    def explain(self, batch: Batch, how: Plan, tasks: dict[int, list[Task]]) -> dict[str, tuple[Maps, Any, Any]]:
        """Maps, patch boxes and activations of all tasks of a batch, by site, in the order of `_by_site`."""
        images = self._images(batch)
        found = maxima(self._model, images, self._indices)
        values = self._in_order(found.values)
        neurons, work = {}, self._by_site(batch, tasks)
        for site, here in work.items():
            rows, wanted = zip(*here, strict=True)
            channels = [self._channels[task.channel].index for task in wanted]
            neurons[site] = Neurons(np.array(rows), np.array(channels), np.array([task.position for task in wanted]))
        explained = neuron_maps(self._model, how, images, neurons, found.gates)
        return {
            site: (
                maps,
                patch_boxes(maps.crops, maps.places, how.size),
                np.array([values[row, task.channel] for row, task in work[site]]),
            )
            for site, maps in explained.items()
        }

    def rows(
        self,
        batch: Batch,
        found: dict[str, tuple[Maps, Any, Any]],
        tasks: dict[int, list[Task]],
        files: Sequence[ImageFile],
        names: Sequence[str],
    ) -> pa.Table:
        """The rows (`SCHEMA`) of a batch."""
        rows = []
        for site, work in self._by_site(batch, tasks).items():
            maps, boxes, values = found[site]
            for (image, task), crop, place, box, value in zip(work, *maps, boxes, values, strict=True):
                index = int(batch.indices[image])
                top, bottom, left, right = box.tolist()
                h, w = _extent(crop)
                rows.append(
                    {
                        "index": index,
                        "key": self._channels[task.channel].key,
                        "generator": task.generator,
                        "path": names[index],
                        "rank": task.rank,
                        "score": task.score,
                        "value": float(value),
                        "row": task.position[0],
                        "column": task.position[1],
                        **{"top": top, "bottom": bottom, "left": left, "right": right},
                        "map_top": int(place[0]) + h.start,
                        "map_left": int(place[1]) + w.start,
                        "map_height": h.stop - h.start,
                        "map_width": w.stop - w.start,
                        "map": crop[h, w].ravel(),
                        "patch": _png(batch.images[image, top:bottom, left:right]),
                    }
                )
        return pa.Table.from_pylist(rows, SCHEMA)

    def _images(self, batch: Batch) -> Float[Array, "n h w 3"]:
        """The network's input, normalized once for all programs that read it."""
        return normalized(put(batch.images), self._model.card.normalization)

    def _in_order(self, by_site: dict[str, Any]) -> np.ndarray:
        """What there is of each channel, (n, k, ...) by site, in the order of the channels."""
        columns = np.argsort(np.concatenate([*self._columns.values()]))
        return np.concatenate([np.asarray(by_site[site]) for site in self._columns], axis=1)[:, columns]

    def _by_site(self, batch: Batch, tasks: dict[int, list[Task]]) -> dict[str, list[tuple[int, Task]]]:
        """Site -> (row of the batch, task), of the rows that hold images."""
        work: dict[str, list[tuple[int, Task]]] = {}
        for row in np.flatnonzero(batch.weights > 0):
            for task in tasks[int(batch.indices[row])]:
                work.setdefault(self._channels[task.channel].site, []).append((int(row), task))
        return work


def _extent(crop: Float[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """The smallest rectangle outside of which a map is zero; empty for a zero map."""
    slices = []
    for axis in (1, 0):
        marked = np.flatnonzero((crop != 0).any(axis=axis))
        slices.append(slice(int(marked[0]), int(marked[-1]) + 1) if len(marked) else slice(0, 0))
    return slices[0], slices[1]


def _png(pixels: np.ndarray) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()
