"""LRP-max (SPEC 5): explain the strongest neuron of a channel alone, for many channels and images.

How a site's neurons are explained is planned first (`tffjax.lrpmax_plan`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tffjax.compile.passes import Pass
from tffjax.compile.placement import for_each_device, put, put_model
from tffjax.compile.prepared import Prepared
from tffjax.cone import crop_relevance
from tffjax.full_pass import full_relevance
from tffjax.kernels.choice import on_cpu
from tffjax.kernels.convolution import Pair
from tffjax.lrp.composites import Composite
from tffjax.lrp.explain import check_types
from tffjax.lrp.prepare import prepare, resolve
from tffjax.lrpmax_plan import Plan, plan
from tffjax.maxima import maxima
from tffjax.nn.model import Model
from tffjax.nn.receptive_field import Cone
from tffjax.patches import patch_boxes
from tffjax.rankings import Channel, check_channels, parse_key


class LrpMax(NamedTuple):
    """The strongest neuron of each channel in each image, explained.

    Attributes:
        values: the neuron's activation, the largest of the channel.
        positions: its row and column in the site's output.
        maps: relevance of every pixel, summed over colors; zero if the value is <= 0.
        boxes: (top, bottom, left, right) of the patch, half open, see `tffjax.patches`.
    """

    values: Float[np.ndarray, "n c"]
    positions: Int[np.ndarray, "n c 2"]
    maps: Float[np.ndarray, "n c h w"]
    boxes: Int[np.ndarray, "n c 4"]


class Neurons(NamedTuple):
    """Neurons of one site: in which image of a batch, of which channel, at which row and column."""

    images: Int[np.ndarray, " k"]
    channels: Int[np.ndarray, " k"]
    positions: Int[np.ndarray, "k 2"]


class Maps(NamedTuple):
    """Relevance of neurons, summed over colors: crops of the image, zero outside, and where they begin in it."""

    crops: Float[np.ndarray, "k h w"]
    places: Int[np.ndarray, "k 2"]

    def whole(self, size: Pair) -> Float[np.ndarray, "k height width"]:
        """The maps of whole images of this height and width."""
        maps = np.zeros((len(self.crops), *size), self.crops.dtype)
        h, w = self.crops.shape[1:]
        for out, crop, (top, left) in zip(maps, *self, strict=True):
            out[top : top + h, left : left + w] = crop
        return maps


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
    columns: dict[str, list[int]] = {}
    for column, channel in enumerate(channels):
        columns.setdefault(channel.site, []).append(column)
    how = plan(model, (h, w), {site: len(members) for site, members in columns.items()}, n, composite)
    indices = {site: [channels[column].index for column in members] for site, members in columns.items()}
    found = maxima(model, images, indices)
    shape, dtype = (n, len(channels)), images.dtype
    result = LrpMax(
        np.zeros(shape, dtype), np.zeros((*shape, 2), int), np.zeros((*shape, h, w), dtype), np.zeros((*shape, 4), int)
    )
    neurons = {}
    for site, members in columns.items():
        result.values[:, members] = found.values[site]
        result.positions[:, members] = found.positions[site]
        image, channel = np.meshgrid(np.arange(n), indices[site], indexing="ij")
        neurons[site] = Neurons(image.ravel(), channel.ravel(), result.positions[:, members].reshape(-1, 2))
    for site, maps in neuron_maps(model, how, images, neurons, found.gates).items():
        here = neurons[site].images, np.tile(columns[site], n)
        result.maps[here] = maps.whole((h, w))
        result.boxes[here] = patch_boxes(maps.crops, maps.places, (h, w))
    return result


def neuron_maps(
    model: Model,
    plan: Plan,
    images: Float[Any, "n h w 3"],
    neurons: Mapping[str, Neurons],
    gates: Mapping[str, Float[Any, "n 1 1 _"]],
) -> dict[str, Maps]:
    """Explain neurons of a batch of images: relevance 1 at each one alone, or 0 where its activation is <= 0.

    Args:
        model: the network; `tffjax.prepare(model, plan.composite)` if you call this often.
        plan: of these sites and this size of images.
        images: normalized, best in host memory.
        neurons: site -> its neurons, in any order and number.
        gates: from `maxima` of these images.

    Returns:
        site -> maps in the order of its neurons, with crops that lie inside the image.
    """
    model = model if isinstance(model, Prepared) else prepare(model, plan.composite, size=plan.size)
    model, images = put_model(model, for_each_device(1)), np.asarray(images)
    gates = {name: np.asarray(gate) for name, gate in gates.items()}
    found = {
        site: _maps_on_crops(model, plan, images, neurons[site], gates, site) for site in plan.crops if site in neurons
    }
    found |= _maps_in_full(model, plan, images, {site: neurons[site] for site in plan.full if site in neurons})
    return {site: found[site] for site in neurons}


def _maps_on_crops(
    model: Model, plan: Plan, images: np.ndarray, neurons: Neurons, gates: dict[str, np.ndarray], site: str
) -> Maps:
    cone = plan.crops[site]
    starts = _starts(cone, neurons.positions)
    lengths = [axis.length for axis in cone.field]
    rows, columns = (
        np.clip(starts[:, axis, None] + np.arange(lengths[axis]), 0, plan.size[axis] - 1) for axis in (0, 1)
    )
    maps = [np.zeros((0, *lengths), images.dtype)]
    for chunk in _chunks(len(starts), *plan.crops_at_once(site)):
        image = neurons.images[chunk]
        crops = (
            images[image[:, None, None], rows[chunk, :, None], columns[chunk, None, :]],
            neurons.channels[chunk].astype(np.int32),
            neurons.positions[chunk].astype(np.int32),
            {name: gates[name][image] for name in cone.gates},
        )
        maps.append(_on_crops(model, *put(crops), site=site, cone=cone, composite=plan.composite, layers=plan.layers))
    return _inside(np.concatenate(maps)[: len(starts)], starts, plan.size)


def _starts(cone: Cone, positions: np.ndarray) -> np.ndarray:
    """Row and column of the image in which the receptive fields of neurons begin."""
    return positions * [axis.stride for axis in cone.field] + [axis.low for axis in cone.field]


def _inside(crops: np.ndarray, starts: np.ndarray, size: Pair) -> Maps:
    """Move crops that stick out of the image inside: what sticks out is zero and comes in again on the other side."""
    lengths = np.minimum(crops.shape[1:], size)
    places = np.clip(starts, 0, size - lengths)
    if (places == starts).all():
        return Maps(crops, places)
    rows, columns = (
        ((places - starts)[:, axis, None] + np.arange(lengths[axis])) % crops.shape[axis + 1] for axis in (0, 1)
    )
    return Maps(crops[np.arange(len(crops))[:, None, None], rows[:, :, None], columns[:, None, :]], places)


def _maps_in_full(model: Model, plan: Plan, images: np.ndarray, neurons: dict[str, Neurons]) -> dict[str, Maps]:
    counts = [len(some.images) for some in neurons.values()]
    if not sum(counts):
        return {site: Maps(np.zeros((0, *plan.size), images.dtype), np.zeros((0, 2), int)) for site in neurons}
    together = Neurons(*(np.concatenate(parts) for parts in zip(*neurons.values(), strict=True)))
    numbers = np.repeat([plan.full.index(name) for name in neurons], counts)
    # a task is up to `lanes` neurons of one image; -1 is an empty lane
    tasks = np.concatenate(
        [
            np.pad(members, (0, -len(members) % plan.lanes), constant_values=-1).reshape(-1, plan.lanes)
            for image in np.unique(together.images)
            for members in [np.flatnonzero(together.images == image)]
        ]
    )
    maps = np.zeros((len(numbers), *plan.size), images.dtype)
    for chunk in _chunks(len(tasks), plan.images_at_once(1 if on_cpu() else plan.lanes)):
        task = tasks[chunk]
        starts = (
            images[together.images[task[:, 0]]],
            np.where(task < 0, -1, numbers[task]).astype(np.int32),
            together.channels[task].astype(np.int32),
            together.positions[task].astype(np.int32),
        )
        found = _in_full(model, *put(starts), sites=plan.full, composite=plan.composite, layers=plan.layers)
        maps[task[task >= 0]] = np.asarray(found)[task >= 0]
    parts = np.split(maps, np.cumsum(counts)[:-1])
    return {name: Maps(part, np.zeros((len(part), 2), int)) for name, part in zip(neurons, parts, strict=True)}


def _chunks(count: int, size: int, small: int | None = None) -> Iterator[np.ndarray]:
    """The numbers 0...count - 1, always `size` at a time, or `small` where few are left: the last one is repeated."""
    start = 0
    while start < count:
        at_once = size if small is None or 4 * (count - start) > 3 * size else small
        yield np.minimum(np.arange(start, start + at_once), count - 1)
        start += at_once


_on_crops = Pass(crop_relevance, static_argnames=("site", "cone", "composite", "layers"))
_in_full = Pass(full_relevance, static_argnames=("sites", "composite", "layers"))
