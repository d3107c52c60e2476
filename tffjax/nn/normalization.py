"""From pixels to network input, on the device: an image goes there as uint8, a quarter of the bytes of float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, UInt8

from tffjax.nn.card import Normalization


@functools.partial(jax.jit, static_argnames="normalization")
def normalized(pixels: UInt8[Array, "*batch 3"], normalization: Normalization) -> Float32[Array, "*batch 3"]:
    """(p / 255 - mean) / std per channel: to the bit what `tffjax.data.preprocessing.normalize` gives on the host.

    Looked up in `Normalization.table`, because XLA would multiply by rounded reciprocals instead of dividing.

    Args:
        pixels: uint8 RGB, channels last.
        normalization: mean, std and the order of the channels.

    Returns:
        float32 of the same shape, within `normalization.bounds`.
    """
    if normalization.order == "bgr":
        pixels = pixels[..., ::-1]
    return jnp.asarray(normalization.table)[np.arange(3), pixels]
