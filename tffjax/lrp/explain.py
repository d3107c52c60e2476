"""`relevance`: explain outputs or neurons of a network, for a batch of images in one compiled pass."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_of
from tffjax.compile.prepared import Prepared
from tffjax.errors import InputError
from tffjax.kernels.convolution import zeros_varying_like
from tffjax.lrp.composites import Composite
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.prepare import prepared_for, resolve
from tffjax.lrp.targets import Neuron, Target, layer_named, resolve_target, start_relevance
from tffjax.nn.graph import Layer, layers_of
from tffjax.nn.model import Model
from tffjax.nn.ops import Operation
from tffjax.nn.sites import probe_maps, probe_sums


class Relevance(NamedTuple):
    """An explanation of a batch.

    Attributes:
        logits: of the (canonized) network, (n, outputs).
        input: relevance of the image, (n, h, w, 3).
        sites: site or layer -> (n, 2, channels), sums over positions of the positive and of the negated negative
            relevance at its output: both are >= 0. Empty unless asked for.
        maps: site or layer -> the relevance itself, of the shape of its output, such as (n, h, w, channels).
    """

    logits: Float[Array, "n *outputs"]
    input: Float[Array, "n h w c"]
    sites: dict[str, Float[Array, "n 2 channels"]]
    maps: dict[str, Float[Array, "n *shape"]]

    def __repr__(self) -> str:
        parts = {"logits": self.logits, "input": self.input, **self.sites, **self.maps}
        shapes = ", ".join(f"{name}: {tuple(jnp.shape(array))}" for name, array in list(parts.items())[:6])
        return f"Relevance({shapes}{', ...' if len(parts) > 6 else ''})"


def relevance(
    model: Model,
    images: Float[Array, "n h w c"],
    *,
    target: Target = "logit",
    composite: str | Composite | None = None,
    sign: int = 1,
    sites: bool | str | Sequence[str] = False,
    maps: str | Sequence[str] = (),
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
            largest output of each image), a `Neuron`, or a start relevance: floats of the shape of the outputs, for
            all images or for each, such as 1 at one output and -1 at another.
        composite: a name (see `composite_of`) or a `Composite`; by default that of a prepared model, else beta0.
        sign: 1 explains the output, -1 its negative.
        sites: also return the sums of every site (True), or of these layers (names, or one name).
        maps: also return the relevance maps of these layers.
        precision: of convolutions and dots, see `tffjax.kernels.precision`; by default that of a prepared model, else
            float32.
        micro_batch: how many images to take at once, a divisor of their number; the result does not depend on it. By
            default all, but four on a CPU, where that is faster.

    Raises:
        InputError: the dtypes differ or are not float32/float64, there is no such composite, layer, output or
            precision, the target does not fit the outputs or the number of images, or the model is prepared for others.
    """
    check_types(model, images)
    composite, precision = resolve(model, composite, precision)
    layers = layers_of(model, images)
    summed = tuple(layer.name for layer in layers if layer.is_site) if sites is True else _names("sites", sites or ())
    maps = _names("maps", maps)
    for name in (*summed, *maps):
        layer_named(name, layers)
    target, word = resolve_target(target, model, images)
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
        summed=summed,
        maps=maps,
        precision=precision,
        micro_batch=micro_batch,
    )
    # jit sorts dictionaries by key
    return found._replace(
        sites={name: found.sites[name] for name in summed}, maps={name: found.maps[name] for name in maps}
    )


def _names(what: str, asked: Any) -> tuple[str, ...]:
    """One name or several as a tuple, which can be an argument of a compiled program."""
    names = (asked,) if isinstance(asked, str) else tuple(asked) if isinstance(asked, Sequence) else (None,)
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{what} takes names of layers, not {asked!r}")
    return names


def _explain_batch(
    model: Model,
    images: jax.Array,
    target: Any,
    sign: Any,
    word: str,
    composite: Composite,
    layers: tuple[Layer, ...],
    summed: tuple[str, ...],
    maps: tuple[str, ...],
    precision: str,
    micro_batch: int,
) -> Relevance:
    model = prepared_for(model, composite, precision, images)

    def explain(batch: tuple[jax.Array, Any]) -> Relevance:
        return _one_pass(model, *batch, word, sign, layers, summed, maps)

    return in_micro_batches(explain, (images, target), micro_batch)


_relevance = Pass(
    _explain_batch, static_argnames=("word", "composite", "layers", "summed", "maps", "precision", "micro_batch")
)


def _one_pass(
    model: Prepared,
    images: jax.Array,
    target: Any,
    word: str,
    sign: Any,
    layers: tuple[Layer, ...],
    summed: tuple[str, ...],
    maps: tuple[str, ...],
) -> Relevance:
    """`_explain_batch` for images that are taken at once."""
    shapes, count = {layer.name: layer.shape for layer in layers}, len(images)
    probes = (
        {name: zeros_varying_like(images, (count, 2, shapes[name][-1])) for name in summed},
        {name: zeros_varying_like(images, (count, *shapes[name])) for name in maps},
    )
    times_input = model.composite.times_input

    def explained(images: jax.Array, probes: Any) -> tuple[jax.Array, jax.Array]:
        (sums, full), seen = probes, {}

        def behind(operation: Operation, y: jax.Array) -> jax.Array:
            y = probe_sums(y, sums.get(operation.name), times_input)
            seen[operation.name] = probe_maps(y, full.get(operation.name), times_input)
            return seen[operation.name]

        logits = model(images, LrpOps.of(model, layers, behind=behind))
        return seen[target.site] if isinstance(target, Neuron) else logits, logits

    y, pullback, logits = jax.vjp(explained, images, probes, has_aux=True)
    start = start_relevance(y, target, word)
    received, (sums, full) = pullback(start * jnp.asarray(sign, start.dtype))
    return Relevance(logits, received * images if times_input else received, sums, full)


def check_types(model: Model, images: Float[Any, "n h w c"]) -> None:
    """Raise an InputError unless there are images, and they and the weights are both float32 or both float64."""
    if not len(images):
        raise InputError("there are no images: the batch is empty")
    dtypes = {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(model.variables)}
    if dtypes - {"float32", "float64"} or len(dtypes) != 1:
        raise InputError(
            f"relevance needs weights in float32 or float64, these are {', '.join(sorted(dtypes))}; "
            "upcast them: model.astype('float32')"
        )
    if str(images.dtype) not in dtypes:
        raise InputError(f"the images are {images.dtype}, the weights {min(dtypes)}; bring one to the other's type")
