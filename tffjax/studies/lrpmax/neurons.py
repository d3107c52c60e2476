"""LRP-max (SPEC 5): explain the strongest neuron of a channel alone, for many channels and images.

How a site's neurons are explained is planned first (`tffjax.studies.lrpmax.plan`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tffjax.compile.passes import Pass
from tffjax.compile.placement import for_each_device, put, put_model
from tffjax.compile.prepared import Prepared
from tffjax.kernels.convolution import Pair
from tffjax.lrp.composites import Composite
from tffjax.lrp.explain import check_types
from tffjax.lrp.prepare import prepare, resolve
from tffjax.nn.model import Model
from tffjax.studies.lrpmax.plan import Ways, plan
from tffjax.studies.lrpmax.relevance import crop_relevance, full_relevance
from tffjax.studies.lrpmax.search import maxima
from tffjax.studies.rankings import Channel, check_channels, parse_key


class LrpMax(NamedTuple):
    """The strongest neuron of each channel in each image, explained.

    Attributes:
        values: the neuron's activation, the largest of the channel.
        positions: its row and column in the site's output.
        maps: relevance of every pixel, summed over colors; zero if the value is <= 0.
        boxes: (top, bottom, left, right) of the patch, half open, see `patch_box`.
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
    images: Float[Any, "n h w c"],
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
    check_channels(channels, model, images.shape[1:3])
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
        boxes[*here] = patch_box(crop, place, (h, w))
    return LrpMax(np.asarray(values), positions.astype(int), maps, boxes)


def patch_box(
    crop: Float[np.ndarray, "h w"], place: Sequence[int] | Int[np.ndarray, " 2"] = (0, 0), size: Pair | None = None
) -> Int[np.ndarray, " 4"]:
    """The smallest half-open box [top, bottom) x [left, right) that holds every pixel above the 75th percentile.

    The percentile is that of max(R, 0) over all pixels of the image. A map in which no pixel is above it (all zero, or
    constant) gets the whole image.

    With N pixels and numpy's linear interpolation, a pixel is above the percentile exactly if it is above the one of
    rank floor(0.75 (N - 1)), counted from 0 and from below. The released code takes the percentile of what is left
    once more, which changes nothing, and stores the last row and column as the end of the box (SPEC 5).

    Args:
        crop: relevance, summed over colors, of the whole image or of a crop that has all relevance there is.
        place: top and left of the crop in the image.
        size: height and width of the image; None for a whole one.

    Returns:
        (top, bottom, left, right) in the image.
    """
    height, width = size or crop.shape
    rank = 3 * (height * width - 1) // 4 - (height * width - crop.size)  # pixels outside of the crop are zero
    above = crop > (np.partition(np.maximum(crop, 0), rank, axis=None)[rank] if rank >= 0 else 0)
    return extent(above) + np.repeat(place, 2) if above.any() else np.array([0, height, 0, width])


def extent(marked: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, " 4"]:
    """The smallest half-open box (top, bottom, left, right) of all marked pixels; zeros where there are none."""
    rows, columns = (np.flatnonzero(marked.any(axis=axis)) for axis in (1, 0))
    return np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1]) if len(rows) else np.zeros(4, int)


def neuron_maps(
    model: Model,
    ways: Ways,
    images: Float[Any, "n h w c"],
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
    numbers: dict[str | None, list[int]] = {}
    for number, channel in enumerate(neurons.channels):
        numbers.setdefault(channel.site if channel.site in ways.crops else None, []).append(number)
    maps: dict[int, Map] = {}
    for site, some in numbers.items():
        arrays = images, neurons, np.array(some)
        maps |= _maps_on_crops(model, ways, *arrays, site, gates) if site else _maps_in_full(model, ways, *arrays)
    return [maps[number] for number in range(len(maps))]


def _maps_on_crops(
    model: Model, ways: Ways, images: np.ndarray, neurons: Neurons, which: np.ndarray, site: str, gates: dict[str, Any]
) -> Iterator[tuple[int, Map]]:
    """Maps of neurons of one site, by their numbers."""
    field = ways.crops[site]
    stride, low, high = np.array(field.window).T
    size = np.minimum(high - low, ways.size)
    static = {"site": site, "field": field, "composite": ways.composite, "layers": ways.layers}
    for some in _batches(which, ways.at_once(site)):
        rows, positions = neurons.images[some], neurons.positions[some].astype(np.int32)
        starts = positions * stride + low
        y, x = (
            np.clip(starts[:, axis, None] + np.arange(high[axis] - low[axis]), 0, ways.size[axis] - 1)
            for axis in (0, 1)
        )
        crops = images[rows[:, None, None], y[:, :, None], x[:, None, :]]
        channels = np.array([neurons.channels[number].index for number in some], np.int32)
        arrays = crops, channels, positions, {name: gates[name][rows] for name in field.gates}
        found = np.asarray(_on_crops(model, *put(arrays), **static))
        for number, start, crop in zip(some.tolist(), starts, found, strict=True):
            # what sticks out of the image is zero and comes in again on the other side
            place = np.clip(start, 0, ways.size - size)
            yield number, Map(np.roll(crop, start - place, (0, 1))[: size[0], : size[1]], place)


def _maps_in_full(
    model: Model, ways: Ways, images: np.ndarray, neurons: Neurons, which: np.ndarray
) -> Iterator[tuple[int, Map]]:
    """Maps of neurons of any sites, by their numbers."""
    tasks = np.zeros((0, ways.lanes), int)  # numbers of up to `lanes` neurons of one image; -1 is an empty lane
    for row in np.unique(neurons.images[which]):
        members = which[neurons.images[which] == row]
        members = np.pad(members, (0, -len(members) % ways.lanes), constant_values=-1)
        tasks = np.concatenate([tasks, members.reshape(-1, ways.lanes)])
    place = dict.fromkeys(ways.crops, -1) | {site: number for number, site in enumerate(ways.full)}
    sites = np.array([place[channel.site] for channel in neurons.channels] + [-1], np.int32)
    channels = np.array([channel.index for channel in neurons.channels] + [0], np.int32)
    static = {"sites": ways.full, "composite": ways.composite, "layers": ways.layers, "one_by_one": ways.one_by_one}
    for some in _batches(tasks, ways.at_once()):
        rows, positions = neurons.images[some[:, 0]], neurons.positions[some].astype(np.int32)
        found = np.asarray(_in_full(model, *put((images[rows], sites[some], channels[some], positions)), **static))
        for number, crop in zip(some[some >= 0].tolist(), found[some >= 0], strict=True):
            yield number, Map(crop, np.zeros(2, int))


def _batches(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The array, always `size` rows at a time: the last one is repeated."""
    for start in range(0, len(array), size):
        yield array[np.minimum(np.arange(start, start + size), len(array) - 1)]


_on_crops = Pass(crop_relevance, static_argnames=("site", "field", "composite", "layers"))
_in_full = Pass(full_relevance, static_argnames=("sites", "composite", "layers", "one_by_one"))
