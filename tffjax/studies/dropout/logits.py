"""Feature-map dropout (SPEC 6): logits with channels switched off, for many mask sets in few compiled passes.

A channel that is switched off has its convolution's output set to 0 *before* batch norm, in the ordinary network.
Behind batch norm it is the constant beta - m g / sqrt(v + epsilon), not 0; in a folded network the equivalent is to
replace the channel by its folded bias.

What lies before the first masked site is the same for all settings. Settings are grouped by that site, and one call
takes some settings of one group: `vmap` over their masks computes the common part once an image. Sites that leave
about the same work behind them share a group, so that few programs are compiled.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tffjax.compile.logits import logits_of
from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_size
from tffjax.compile.prepared import plain_ops
from tffjax.errors import InputError
from tffjax.kernels.choice import on_cpu
from tffjax.nn.graph import layers_of
from tffjax.nn.model import Model
from tffjax.nn.padded import Parts
from tffjax.nn.sites import Site, sites_of
from tffjax.studies.dropout.settings import Setting
from tffjax.studies.rankings import Channel, as_channels, check_channels

GROUPS = 8
"""At most so many programs for one size of images, if each group's calls have one width."""

STEP = 3 / 4
"""The work behind the first sites of two neighboring groups differs by this factor: of the work that is not shared, a
setting does at most a third more than what lies behind its own first masked site."""

_CPU_ROWS = (4, 32)  # images at once where activations are largest, and where they are smallest: those fit the caches
_ACCELERATOR_VALUES = 2**28  # of the largest activation of a call: 1 GiB in float32, enough to keep any GPU busy
_LIVE_ACTIVATIONS = 16  # the largest activation may take this part of the memory: others live beside it
_OPERATIONS_PER_VALUE = 64  # what batch norm, activation and memory traffic cost, in multiply-adds


class Chunk(NamedTuple):
    """Settings that one call computes.

    Attributes:
        settings: which ones of the list.
        first: number of the site from which on masks are applied.
        width: how many mask sets the call takes; those left over mask nothing.
        micro_batch: how many images are taken at once.
    """

    settings: tuple[int, ...]
    first: int
    width: int
    micro_batch: int


def masked_logits(
    model: Model,
    images: Float[Any, "n h w c"],
    settings: Sequence[Setting],
    chunk: int | None = None,
    sizes: Sequence[Int[Any, " n"]] = (),
) -> Float[np.ndarray, "n settings outputs"]:
    """Logits of a batch under every setting.

    A setting that masks nothing goes through `tffjax.compile.logits.forward`: it equals `tffjax predict` bit for bit.
    The others depend in their last bits on what else is computed with them.

    Args:
        model: as trained, with its batch norms; for many batches `tffjax.prepare(model)`.
        images: normalized, NHWC, on one device or spread over several.
        settings: at least one, in any order.
        chunk: how many settings to take at once at most; by default as many as suit the caches of a CPU or fit the
            memory of an accelerator.
        sizes: heights and widths of images that are filled up to one size (`tffjax.nn.padded`); none, of others.

    Raises:
        InputError: the batch norms are folded, the network does not have a channel, the chunk is less than 1.
    """
    if getattr(model.module, "batch_norm", "statistics") != "statistics":
        raise InputError("dropout acts before batch norm, in the network as trained; this one is canonized")
    sites = sites_of(model, images.shape[1:3])
    calls: list[tuple[Sequence[int], jax.Array]] = []
    unmasked = [index for index, setting in enumerate(settings) if not setting.channels]
    if unmasked:
        calls.append((unmasked, jnp.stack([logits_of(model, images, sizes)] * len(unmasked), axis=1)))
    for part in plan_chunks(model, images, settings, chunk):
        masks = mask_array(sites, [settings[index] for index in part.settings], part.width)
        static = {"sites": sites, "first": part.first, "micro_batch": part.micro_batch}
        found = _masked(model, images, masks, sizes, **static)
        calls.append((part.settings, found))
    order = np.concatenate([columns for columns, _ in calls])
    found = [np.asarray(values)[:, : len(columns)] for columns, values in calls]
    return np.concatenate(found, axis=1)[:, np.argsort(order)]


def dropout_logits(
    model: Model, images: Float[Any, "n h w c"], sets: Sequence[Sequence[str | Channel]]
) -> Float[np.ndarray, "n sets outputs"]:
    """Logits of a batch with each of these sets of channels dropped, set to zero before batch norm (SPEC 6).

    Args:
        model: as trained, with its batch norms; for many batches `tffjax.prepare(model)`.
        images: normalized, NHWC.
        sets: channels or their keys; an empty set drops nothing.

    Raises:
        InputError: as `masked_logits`.
    """
    return masked_logits(model, images, [Setting(f"set {i}", as_channels(some)) for i, some in enumerate(sets)])


