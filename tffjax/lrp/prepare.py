"""`prepare`: what passes need of the weights, computed once a model and handed to them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from tffjax.compile.prepared import Prepared, precision_of
from tffjax.errors import InputError
from tffjax.kernels.choice import Kernels
from tffjax.kernels.precision import check_precision
from tffjax.lrp.composites import Composite, composite_of
from tffjax.lrp.linear import Conv, ConvTranspose, Dense
from tffjax.lrp.redistribution import Linear
from tffjax.nn.canonization import canonize
from tffjax.nn.graph import image_of, layers_of, parameters_of
from tffjax.nn.model import Model


def prepare(
    model: Model,
    composite: str | Composite | None = None,
    *,
    precision: str = "float32",
    kernels: Kernels | None = None,
    size: tuple[int, ...] | None = None,
) -> Prepared:
    """Compute once what depends on the weights alone: folded batch norms, w+, w-, boxes, transformed kernels.

    Passes over many batches take the result in place of the model. They give the same numbers as with the model, of
    which every call would prepare anew what it needs. It is a pytree: place, shard or donate it like any other.
    Works under `jit`.

    Args:
        model: the network, as trained or canonized.
        composite: of explanations, a name (see `composite_of`) or a `Composite`; the result is canonized. None
            prepares forward passes of the network as it is.
        precision: of the passes, see `tffjax.kernels.precision`.
        kernels: how convolutions and pools are computed; by default the choice for JAX's backend.
        size: (h, w) or (h, w, c) of the images, for networks that take no other and have no record that says it
            (see `tffjax.nn.graph.image_of`).

    Raises:
        InputError: the model is prepared already, there is no such composite or precision, or the network does not take
            images of this size.
    """
    if isinstance(model, Prepared):
        raise InputError("the model is prepared already; give it as it was before")
    check_precision(precision)
    composite = composite_of(composite, model) if isinstance(composite, str) else composite
    size = image_of(model, size).shape[1:]
    return _prepare(model, composite=composite, precision=precision, kernels=kernels, size=size)


_MAPS = {"conv": Conv, "conv_transpose": ConvTranspose}


@functools.partial(jax.jit, static_argnames=("composite", "precision", "kernels", "size"))
def _prepare(
    model: Model, composite: Composite | None, precision: str, kernels: Kernels | None, size: tuple[int, ...]
) -> Prepared:
    model = model if composite is None else canonize(model)
    image = jax.ShapeDtypeStruct((1, *size), jnp.result_type(*jax.tree.leaves(model.variables)))
    layers = {layer.name: layer for layer in layers_of(model, image)}
    transformed, weights = {}, {}
    for name, (kernel, bias) in parameters_of(model, image).items():
        layer = layers[name]
        linear = Dense(precision) if layer.kind == "dense" else _MAPS[layer.kind](layer.geometry, precision, kernels)
        transformed[name] = linear.transform(kernel)
        rule = composite and composite.rule_of(layer)
        if rule is not None:
            weights[name] = rule.prepare(Linear(linear, None, kernel, bias, nonnegative=layer.nonnegative))
    transformed = {name: array for name, array in transformed.items() if array is not None}
    return Prepared(model.module, model.variables, model.card, transformed, weights, composite, precision, kernels)


def prepared_for(model: Model, composite: Composite, precision: str, images: Any) -> Prepared:
    """The model itself if it is prepared, else what `prepare` makes of it, for images of this size."""
    if isinstance(model, Prepared):
        return model
    return _prepare(model, composite=composite, precision=precision, kernels=None, size=images.shape[-3:])


def resolve(
    model: Model, composite: str | Composite | None = None, precision: str | None = None
) -> tuple[Composite, str]:
    """Composite and precision of an explanation: those of a prepared model, else what is asked for.

    Raises:
        InputError: the model is prepared for others, or for forward passes only; there is no such composite or
            precision.
    """
    precision = precision_of(model, precision)
    check_precision(precision)
    if not isinstance(model, Prepared):
        found = composite or "beta0"
        return composite_of(found, model) if isinstance(found, str) else found, precision
    if model.composite is None:
        raise InputError("the model is prepared for forward passes only: prepare(model, composite)")
    found = composite_of(composite, model) if isinstance(composite, str) else composite
    if found not in (None, model.composite):
        raise InputError(f"the model is prepared for {model.composite.name}, not for {found.name}")
    return model.composite, precision
