"""`relevance`: explain outputs or neurons of a network, for a batch of images in one compiled pass."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_of
from tffjax.compile.prepared import Prepared
from tffjax.errors import InputError
from tffjax.kernels.convolution import zeros_varying_like
from tffjax.lrp.composites import Composite
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.prepare import prepared_for, resolve
from tffjax.nn.graph import Layer, layers_of
from tffjax.nn.model import Model
from tffjax.nn.sites import probe_maps, probe_sums


@functools.partial(jax.tree_util.register_dataclass, data_fields=("channel", "position"), meta_fields=("site",))
@dataclasses.dataclass(frozen=True)
class Neuron:
    """One neuron of a site as the target of an explanation.

    Attributes:
        site: name of the convolution (before its batch norm's activation, with the batch norm folded in).
        channel: channel index, a number or one for each image.
        position: (row, column), numbers or one for each image; None takes the largest value of the channel, the first
            in scan order on ties.
    """

    site: str
    channel: int | Int[Array, "*n"]
    position: tuple[Any, Any] | None = None


class Relevance(NamedTuple):
    """An explanation of a batch.

    Attributes:
        logits: of the (canonized) network, (n, outputs).
        input: relevance of the image, (n, h, w, 3).
        sites: site -> (n, 2, channels), sums over positions of the positive and of the negated negative relevance at
            the output of the convolution: both are >= 0. Empty unless asked for.
        maps: site -> (n, h, w, channels), the relevance itself, of the sites asked for.
    """

    logits: Float[Array, "n outputs"]
    input: Float[Array, "n h w c"]
    sites: dict[str, Float[Array, "n 2 channels"]]
    maps: dict[str, Float[Array, "n sh sw channels"]]


def relevance(
    model: Model,
    images: Float[Array, "n h w c"],
    *,
    target: int | str | Neuron | Int[Array, "*n"] = "logit",
    composite: str | Composite | None = None,
    sign: int = 1,
    sites: bool = False,
    maps: tuple[str, ...] = (),
    precision: str | None = None,
    micro_batch: int | None = None,
) -> Relevance:
    """Explain a network's output by layer-wise relevance propagation.

    The relevance that starts is `sign` at the explained output (not its value), so the sum of a conserving explanation
    is close to `sign`. The model is canonized first. Compiled once for each shape; composes with `jit`, `vmap`,
    `lax.map` and `shard_map`.

    Args:
        model: network with float32 or float64 weights; for many batches one that is prepared (`tffjax.prepare`).
        images: normalized images of the same dtype, NHWC.
        target: `logit` (the only output), an output index for all images or an array of one for each, `top` (the
            largest output of each image), or a `Neuron`.
        composite: a name (see `composite_of`) or a `Composite`; by default that of a prepared model, else beta0.
        sign: 1 explains the output, -1 its negative.
        sites: also return the sums of every site.
        maps: also return the relevance maps of these sites.
        precision: of convolutions and dots, see `tffjax.kernels.precision`; by default that of a prepared model, else
            float32.
        micro_batch: how many images to take at once, a divisor of their number; the result does not depend on it. By
            default all, but four on a CPU, where that is faster.

    Raises:
        InputError: the dtypes differ or are not float32/float64, there is no such composite, site, output or precision,
            or the model is prepared for others.
    """
    check_types(model, images)
    composite, precision = resolve(model, composite, precision)
    layers = layers_of(model, images)
    shapes = {layer.name: layer.shape for layer in layers if layer.is_site}
    for site in (*maps, *((target.site,) if isinstance(target, Neuron) else ())):
        if site not in shapes:
            raise InputError(f"the network has no site {site!r}; it has {', '.join(list(shapes)[:3])}, ...")
    if isinstance(target, Neuron):
        h, w, channels = shapes[target.site]
        _check_range("channel", target.channel, channels)
        for index, size in zip(target.position or (), (h, w), strict=False):
            _check_range("position", index, size)
        word = ""
    else:
        target, word = resolve_target(target, layers)
    micro_batch = micro_batch or micro_batch_of(model, images)
    if len(images) % micro_batch:
        raise InputError(f"{len(images)} images cannot be taken {micro_batch} at a time; micro_batch must divide them")
    found = _relevance(
        model,
        images,
        target,
        sign,
        word=word,
        composite=composite,
        layers=layers,
        sites=sites,
        maps=tuple(maps),
        precision=precision,
        micro_batch=micro_batch,
    )
    # jit sorts dictionaries by key; sites come in the order of the network, maps in the order asked for
    in_order = {layer.name: found.sites[layer.name] for layer in layers if layer.name in found.sites}
    return found._replace(sites=in_order, maps={site: found.maps[site] for site in maps})


def _explain_batch(
    model: Model,
    images: jax.Array,
    target: Any,
    sign: Any,
    word: str,
    composite: Composite,
    layers: tuple[Layer, ...],
    sites: bool,
    maps: tuple[str, ...],
    precision: str,
    micro_batch: int,
) -> Relevance:
    model = prepared_for(model, composite, precision, images)
    sign = jnp.asarray(sign, images.dtype)
    target = jax.tree.map(lambda index: jnp.broadcast_to(jnp.asarray(index), (len(images),)), target)

    def explain(batch: tuple[jax.Array, Any]) -> Relevance:
        return _one_pass(model, *batch, word, sign, layers, sites, maps)

    return in_micro_batches(explain, (images, target), micro_batch)


_relevance = Pass(
    _explain_batch, static_argnames=("word", "composite", "layers", "sites", "maps", "precision", "micro_batch")
)


def _one_pass(
    model: Prepared,
    images: jax.Array,
    target: Any,
    word: str,
    sign: jax.Array,
    layers: tuple[Layer, ...],
    sites: bool,
    maps: tuple[str, ...],
) -> Relevance:
    """`_explain_batch` for images that are taken at once; the target has one entry an image."""
    shapes = {layer.name: layer.shape for layer in layers if layer.is_site}
    count = len(images)
    probes = (
        {name: zeros_varying_like(images, (count, 2, shape[-1])) for name, shape in shapes.items() if sites},
        {name: zeros_varying_like(images, (count, *shapes[name])) for name in maps},
    )
    ops, times_input = LrpOps.of(model, layers), model.composite.times_input

    def explained(images: jax.Array, probes: Any) -> tuple[jax.Array, jax.Array]:
        sums, full = probes
        kept = {}

        def tap(site: str, y: jax.Array) -> jax.Array:
            y = probe_sums(y, sums.get(site), times_input)
            y = probe_maps(y, full.get(site), times_input)
            if isinstance(target, Neuron) and site == target.site:
                kept[site] = y
            return y

        logits = model(images, ops, tap)
        if isinstance(target, Neuron):
            return _neuron(kept[target.site], target), logits
        return chosen_output(logits, target, word), logits

    value, pullback, logits = jax.vjp(explained, images, probes, has_aux=True)
    received, (sums, full) = pullback(jnp.zeros_like(value) + sign.astype(value.dtype))
    return Relevance(logits, received * images if times_input else received, sums, full)


def _neuron(y: jax.Array, target: Neuron) -> jax.Array:
    """The values (n,) of one neuron an image."""
    n, h, w, _ = y.shape
    rows = jnp.arange(n)
    channel = y[rows, :, :, target.channel].reshape(n, h * w)
    if target.position is None:
        place = jax.lax.stop_gradient(channel).argmax(axis=1)
    else:
        place = target.position[0] * w + target.position[1]
    return channel[rows, place]


def chosen_output(logits: jax.Array, target: Any, word: str) -> jax.Array:
    """The explained output (n,) of each image."""
    index = logits.argmax(axis=1) if word else jnp.broadcast_to(target, (len(logits),))
    return jnp.take_along_axis(logits, index[:, None], axis=1)[:, 0]


def resolve_target(target: Any, layers: tuple[Layer, ...]) -> tuple[Any, str]:
    """An output target as (index or None, "" or the word that stands for it).

    Raises:
        InputError: there is no such word or output, or `logit` of a network with several outputs.
    """
    outputs = layers[-1].shape[-1]
    if not isinstance(target, str):
        _check_range("output", target, outputs)
        return target, ""
    if target not in ("logit", "top"):
        raise InputError(f"there is no target {target!r}; choose 'logit', 'top', an output index or a Neuron")
    if target == "logit" and outputs != 1:
        raise InputError(f"'logit' needs a network with one output, this one has {outputs}; choose 'top' or an index")
    return None, target


def _check_range(what: str, index: Any, size: int) -> None:
    """Raise an InputError for an index out of range; the values of traced ones cannot be known."""
    try:
        values = np.ravel(np.asarray(index))
    except jax.errors.TracerArrayConversionError:
        return
    for value in values:
        if not 0 <= value < size:
            raise InputError(f"there is no {what} {value}; there are {size}, counted from 0")


def check_types(model: Model, images: Float[Any, "n h w c"]) -> None:
    """Raise an InputError unless weights and images are both float32 or both float64."""
    dtypes = {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(model.variables)}
    if dtypes - {"float32", "float64"} or len(dtypes) != 1:
        raise InputError(
            f"relevance needs weights in float32 or float64, these are {', '.join(sorted(dtypes))}; "
            "upcast them: model.astype('float32')"
        )
    if str(images.dtype) not in dtypes:
        raise InputError(f"the images are {images.dtype}, the weights {min(dtypes)}; bring one to the other's type")
