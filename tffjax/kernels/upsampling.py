"""Up-sampling by whole factors, NHWC."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.kernels.convolution import Pair


def nearest(x: Float[Array, "n h w c"], factor: Pair) -> Float[Array, "n oh ow c"]:
    """Every row and column repeated: y[i] = x[i // factor]."""
    return jnp.repeat(jnp.repeat(x, factor[0], axis=1), factor[1], axis=2)


def bilinear(x: Float[Array, "n h w c"], factor: Pair) -> Float[Array, "n oh ow c"]:
    """Linear between the centers of pixels, constant outside: y[i] = x((i + 1/2) / factor - 1/2).

    That is TensorFlow's and `jax.image`'s, and PyTorch's with `align_corners=False`.
    """
    return _linear(_linear(x, factor[0], 1), factor[1], 2)


def _linear(x: jax.Array, factor: int, axis: int) -> jax.Array:
    """One axis: all outputs with one remainder modulo the factor mix each pixel with the same neighbor."""
    size = x.shape[axis]
    first, last = jax.lax.slice_in_dim(x, 0, 1, axis=axis), jax.lax.slice_in_dim(x, size - 1, size, axis=axis)
    before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis)
    after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, size, axis=axis), last], axis)
    offsets = [(remainder + 0.5) / factor - 0.5 for remainder in range(factor)]
    mixed = [(1 - abs(t)) * x + abs(t) * (before if t < 0 else after) for t in offsets]
    shape = (*x.shape[:axis], size * factor, *x.shape[axis + 1 :])
    return jnp.stack(mixed, axis + 1).reshape(shape)