def plan_chunks(
    model: Model, images: Float[Any, "n h w c"], settings: Sequence[Setting], chunk: int | None = None
) -> tuple[Chunk, ...]:
    """Which settings are computed together; those that mask nothing are left out. Arguments as of `masked_logits`.

    Chunks that differ in `settings` only share a compiled program. Computes nothing; `images` may be a
    `jax.ShapeDtypeStruct`.
    """
    if chunk is not None and chunk < 1:
        raise InputError(f"the chunk must be at least 1 setting, got {chunk}")
    sites = sites_of(model, images.shape[1:3])
    number = {site.name: i for i, site in enumerate(sites)}
    for setting in settings:
        if not all(_exists(channel, sites, number) for channel in setting.channels):
            check_channels(setting.channels, model, images.shape[1:3])
    first_of_group = _group_starts(_work(model, sites, images))
    groups = defaultdict(list)
    for index, setting in enumerate(settings):
        if setting.channels:
            groups[first_of_group[min(number[channel.site] for channel in setting.channels)]].append(index)
    chunks = []
    for first, members in sorted(groups.items()):
        rows = _rows(sites, first, images)
        most = chunk or max(1, rows // micro_batch_size(images, 1))
        width = math.ceil(len(members) / math.ceil(len(members) / most))  # as even as possible: little is left over
        micro_batch = micro_batch_size(images, max(1, rows // width))
        chunks += [
            Chunk(tuple(members[start : start + width]), first, width, micro_batch)
            for start in range(0, len(members), width)
        ]
    return tuple(chunks)


def mask_array(sites: Sequence[Site], settings: Sequence[Setting], width: int) -> Bool[np.ndarray, "width channels"]:
    """True where a setting switches a channel off; channels of all sites in their order. Rows left over are False."""
    ends = np.cumsum([site.channels for site in sites])
    start = {site.name: end - site.channels for site, end in zip(sites, ends, strict=True)}
    masks = np.zeros((width, ends[-1]), bool)
    for row, setting in zip(masks, settings, strict=False):
        row[[start[channel.site] + channel.index for channel in setting.channels]] = True
    return masks


def _apply_masks(
    model: Model,
    images: Float[Array, "n h w c"],
    masks: Bool[Array, "settings channels"],
    sizes: Sequence[Int[Array, " n"]] = (),
    *,
    sites: tuple[Site, ...],
    first: int,
    micro_batch: int,
) -> Float[Array, "n settings outputs"]:
    starts = np.cumsum([0] + [site.channels for site in sites])
    masked = {site.name: slice(*starts[i : i + 2]) for i, site in enumerate(sites) if i >= first}

    def under_all(batch: tuple[jax.Array, Any]) -> jax.Array:
        images, ops = batch[0], plain_ops(model)
        if sizes:
            parts = Parts(jnp.stack(batch[1], axis=1), images.shape[1:3])
            images, ops = parts.cut(images), parts.ops(ops)

        def under(mask: jax.Array) -> jax.Array:
            def tap(site: str, y: jax.Array) -> jax.Array:
                return jnp.where(mask[masked[site]], 0, y) if site in masked else y

            return model(images, ops, tap)

        return jax.vmap(under, out_axes=1)(masks)

    return in_micro_batches(under_all, (images, sizes), micro_batch)


_masked = Pass(_apply_masks, static_argnames=("sites", "first", "micro_batch"))


def _exists(channel: Channel, sites: tuple[Site, ...], number: dict[str, int]) -> bool:
    site = sites[number[channel.site]] if channel.site in number else None
    return site is not None and channel.channels == site.channels and 0 <= channel.index < site.channels


def _group_starts(work: Float[np.ndarray, " sites"]) -> list[int]:
    """For each site, the first site of its group, given what each costs.

    Group g holds the sites behind which there is STEP^g to STEP^(g + 1) of all work, the last group all the rest.
    """
    behind = np.maximum(work.sum() - np.cumsum(work), 1) / work.sum()
    group = np.minimum(np.floor(np.log(behind) / np.log(STEP)), GROUPS - 1)
    return [int(np.flatnonzero(group == g)[0]) for g in group]


def _work(model: Model, sites: tuple[Site, ...], images: Float[Any, "n h w c"]) -> Float[np.ndarray, " sites"]:
    """Roughly what each site costs for one image, in multiply-adds."""
    multiply_adds = {layer.name: layer.multiply_adds for layer in layers_of(model, images)}
    return np.array([multiply_adds[site.name] + _OPERATIONS_PER_VALUE * _values(site) for site in sites], float)


def _values(site: Site) -> int:
    return site.channels * site.height * site.width


def _rows(sites: tuple[Site, ...], first: int, images: Float[Any, "n h w c"]) -> int:
    """How many activations, settings times images, to hold at once behind a site."""
    largest = max(map(_values, sites[first:]))
    if on_cpu():
        least, most = _CPU_ROWS
        return min(most, least * max(map(_values, sites)) // largest)
    statistics = jax.local_devices()[0].memory_stats() or {}
    memory = statistics.get("bytes_limit", 2**33)
    return min(_ACCELERATOR_VALUES, memory // (_LIVE_ACTIVATIONS * images.dtype.itemsize)) // largest
