"""Explanations of single decisions as maps over the image: LRP and Guided Grad-CAM (supplement J of the paper)."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.compile.passes import Pass
from tffjax.compile.prepared import plain_ops
from tffjax.errors import InputError
from tffjax.lrp.composites import GUIDED_BACKPROP, Composite
from tffjax.lrp.explain import relevance
from tffjax.lrp.targets import resolve_target, start_relevance
from tffjax.nn.graph import layers_of
from tffjax.nn.model import Model, record_of
from tffjax.nn.ops import Operation


class Heatmap(NamedTuple):
    """Explanations of a batch as one number a pixel, and the logits that come with them."""

    logits: Float[Array, "n outputs"]
    heat: Float[Array, "n h w"]


def lrp_map(
    model: Model,
    images: Float[Array, "n h w 3"],
    target: int | str = "top",
    composite: str | Composite = "beta0",
    sign: int = 1,
) -> Heatmap:
    """Relevance of every pixel, summed over colors; see `tffjax.relevance`."""
    explained = relevance(model, images, target=target, composite=composite, sign=sign)
    return Heatmap(explained.logits, explained.input.sum(axis=3))


def grad_cam(
    model: Model, images: Float[Array, "n h w 3"], target: int | str = "top", layer: str | None = None, sign: int = 1
) -> Float[Array, "n h w"]:
    """Grad-CAM (Selvaraju et al. 2017): max(0, sum_c mean_hw(d f / d A_c) A_c), resized bilinearly to the image.

    Args:
        model: a network, as trained.
        images: normalized images.
        target: `top`, `logit` or an output index.
        layer: name of a convolution or activation whose output is A; None takes that of the network's record.
        sign: 1 explains the output, -1 its negative.

    Raises:
        InputError: there is no such layer, or none is known for the network.
    """
    network = record_of(model)
    layer = layer or (network and network.cam_layer)
    if layer is None:
        raise InputError("say which layer Grad-CAM shall look at; none is known for this network")
    start, word = resolve_target(target, model, images)
    return _grad_cam(model, images, start, sign, word=word, layer=layer)


def guided_grad_cam(
    model: Model, images: Float[Array, "n h w 3"], target: int | str = "top", layer: str | None = None, sign: int = 1
) -> Heatmap:
    """Guided Grad-CAM: guided backpropagation (Springenberg et al. 2015), summed over colors, times Grad-CAM.

    The guided gradient of an activation is its gradient where its input and the gradient above are positive.
    """
    guided = lrp_map(model, images, target, GUIDED_BACKPROP, sign)
    return guided._replace(heat=guided.heat * grad_cam(model, images, target, layer, sign))


def _grad_cam_batch(model: Model, images: jax.Array, target: Any, sign: Any, word: str, layer: str) -> jax.Array:
    shapes = {known.name: known.shape for known in layers_of(model, images) if known.kind in ("conv", "activation")}
    if layer not in shapes:
        raise InputError(f"the network has no convolution or activation {layer!r} for Grad-CAM to look at")

    def explained(shift: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen = {}

        def watch(operation: Operation, y: jax.Array) -> jax.Array:
            seen[operation.name] = y + shift if operation.name == layer else y
            return seen[operation.name]

        logits = model(images, dataclasses.replace(plain_ops(model), behind=watch))
        return sign * (logits * start_relevance(logits, target, word)).sum(), seen[layer]

    shift = jnp.zeros((len(images), *shapes[layer]), images.dtype)
    gradient, activation = jax.grad(explained, has_aux=True)(shift)
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    cam = jnp.maximum((weights * activation).sum(axis=3), 0)
    return jax.image.resize(cam, images.shape[:3], "bilinear")


_grad_cam = Pass(_grad_cam_batch, static_argnames=("word", "layer"))
