"""LRP of single neurons in passes over whole images that several neurons of an image share.

The forward pass and the denominators of the rules depend on activations only: they are computed once an image, and the
rest of the backward pass once a neuron.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tffjax.kernels.choice import on_cpu
from tffjax.lrp.composites import Composite
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.prepare import prepared_for
from tffjax.nn.graph import Layer
from tffjax.nn.model import Model
from tffjax.nn.sites import outputs_at


def full_relevance(
    model: Model,
    images: Float[Array, "n h w 3"],
    numbers: Int[Array, "n lanes"],
    channels: Int[Array, "n lanes"],
    positions: Int[Array, "n lanes 2"],
    sites: tuple[str, ...],
    composite: Composite,
    layers: tuple[Layer, ...],
) -> Float[Array, "n lanes h w"]:
    """Relevance of some neurons of each image; `numbers` says at which of the sites each one is, -1 at none.

    Most explanations are linear in the relevance that starts (`Composite.linear`). So linearizing the backward pass
    splits it: what does not depend on the start, the denominators, is computed once.
    """
    model = prepared_for(model, composite, "float32", images)
    ops = LrpOps.of(model, layers)
    outputs, backward = jax.vjp(lambda images: outputs_at(model, images, sites, ops), images)
    if composite.linear:
        _, backward = jax.linearize(backward, tuple(jnp.zeros_like(y) for y in outputs))
    image = jnp.arange(len(images), dtype=channels.dtype)

    def explain(number: jax.Array, channel: jax.Array, position: jax.Array) -> jax.Array:
        here = image, position[:, 0], position[:, 1], channel  # where this is out of range, it is another site's
        starts = [
            jnp.zeros_like(y).at[here].set(((number == index) & (y[here] > 0)).astype(y.dtype))
            for index, y in enumerate(outputs)
        ]
        (received,) = backward(tuple(starts))
        return (received * images if composite.times_input else received).sum(axis=3)

    def lane(neuron: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return jax.lax.cond((neuron[0] >= 0).any(), explain, lambda *_: jnp.zeros_like(images[..., 0]), *neuron)

    lanes = jax.tree.map(lambda a: a.swapaxes(0, 1), (numbers, channels, positions))
    return (jax.lax.map(lane, lanes) if on_cpu() else jax.vmap(lane)(lanes)).swapaxes(0, 1)
