"""LRP-max (SPEC 5): explain the strongest neuron of a channel alone, for many channels and images.

How a site's neurons are explained is planned first (`tffjax.studies.lrpmax.plan`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tffjax.compile.passes import Pass
from tffjax.compile.placement import for_each_device, put, put_model
from tffjax.compile.prepared import Prepared
from tffjax.lrp.composites import Composite
from tffjax.lrp.explain import check_types
from tffjax.lrp.prepare import prepare, resolve
from tffjax.nn.model import Model
from tffjax.rankings import Channel, check_channels, parse_key
from tffjax.studies.lrpmax.crops import crop_relevance
from tffjax.studies.lrpmax.full_pass import full_relevance
from tffjax.studies.lrpmax.patches import patch_boxes
from tffjax.studies.lrpmax.plan import Ways, plan
from tffjax.studies.lrpmax.search import maxima


class LrpMax(NamedTuple):
    """The strongest neuron of each channel in each image, explained.

    Attributes:
        values: the neuron's activation, the largest of the channel.
        positions: its row and column in the site's output.
        maps: relevance of every pixel, summed over colors; zero if the value is <= 0.
        boxes: (top, bottom, left, right) of the patch, half open, see `tffjax.studies.lrpmax.patches`.
    """

    values: Float[np.ndarray, "n c"]
    positions: Int[np.ndarray, "n c 2"]
    maps: Float[np.ndarray, "n c h w"]
    boxes: Int[np.ndarray, "n c 4"]


class Neurons(NamedTuple):
    """Neurons of a batch of images: in which image, of which channel, at which row and column of its site."""

    images: Int[np.ndarray, " k"]
    channels: Sequence[Channel]
    positions: Int[np.ndarray, "k 2"]


class Map(NamedTuple):
    """Relevance of a neuron, summed over colors: a crop of the image, zero outside, and its top and left."""

    crop: Float[np.ndarray, "h w"]
    place: Int[np.ndarray, " 2"]


def lrp_max(
    model: Model,
    images: Float[Any, "n h w 3"],
    channels: Sequence[Channel | str],
    composite: str | Composite | None = None,
) -> LrpMax:
    """LRP-max of every channel in every image (SPEC 5).

    The strongest neuron of the channel, the first in scan order on ties, gets relevance 1, which is propagated to the
    image; the map is the sum over colors. The model is canonized first.

    Holds all maps at once, n * c * h * w numbers: for large work lists use `maxima`, `plan` and `neuron_maps`.

    Args:
        model: network with float32 or float64 weights.
        images: normalized images of the same type.
        channels: of any sites, as channels or as keys such as `layer1.0.conv1.#63(T=64)`.
        composite: as in `tffjax.relevance`, of rules that are linear in the relevance.

    Raises:
        InputError: the types do not fit, or there is no such channel or composite.
    """
    check_types(model, images)
    channels = [parse_key(channel) if isinstance(channel, str) else channel for channel in channels]
    check_channels(channels, model)
    n, h, w = images.shape[:3]
    if not isinstance(model, Prepared):
        model = prepare(model, resolve(model, composite)[0], size=(h, w))
    sites = [channel.site for channel in channels]
    ways = plan(model, (h, w), {site: sites.count(site) for site in sites}, n, composite)
    values, positions, gates = maxima(model, images, channels)
    positions = np.asarray(positions)
    rows, columns = (a.ravel() for a in np.indices((n, len(channels))))
    neurons = Neurons(rows, [channels[column] for column in columns], positions[rows, columns])
    maps, boxes = np.zeros((n, len(channels), h, w), images.dtype), np.zeros((n, len(channels), 4), int)
    for *here, (crop, place) in zip(rows, columns, neuron_maps(model, ways, images, neurons, gates), strict=True):
        (top, left), (height, width) = place, crop.shape
        maps[*here, top : top + height, left : left + width] = crop
        boxes[*here] = patch_boxes(crop[None], place[None], (h, w))[0]
    return LrpMax(np.asarray(values), positions.astype(int), maps, boxes)


def neuron_maps(
    model: Model,
    ways: Ways,
    images: Float[Any, "n h w 3"],
    neurons: Neurons,
    gates: Mapping[str, Float[Any, "n 1 1 _"]],
) -> list[Map]:
    """Explain neurons of a batch of images: relevance 1 at each one alone, or 0 where its activation is <= 0.

    Args:
        model: the network; `tffjax.prepare(model, ways.composite)` if you call this often.
        ways: from `plan`, for the neurons' sites and this size of images.
        images: normalized, best in host memory.
        neurons: in any order and number.
        gates: from `maxima` of these images.

    Returns:
        Maps in the order of the neurons, with crops that lie inside the image.
    """
    model = model if isinstance(model, Prepared) else prepare(model, ways.composite, size=ways.size)
    model, images = put_model(model, for_each_device(1)), np.asarray(images)
    gates = {name: np.asarray(gate) for name, gate in gates.items()}
    sites = np.array([channel.site for channel in neurons.channels], object)
    indices = np.array([channel.index for channel in neurons.channels], np.int32)
    maps: dict[int, Map] = {}
    for site in ways.crops:
        numbers = np.flatnonzero(sites == site)
        arrays = neurons.images[numbers], indices[numbers], neurons.positions[numbers]
        maps |= zip(numbers.tolist(), _maps_on_crops(model, ways, site, images, gates, *arrays), strict=True)
    numbers = np.flatnonzero(np.isin(sites, ways.full))
    places = np.array([ways.full.index(site) for site in sites[numbers]], np.int32)
    arrays = neurons.images[numbers], places, indices[numbers], neurons.positions[numbers]
    maps |= ((int(numbers[number]), found) for number, found in _maps_in_full(model, ways, images, *arrays))
    return [maps[number] for number in range(len(sites))]


def _maps_on_crops(
    model: Model,
    ways: Ways,
    site: str,
    images: np.ndarray,
    gates: dict[str, np.ndarray],
    rows: np.ndarray,
    channels: np.ndarray,
    positions: np.ndarray,
) -> Iterator[Map]:
    """Maps of neurons of one site in some rows of the images, in their order."""
    field = ways.crops[site]
    stride, low, high = np.array(field.window).T
    starts = positions * stride + low
    size = np.minimum(high - low, ways.size)
    for chunk in _chunks(len(starts), ways.at_once(site)):
        image = rows[chunk]
        y, x = (
            np.clip(starts[chunk, i, None] + np.arange(low[i], high[i]) - low[i], 0, ways.size[i] - 1) for i in (0, 1)
        )
        arrays = (
            images[image[:, None, None], y[:, :, None], x[:, None, :]],
            channels[chunk],
            positions[chunk].astype(np.int32),
            {name: gates[name][image] for name in field.gates},
        )
        static = {"site": site, "field": field, "composite": ways.composite, "layers": ways.layers}
        found = np.asarray(_on_crops(model, *put(arrays), **static))
        for start, crop in zip(starts[chunk[0] :], found, strict=False):
            # what sticks out of the image is zero and comes in again on the other side
            place = np.clip(start, 0, ways.size - size)
            yield Map(np.roll(crop, start - place, (0, 1))[: size[0], : size[1]], place)


def _maps_in_full(
    model: Model,
    ways: Ways,
    images: np.ndarray,
    rows: np.ndarray,
    sites: np.ndarray,
    channels: np.ndarray,
    positions: np.ndarray,
) -> Iterator[tuple[int, Map]]:
    """Numbers of neurons and their maps; `sites` are numbers too."""
    tasks = np.zeros((0, ways.lanes), int)  # of up to `lanes` neurons of one image; -1 is an empty lane
    for row in np.unique(rows):
        members = np.flatnonzero(rows == row)
        members = np.pad(members, (0, -len(members) % ways.lanes), constant_values=-1)
        tasks = np.concatenate([tasks, members.reshape(-1, ways.lanes)])
    for chunk in _chunks(len(tasks), ways.at_once()):
        task = tasks[chunk]
        arrays = (
            images[rows[task[:, 0]]],
            np.where(task < 0, -1, sites[task]).astype(np.int32),
            channels[task],
            positions[task].astype(np.int32),
        )
        static = {"sites": ways.full, "composite": ways.composite, "layers": ways.layers}
        found = np.asarray(_in_full(model, *put(arrays), **static, one_by_one=ways.one_by_one))
        yield from (
            (number, Map(crop, np.zeros(2, int)))
            for number, crop in zip(task[task >= 0].tolist(), found[task >= 0], strict=True)
        )


def _chunks(count: int, size: int) -> Iterator[np.ndarray]:
    """The numbers 0...count - 1, always `size` at a time: the last one is repeated."""
    for start in range(0, count, size):
        yield np.minimum(np.arange(start, start + size), count - 1)


_on_crops = Pass(crop_relevance, static_argnames=("site", "field", "composite", "layers"))
_in_full = Pass(full_relevance, static_argnames=("sites", "composite", "layers", "one_by_one"))
