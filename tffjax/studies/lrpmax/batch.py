"""The two passes of LRP-max over a batch: the search, then the explanation of what it found in all images."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Int

from tffjax.compile.placement import put
from tffjax.compile.prepared import Prepared
from tffjax.data import Batch
from tffjax.nn.normalization import normalized
from tffjax.studies.ffrs.statistic import relevance_shares
from tffjax.studies.lrpmax.figures import PLACE, SHOWN, as_png, cell_of
from tffjax.studies.lrpmax.neurons import Map, Neurons, extent, neuron_maps, patch_box
from tffjax.studies.lrpmax.plan import Ways, plan
from tffjax.studies.lrpmax.search import Task, TopK, maxima
from tffjax.studies.lrpmax.tables import SCHEMA, encode_map
from tffjax.studies.rankings import Channel, all_channels, parse_key


def search(
    model: Prepared, channels: Sequence[Channel], batch: Batch, signs: Int[np.ndarray, " n"] | None = None
) -> dict[str, Array]:
    """The first pass, which gives what `TopK` takes in.

    An image's score for a channel is the channel's maximum, or with `signs` its share of relevance in the decision,
    1 for the output and -1 for its negative.
    """
    images = _inputs(model, batch)
    values, positions, gates = maxima(model, images, channels)
    scores = values
    if signs is not None:
        every = {channel: number for number, channel in enumerate(all_channels(model, images.shape[1:3]))}
        shares = relevance_shares(model, images, put(signs)).shares
        scores = shares[:, np.array([every[channel] for channel in channels])]
    return {"scores": scores, "values": values, "positions": positions, **gates}


class Explanation:
    """The second pass, over the images in which the search has found something."""

    def __init__(self, top: TopK) -> None:
        """`top` is that of all images."""
        self._gates, self.tasks = top.gates(), top.tasks()
        self._ways: dict[tuple[int, int], Ways] = {}

    def maps(self, model: Prepared, batch: Batch) -> list[Map]:
        """Maps of all tasks of a batch."""
        work = self._work(batch)
        positions = np.array([(task.row, task.column) for _, task in work], int).reshape(-1, 2)
        channels = [parse_key(task.key) for _, task in work]
        neurons = Neurons(np.array([row for row, _ in work], int), channels, positions)
        of_images = [self._gates.get(index) for index in batch.indices.tolist()]
        some = next(filter(None, of_images), {})
        gates = {name: np.stack([(one or some)[name] for one in of_images]) for name in some}
        images = _inputs(model, batch)
        size = images.shape[1:3]
        if size not in self._ways:  # the plan is made of all tasks
            self._ways[size] = self._plan(model, size)
        return neuron_maps(model, self._ways[size], images, neurons, gates)

    def rows(self, batch: Batch, maps: Sequence[Map], names: Sequence[str]) -> pa.Table:
        """The rows (`tffjax.studies.lrpmax.tables.SCHEMA`) of a batch; `names` are the paths of all images."""
        rows = []
        for (image, task), (crop, place) in zip(self._work(batch), maps, strict=True):
            pixels, index = batch.images[image], int(batch.indices[image])
            box, (codes, scale) = patch_box(crop, place, pixels.shape[:2]), encode_map(crop)
            (top, bottom, left, right), (first, last, start, end) = box.tolist(), extent(codes != 0).tolist()
            active = task.value > 0  # else it has no relevance, and its box is the whole image
            shown = active and task.rank <= SHOWN
            row = {**task._asdict(), "index": index, "path": names[index]}
            row |= {"top": top, "bottom": bottom, "left": left, "right": right}
            row |= {"map_top": int(place[0]) + first, "map_left": int(place[1]) + start}
            row |= {"map_height": last - first, "map_width": end - start}
            row |= {"map": codes[first:last, start:end].ravel(), "map_scale": scale}
            row["patch"] = as_png(pixels[top:bottom, left:right]) if active else None
            rows.append(row | {"place": as_png(cell_of(pixels, PLACE, box)) if shown else None})
        return pa.Table.from_pylist(rows, SCHEMA)

    def _plan(self, model: Prepared, size: tuple[int, int]) -> Ways:
        sites = [parse_key(task.key).site for tasks in self.tasks.values() for task in tasks]
        neurons = {site: sites.count(site) / len(self.tasks) for site in dict.fromkeys(sites)}
        return plan(model, size, neurons, len(self.tasks))

    def _work(self, batch: Batch) -> list[tuple[int, Task]]:
        """Row of the batch and task, of the rows that hold images."""
        rows = np.flatnonzero(batch.weights > 0).tolist()
        return [(row, task) for row in rows for task in self.tasks[int(batch.indices[row])]]


def _inputs(model: Prepared, batch: Batch) -> Float[Array, "n h w 3"]:
    """The network's input, normalized once for all programs that read it."""
    return normalized(put(batch.images), model.card.normalization)
