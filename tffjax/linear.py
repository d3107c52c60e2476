"""Linear maps of layers, each with its transpose: what the rules redistribute relevance over.

A map is called with an input and a kernel (None where it has none) and knows nothing of biases.
`transpose(s, kernel, like)` is the gradient of `sum(s * map(x, kernel))` with respect to x, for an x of the shape of
`like`. All are hashable and hold no arrays.
"""

import dataclasses

import jax
import jax.numpy as jnp

from tffjax import convolution
from tffjax.convolution import Geometry
from tffjax.ops import average_pool


@dataclasses.dataclass(frozen=True)
class Conv:
    """Convolution, NHWC and HWIO."""

    geometry: Geometry
    precision: str = "highest"

    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The convolution of x, (n, h, w, i), with a kernel."""
        return convolution.conv(x, kernel, self.geometry, self.precision)

    def transpose(self, s: jax.Array, kernel: jax.Array, like: jax.Array) -> jax.Array:
        """(n, oh, ow, o) to (n, h, w, i)."""
        return convolution.conv_transpose(s, kernel, self.geometry, like.shape[1:3], self.precision)


@dataclasses.dataclass(frozen=True)
class Dense:
    """Matrix product."""

    precision: str = "highest"

    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The product of x, (n, i), with a kernel (i, o)."""
        return jnp.dot(x, kernel, precision=self.precision)

    def transpose(self, s: jax.Array, kernel: jax.Array, like: jax.Array) -> jax.Array:
        """(n, o) to (n, i)."""
        return jnp.dot(s, kernel.T, precision=self.precision)


@dataclasses.dataclass(frozen=True)
class AveragePool:
    """Average over non-overlapping windows, or over the whole image (and to (n, c)) where `window` is None."""

    window: tuple[int, int] | None = None

    def __call__(self, x: jax.Array, kernel: None) -> jax.Array:
        """The averages of x, (n, h, w, c)."""
        return jnp.mean(x, axis=(1, 2)) if self.window is None else average_pool(x, self.window)

    def transpose(self, s: jax.Array, kernel: None, like: jax.Array) -> jax.Array:
        """Every input of a window gets an equal share."""
        shape = jax.ShapeDtypeStruct((s.shape[0], *like.shape[1:]), s.dtype)
        (x,) = jax.linear_transpose(lambda x: self(x, None), shape)(s)
        return x
