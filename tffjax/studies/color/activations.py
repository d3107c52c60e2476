"""Is a feature about color? Maximal activations of channels for several variants of the images in one pass (SPEC 7)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_of
from tffjax.compile.prepared import plain_ops, precision_of
from tffjax.errors import InputError
from tffjax.nn.graph import layers_of
from tffjax.nn.model import Model
from tffjax.nn.padded import Parts
from tffjax.studies.rankings import Channel, as_channels, check_channels


def max_activations(
    model: Model,
    images: Float[Array, "*batch h w 3"],
    channels: Sequence[str | Channel],
    precision: str | None = None,
    micro_batch: int | None = None,
    sizes: Sequence[Int[Array, " n"]] = (),
) -> tuple[Float[Array, "*batch outputs"], Float[Array, "*batch k"]]:
    """Logits, and the maximal activation of every channel: max over (h, w) of the convolution's output (SPEC 7).

    The output is that of the ordinary network before batch norm, signed. All channels of all sites and all variants of
    the images (such as RGB and grayscale) go through one pass, and the maxima are taken on the device: what 2 x k
    passes of the released code compute. Compiled once for each shape, set of sites and number of channels; another
    list of channels of the same sites is no new program.

    Args:
        model: as trained, batch norms not folded; for many batches `tffjax.prepare(model)`.
        images: normalized images with any axes before (h, w, 3), such as (n, v, h, w, 3) for v variants of n images.
        channels: at least one, or their keys, in any order.
        precision: of convolutions and dots, see `tffjax.kernels.precision`; by default that of a prepared model, else
            float32.
        micro_batch: how many images (counting variants) to take at once, a divisor of their number.
        sizes: heights and widths of images (n, ...) that are filled up to one size (`tffjax.nn.padded`); none, of
            others.

    Returns:
        Logits, and the maxima in the order of `channels`.

    Raises:
        InputError: no channels, a channel that the network does not have or that is named twice, a folded network.
    """
    if getattr(model.module, "batch_norm", "statistics") != "statistics":
        raise InputError("maximal activations are those before batch norm, but this network's is folded: give it as is")
    if not channels:
        raise InputError("no channels are given; give at least one")
    channels = as_channels(channels)
    flat = images.reshape(-1, *images.shape[-3:])
    sites = {layer.name: layer.shape[-1] for layer in layers_of(model, flat) if layer.is_site}
    check_channels(channels, model, flat.shape[1:3])
    wanted = tuple(site for site in sites if any(channel.site == site for channel in channels))
    starts = dict(zip(wanted, np.cumsum([0, *(sites[site] for site in wanted)]).tolist(), strict=False))
    places = np.array([starts[channel.site] + channel.index for channel in channels])
    precision, micro_batch = precision_of(model, precision), micro_batch or micro_batch_of(model, flat)
    sizes = [jnp.repeat(some, len(flat) // len(some)) for some in sizes]  # of all variants
    static = {"sites": wanted, "precision": precision, "micro_batch": micro_batch}
    logits, maxima = _max_activations(model, flat, places, sizes, **static)
    return tuple(a.reshape(*images.shape[:-3], a.shape[-1]) for a in (logits, maxima))


def _of_batch(
    model: Model,
    images: jax.Array,
    places: Any,
    sizes: Sequence[jax.Array],
    sites: tuple[str, ...],
    precision: str,
    micro_batch: int,
) -> tuple[jax.Array, jax.Array]:
    def one_pass(batch: tuple[jax.Array, Any]) -> tuple[jax.Array, jax.Array]:
        (images, _), ops, maxima, parts = batch, plain_ops(model, precision), {}, None
        if sizes:
            parts = Parts(jnp.stack(batch[1], axis=1), images.shape[1:3])
            images, ops = parts.cut(images), parts.ops(ops)

        def tap(site: str, y: jax.Array) -> jax.Array:
            if site in sites:
                maxima[site] = (y if parts is None else parts.cut(y, -jnp.inf)).max(axis=(1, 2))
            return y

        logits = model(images, ops, tap)
        return logits, jnp.concatenate([maxima[site] for site in sites], axis=1)[:, places]

    return in_micro_batches(one_pass, (images, sizes), micro_batch)


_max_activations = Pass(_of_batch, static_argnames=("sites", "precision", "micro_batch"))
