"""LRP from a detector's logit through the image that it sees into the generator that made the image.

Chandrasegaran et al. 2022, supplement M. The generator's image x in [-1, 1] enters the detector clamped, as
((x + 1) / 2 - mean) / std. That is a map of each color of each pixel by itself: relevance passes it unchanged.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_of
from tffjax.kernels.convolution import zeros_varying_like
from tffjax.lrp.composites import EPSILON_PLUS, Composite
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.prepare import prepared_for, resolve
from tffjax.nn.card import Normalization
from tffjax.nn.generator import Generator
from tffjax.nn.graph import layers_of
from tffjax.nn.model import Model
from tffjax.nn.ops import Operation
from tffjax.nn.sites import probe_sums

INSIDE = EPSILON_PLUS
"""The generator's rules: z+ for its convolutions; leaky ReLUs and pixel norms hand relevance through."""


class Generated(NamedTuple):
    """An explanation of generated images.

    Attributes:
        images: of the generator, (n, s, s, 3), RGB, not clamped.
        logits: of the detector for the clamped images, (n, outputs).
        relevance: at the image, (n, s, s, 3), RGB.
        sites: site of the generator -> (n, 2, channels), as of `tffjax.lrp.Relevance`.
    """

    images: Float[Array, "n s s 3"]
    logits: Float[Array, "n outputs"]
    relevance: Float[Array, "n s s 3"]
    sites: dict[str, Float[Array, "n 2 channels"]]


def detector_input(images: Float[Array, "n s s 3"], normalization: Normalization) -> Float[Array, "n s s 3"]:
    """What a detector sees of images: clamped to [-1, 1], on the scale of pixels from 0 to 1, normalized."""
    return unclamped_input(jnp.clip(images, -1, 1), normalization)


def unclamped_input(images: Float[Array, "n s s 3"], normalization: Normalization) -> Float[Array, "n s s 3"]:
    """What a detector would see of images in about [-1, 1] as they are."""
    mean, std = (jnp.asarray(numbers, images.dtype) for numbers in (normalization.mean, normalization.std))
    ordered = images[..., ::-1] if normalization.order == "bgr" else images
    return ((ordered + 1) / 2 - mean) / std


def generated_relevance(
    detector: Model,
    generator: Generator,
    latents: Float[Array, "n latent"],
    *,
    composite: str | Composite | None = None,
    sign: int = 1,
    precision: str | None = None,
) -> Generated:
    """Explain the logit of a detector for generated images, on to the channels of the generator; one compiled pass.

    Args:
        detector: with one output and a card; for many batches one that is prepared (`tffjax.prepare`).
        generator: whose model may be prepared too, for the composite `INSIDE`.
        latents: of the images.
        composite, precision: of the detector, as of `tffjax.relevance`.
        sign: 1 explains the logit, -1 its negative.

    Raises:
        InputError: as `tffjax.relevance`.
    """
    composite, precision = resolve(detector, composite, precision)
    return _pass(detector, generator, latents, sign, composite=composite, precision=precision)


def _of_batch(
    detector: Model,
    generator: Generator,
    latents: jax.Array,
    sign: Any,
    composite: Composite,
    precision: str,
) -> Generated:
    shape = (1, generator.card.size, generator.card.size, 3)
    image, normalization = jax.ShapeDtypeStruct(shape, latents.dtype), detector.card.normalization
    detector = prepared_for(detector, composite, precision, image)
    codes = latents[:, None, None]
    inside = prepared_for(generator.model, INSIDE, precision, codes)
    of_detector, of_generator = layers_of(detector, image), layers_of(inside, codes)
    widths = {layer.name: layer.shape[-1] for layer in of_generator if layer.is_site}

    def explain(codes: jax.Array) -> Generated:
        probes = {name: zeros_varying_like(codes, (len(codes), 2, width)) for name, width in widths.items()}

        def generate(probes: dict[str, jax.Array]) -> jax.Array:
            def behind(operation: Operation, y: jax.Array) -> jax.Array:
                return probe_sums(y, probes.get(operation.name))

            return inside(codes, LrpOps.of(inside, of_generator, behind=behind))

        images, into_generator = jax.vjp(generate, probes)
        seen = detector_input(images, normalization)
        logits, to_image = jax.vjp(lambda seen: detector(seen, LrpOps.of(detector, of_detector)), seen)
        (relevance,) = to_image(jnp.ones_like(logits) * jnp.asarray(sign, logits.dtype))
        relevance = relevance[..., ::-1] if normalization.order == "bgr" else relevance
        return Generated(images, logits, relevance, *into_generator(relevance))

    count = micro_batch_of(detector, jax.ShapeDtypeStruct((len(latents), *shape[1:]), latents.dtype))
    return in_micro_batches(explain, codes, count)


_pass = Pass(_of_batch, static_argnames=("composite", "precision"))
