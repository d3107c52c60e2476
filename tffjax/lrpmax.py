"""LRP-max (SPEC 5): explain the strongest neuron of a channel alone, for many channels and images.

There are three ways to explain the neurons of a site, and all give the relevance that a pass of its own over the image
gives:

- on **crops** (`tffjax.cone`): the relevance of a neuron is zero outside its receptive field. One batch of crops across
  images and channels runs forward up to the site and back. Squeeze-excite gates, which look at the whole image, are
  those of a pass over the whole image.
- on **windows** (`tffjax.replay`): all neurons of one image share the forward pass and the denominators of the rules,
  which depend on activations only; the backward pass of each is confined to the windows that it depends on.
- in **full** (`tffjax.full_pass`), where a neuron depends on everything (gates that receive relevance): neurons of one
  image share the forward pass and the denominators; the rest is mapped over their start relevances.

Which channel and which position is data, never part of a compiled program: there is one program for each site that is
explained on crops (and one for few crops) or on windows, and one for all the others.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tffjax.composites import Composite
from tffjax.cone import crop_relevance
from tffjax.convolution import Pair, on_cpu
from tffjax.explain import check_types, composite_of
from tffjax.full_pass import full_relevance
from tffjax.maxima import maxima
from tffjax.models.canonize import canonize
from tffjax.models.model import Model
from tffjax.passes import Pass
from tffjax.patches import patch_boxes
from tffjax.placement import for_each_device, put, put_model
from tffjax.rankings import Channel, check_channels, parse_key
from tffjax.receptive_field import Cone, cones_of
from tffjax.replay import record, replay
from tffjax.tracing import Layer, layers_of

_PIXELS = {True: 2**16, False: 2**22}  # of all crops of a batch, on a CPU and elsewhere: enough to keep it busy
_MOST_CROPS = 1024
_FEW = 8  # so many times smaller are the batches of what does not fill a whole one
_MOST_NEURONS = {True: 8, False: 16}  # of an image that are explained on windows at once
_MOST_LANES = {True: 32, False: 16}  # in full: on a CPU one after the other, where empty ones cost nothing

# Prices in multiply-adds of a pass over whole images, measured on a CPU: of a multiply-add in all three parts of a pass
# over a crop, where convolutions are narrow; of one in a window; and of handling a neuron on windows.
_CROP, _WINDOW, _HANDLING = 5, 2, 3e7


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


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the neurons of some sites are explained, for images of one size.

    Attributes:
        size: of the images.
        crops: cones of the sites that are explained on crops.
        windows: clipped cones of the sites that are explained on windows.
        at_once: how many neurons of an image such a site explains at once.
        full: the sites that are explained in full passes over the image.
        lanes: how many neurons of an image share a full pass.
        pixels: how many pixels a batch of crops, or of images times the neurons that are explained at once, may have.
        composite: the rules.
        layers: of the network.
    """

    size: Pair
    crops: dict[str, Cone]
    windows: dict[str, Cone]
    at_once: dict[str, int]
    full: tuple[str, ...]
    lanes: int
    pixels: int
    composite: Composite
    layers: tuple[Layer, ...]

    def crops_at_once(self, site: str) -> tuple[int, int]:
        """How many crops of a site make a batch, and how many a small one; the devices share either equally."""
        most = min(max(self.pixels // self.crops[site].field.area, 1), _MOST_CROPS)
        return for_each_device(most), for_each_device(-(-most // _FEW))

    def images_at_once(self, neurons: int) -> int:
        """How many images make a batch when so many neurons of each are explained at once; devices share it equally."""
        return for_each_device(max(self.pixels // (math.prod(self.size) * neurons), 1))


def lrp_max(
    model: Model,
    images: Float[Any, "n h w 3"],
    channels: Sequence[Channel | str],
    composite: str | Composite = "beta0",
) -> LrpMax:
    """LRP-max of every channel in every image (SPEC 5).

    The strongest neuron of the channel, the first in scan order on ties, gets relevance 1, which is propagated to the
    image; the map is the sum over colors. The model is canonized first.

    Holds all maps at once, n * c * h * w numbers: for large work lists use `maxima`, `plan` and `neuron_maps`.

    Args:
        model: network with float32 or float64 weights.
        images: normalized images of the same type.
        channels: of any sites, as channels or as keys such as `layer1.0.conv1.#63(T=64)`.
        composite: a name (see `tffjax.explain.composite_of`) or a `Composite`, of rules that are linear in the
            relevance.

    Raises:
        InputError: the types do not fit, or there is no such channel or composite.
    """
    check_types(model, images)
    channels = [parse_key(channel) if isinstance(channel, str) else channel for channel in channels]
    check_channels(channels, model)
    model = canonize(model)
    columns: dict[str, list[int]] = {}
    for column, channel in enumerate(channels):
        columns.setdefault(channel.site, []).append(column)
    n, h, w = images.shape[:3]
    how = plan(model, (h, w), {site: len(members) for site, members in columns.items()}, composite)
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


def plan(model: Model, size: Pair, neurons: Mapping[str, int | float], composite: str | Composite = "beta0") -> Plan:
    """Choose for every site how its neurons are explained.

    Args:
        model: the network.
        size: height and width of the images.
        neurons: site -> how many of its neurons are explained in an image, on average over the images that have any.
        composite: the rules. Where gates receive relevance, sites behind a gate see the whole image.
    """
    if isinstance(composite, str):
        composite = composite_of(composite, model)
    hold_gates = composite.gate == "identity"
    cones, clipped = (cones_of(model, *size, hold_gates, clip) for clip in (False, True))
    wide = sites_on_windows(cones, clipped, neurons)
    full = tuple(site for site in neurons if not cones[site])
    lanes = _MOST_LANES[on_cpu()]
    if not on_cpu():
        lanes = _even_parts(sum(neurons[site] for site in full), lanes)
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.result_type(*jax.tree.leaves(model.variables)))
    return Plan(
        size=size,
        crops={site: cones[site] for site in neurons if site not in (*wide, *full)},
        windows={site: clipped[site] for site in wide},
        at_once={site: _even_parts(neurons[site], _MOST_NEURONS[on_cpu()]) for site in wide},
        full=full,
        lanes=lanes,
        pixels=_PIXELS[on_cpu()],
        composite=composite,
        layers=layers_of(model, image),
    )


def _even_parts(count: int | float, most: int) -> int:
    """The size of equal parts of `count`, of which none is larger than `most` by much."""
    return max(round(count / max(math.ceil(count / most), 1)), 1)


def sites_on_windows(
    cones: Mapping[str, Cone | None], clipped: Mapping[str, Cone | None], neurons: Mapping[str, int | float]
) -> tuple[str, ...]:
    """The sites that cost less on windows than on crops, in the order of `neurons`; those without a cone are neither.

    A pass has three parts that cost about the same: forward, denominators, backward. A crop has them all; on windows
    only the backward part is a neuron's own, the others are shared by all of an image and run up to the last of the
    sites. So the sites with the largest cones are taken together as long as that saves work.
    """
    order = sorted((site for site in neurons if cones[site]), key=lambda site: (cones[site].work, site))

    def cost(crops: int) -> int | float:
        wide = order[crops:]
        shared = max((cones[site].work_in_full for site in wide), default=0)
        chance = min(sum(neurons[site] for site in wide), 1)  # that an image has any of them
        own = sum(neurons[site] * (_WINDOW * clipped[site].work + _HANDLING) for site in wide)
        return 2 * chance * shared + own + sum(_CROP * neurons[site] * cones[site].work for site in order[:crops])

    wide = order[min(range(len(order) + 1), key=cost) :]
    return tuple(site for site in neurons if site in wide)


def neuron_maps(
    model: Model,
    plan: Plan,
    images: Float[Any, "n h w 3"],
    neurons: Mapping[str, Neurons],
    gates: Mapping[str, Float[Any, "n 1 1 _"]],
) -> dict[str, Maps]:
    """Explain neurons of a batch of images: relevance 1 at each one alone, or 0 where its activation is <= 0.

    Args:
        model: the network; canonize it yourself if you call this often.
        plan: of these sites and this size of images.
        images: normalized, best in host memory.
        neurons: site -> its neurons, in any order and number.
        gates: from `maxima` of these images.

    Returns:
        site -> maps in the order of its neurons, with crops that lie inside the image.
    """
    model, images = put_model(canonize(model), for_each_device(1)), np.asarray(images)
    gates = {name: np.asarray(gate) for name, gate in gates.items()}
    found = {
        site: _maps_on_crops(model, plan, images, neurons[site], gates, site) for site in plan.crops if site in neurons
    }
    found |= _maps_on_windows(model, plan, images, {site: neurons[site] for site in plan.windows if site in neurons})
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


def _maps_on_windows(model: Model, plan: Plan, images: np.ndarray, neurons: dict[str, Neurons]) -> dict[str, Maps]:
    maps = {
        site: np.zeros((len(some.images), *(axis.length for axis in plan.windows[site].field)), images.dtype)
        for site, some in neurons.items()
    }
    present = np.unique(np.concatenate([np.zeros(0, int), *(some.images for some in neurons.values())]))
    for chunk in _chunks(len(present), plan.images_at_once(max(plan.at_once.values(), default=1))):
        fixed = {"composite": plan.composite, "layers": plan.layers}
        recorded = _record(model, put(images[present[chunk]]), sites=tuple(plan.windows), **fixed)
        for site, (image, channels, positions) in neurons.items():
            members = [np.flatnonzero(image == one) for one in present[chunk]]
            members[len(set(chunk)) :] = [members[0][:0]] * (len(chunk) - len(set(chunk)))  # the last image repeated
            at_once = plan.at_once[site]
            for first in range(0, max(map(len, members)), at_once):
                some = [own[first : first + at_once] for own in members]
                task = np.stack([np.pad(own, (0, at_once - len(own)), constant_values=-1) for own in some])
                lanes = put((np.where(task < 0, -1, channels[task]).astype(np.int32), positions[task].astype(np.int32)))
                found = _replay(model, recorded, *lanes, site=site, cone=plan.windows[site], **fixed)
                maps[site][task[task >= 0]] = np.asarray(found)[task >= 0]
    return {
        site: _inside(maps[site], _starts(plan.windows[site], some.positions), plan.size)
        for site, some in neurons.items()
    }


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
_record = Pass(record, static_argnames=("sites", "composite", "layers"))
_replay = Pass(replay, static_argnames=("site", "cone", "composite", "layers"))
_in_full = Pass(full_relevance, static_argnames=("sites", "composite", "layers"))
