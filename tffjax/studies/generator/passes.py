"""What one batch of latents says: relevance of the generator's channels, and images with channels masked.

A masked channel is 0 at its convolution's output, bias included, before the leaky ReLU; behind it the same, for the
leaky ReLU of 0 is 0.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from tffjax.compile.passes import in_micro_batches, micro_batch_of
from tffjax.compile.prepared import Prepared, plain_ops
from tffjax.lrp.generated import generated_relevance, unclamped_input
from tffjax.nn.card import Normalization
from tffjax.nn.generator import Generator
from tffjax.nn.normalization import normalized
from tffjax.studies.ffrs.statistic import Shares, shares_of

LUMA = (0.299, 0.587, 0.114)
LEAST_ERROR = 1e-10
"""Mean squared error, of pixels from 0 to 1, that counts for images which do not differ: 100 dB."""


class Explained(NamedTuple):
    """Of a batch of latents.

    Attributes:
        shares: FF-RS of the generator's channels, with the detector's logits for the clamped images.
        net: relevance of every site, summed over positions and channels.
        unclamped, saved: logits for the image as the generator makes it, and for the saved one.
        clamped: share of values outside of [-1, 1].
    """

    shares: Shares
    net: Float[Array, "n sites"]
    unclamped: Float[Array, " n"]
    saved: Float[Array, " n"]
    clamped: Float[Array, " n"]


class Masked(NamedTuple):
    """Of a batch of latents under every mask.

    Attributes:
        logits: for the saved images.
        psnr: of the saved image against that without a mask, in dB, at most 100.
        color: root mean square over R, G, B of how far the mean color moves, in levels from 0 to 255.
        detail: power of the luma above 1/4 cycle a pixel, against that without a mask.
    """

    logits: Float[Array, "n masks"]
    psnr: Float[Array, "n masks"]
    color: Float[Array, "n masks"]
    detail: Float[Array, "n masks"]


def explain(detector: Prepared, generator: Generator, latents: Float[Array, "n latent"], sign: int = 1) -> Explained:
    """Relevance of a batch; `sign` is 1 where a high logit means fake, else -1."""
    found = generated_relevance(detector, generator, latents, sign=sign)
    ops, normalization = plain_ops(detector), detector.card.normalization
    sites = {site.name: found.sites[site.name] for site in generator.sites}
    shares = shares_of(found.logits, sites, jnp.ones(len(latents), bool))
    net = jnp.stack([(sums[:, 0] - sums[:, 1]).sum(axis=1) for sums in sites.values()], axis=1)
    unclamped = detector(unclamped_input(found.images, normalization), ops)[:, 0]
    saved = _logits(detector, saved_pixels(found.images), normalization)
    return Explained(shares, net, unclamped, saved, (jnp.abs(found.images) > 1).mean(axis=(1, 2, 3)))


def masked(
    detector: Prepared, generator: Generator, latents: Float[Array, "n latent"], masks: Bool[Array, "masks channels"]
) -> Masked:
    """Images of a batch with each set of the generator's channels masked, given over all sites in their order."""
    normalization = detector.card.normalization

    def of_batch(codes: Float[Array, "n 1 1 latent"]) -> Masked:
        plain = saved_pixels(generator.model(codes, plain_ops(generator.model)))

        def under(mask: jax.Array) -> tuple[jax.Array, ...]:
            changed = saved_pixels(_masked_image(generator, codes, mask))
            return _logits(detector, changed, normalization), *_moved(plain, changed)

        return Masked(*(found.T for found in jax.lax.map(under, masks)))

    image = jax.ShapeDtypeStruct((len(latents), generator.card.size, generator.card.size, 3), latents.dtype)
    return in_micro_batches(of_batch, latents[:, None, None], micro_batch_of(detector, image))


@jax.jit
def masked_images(
    generator: Generator, latents: Float[Array, "n latent"], masks: Bool[Array, "masks channels"]
) -> Float[Array, "masks n s s 3"]:
    """Images of some latents under each mask, as the generator makes them."""
    return jax.lax.map(lambda mask: _masked_image(generator, latents[:, None, None], mask), masks)


def _masked_image(
    generator: Generator, codes: Float[Array, "n 1 1 latent"], mask: Bool[Array, " channels"]
) -> Float[Array, "n s s 3"]:
    ends = np.cumsum([0, *(site.channels for site in generator.sites)])
    place = {site.name: slice(*bounds) for site, bounds in zip(generator.sites, itertools.pairwise(ends), strict=True)}

    def tap(name: str, y: jax.Array) -> jax.Array:
        return jnp.where(mask[place[name]], jnp.zeros((), y.dtype), y)

    return generator.model(codes, plain_ops(generator.model), tap)


def saved_pixels(images: Float[Array, "n s s 3"]) -> UInt8[Array, "n s s 3"]:
    """What a saved image holds, as `tffjax.nn.generator.pixels_of`."""
    return jnp.rint((jnp.clip(images, -1, 1) + 1) * jnp.asarray(127.5, images.dtype)).astype(jnp.uint8)


def _logits(detector: Prepared, pixels: UInt8[Array, "n s s 3"], normalization: Normalization) -> Float[Array, " n"]:
    return detector(normalized(pixels, normalization), plain_ops(detector))[:, 0]


def _moved(before: UInt8[Array, "n s s 3"], after: UInt8[Array, "n s s 3"]) -> tuple[Float[Array, " n"], ...]:
    """PSNR, color shift and detail of images."""
    x, y = (pixels.astype(jnp.float32) / 255 for pixels in (before, after))
    error = jnp.square(x - y).mean(axis=(1, 2, 3))
    color = jnp.sqrt(jnp.square((x - y).mean(axis=(1, 2))).mean(axis=-1))
    fine_x, fine_y = _fine(x), _fine(y)
    detail = jnp.where(fine_x > 0, fine_y / jnp.where(fine_x > 0, fine_x, 1), 1)
    return -10 * jnp.log10(jnp.maximum(error, LEAST_ERROR)), 255 * color, detail


def _fine(images: Float[Array, "n s s 3"]) -> Float[Array, " n"]:
    """Power of the luma at frequencies above 1/4 cycle a pixel."""
    size = images.shape[1]
    spectrum = jnp.square(jnp.abs(jnp.fft.fft2(images @ jnp.asarray(LUMA, images.dtype), axes=(1, 2))))
    axis = jnp.fft.fftfreq(size, dtype=images.dtype)
    high = jnp.square(axis)[:, None] + jnp.square(axis)[None, :] > 1 / 16
    return jnp.where(high, spectrum, 0).sum(axis=(1, 2)) / size**4
