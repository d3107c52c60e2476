"""Linear maps of layers, each with its transpose: what the rules redistribute relevance over.

A map knows nothing of biases; its kernel is None where it has none. All are hashable and hold no arrays. Each has

- `map(x, kernel)`, exactly zero where all contributions are: the denominators;
- `map.values(x, kernel)`, the same as fast as possible: the values of the layer;
- `map.transposes(s, kernels, like)`: for each kernel, the gradient of `sum(s * map(x, kernel))` with respect to an x of
  the shape of `like` (whose batch size may be 1); strided ones of few channels share the work on s;
- `map.positive(x, kernel)`: the sum of the positive contributions only, `map(x+, w+) + map(x-, w-)`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tffjax.kernels import convolution, winograd
from tffjax.kernels.convolution import Geometry
from tffjax.kernels.pooling import average_pool
from tffjax.kernels.precision import dense_precision, widened
from tffjax.kernels.transpose import FEW_CHANNELS, conv_transpose
from tffjax.lrp.rules import negative, positive


@dataclasses.dataclass(frozen=True)
class Conv:
    """Convolution, (n, h, w, i) to (n, oh, ow, o), kernel HWIO."""

    geometry: Geometry
    precision: str = "float32"

    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The convolution."""
        return convolution.conv(x, kernel, self.geometry, self.precision)

    def values(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The convolution, zeros up to rounding."""
        return winograd.conv(x, kernel, self.geometry, self.precision)

    def transposes(self, s: jax.Array, kernels: list[jax.Array], like: jax.Array) -> list[jax.Array]:
        """(n, oh, ow, o) to (n, h, w, i) for each kernel."""
        size = like.shape[1:3]
        narrow = self.geometry.groups == 1 and kernels[0].shape[2] <= FEW_CHANNELS and self.geometry.stride != (1, 1)
        if len(kernels) == 1 or not narrow:
            return [conv_transpose(s, kernel, self.geometry, size, self.precision) for kernel in kernels]
        stacked = conv_transpose(s, jnp.concatenate(kernels, axis=2), self.geometry, size, self.precision)
        return jnp.split(stacked, len(kernels), axis=3)

    def positive(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Sum of the positive contributions."""
        if convolution.by_shifts(x.shape[-1], kernel, self.geometry):
            return convolution.conv(x, kernel, self.geometry, self.precision, contribution=positive)
        return _positive(self, x, kernel)


@dataclasses.dataclass(frozen=True)
class Dense:
    """Matrix product, (n, i) to (n, o)."""

    precision: str = "float32"

    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The product with a kernel (i, o)."""
        return jnp.dot(x, kernel, precision=dense_precision(self.precision))

    values = __call__

    def transposes(self, s: jax.Array, kernels: list[jax.Array], like: jax.Array) -> list[jax.Array]:
        """(n, o) to (n, i) for each kernel."""
        return [jnp.dot(s, kernel.T, precision=dense_precision(self.precision)) for kernel in kernels]

    def positive(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Sum of the positive contributions."""
        return _positive(self, x, kernel)


@dataclasses.dataclass(frozen=True)
class AveragePool:
    """Average over non-overlapping windows, or over the whole image (and to (n, c)) where `window` is None."""

    window: tuple[int, int] | None = None

    def __call__(self, x: jax.Array, kernel: None) -> jax.Array:
        """The averages of x, (n, h, w, c)."""
        return jnp.mean(widened(x), axis=(1, 2)) if self.window is None else average_pool(x, self.window)

    values = __call__

    def transposes(self, s: jax.Array, kernels: list[None], like: jax.Array) -> list[jax.Array]:
        """Every input of a window gets an equal share."""
        _, h, w, _ = like.shape
        wv, wh = self.window or (h, w)
        share = s.reshape(s.shape[0], h // wv, w // wh, s.shape[-1]) / (wv * wh)
        x = jnp.repeat(jnp.repeat(share, wv, axis=1), wh, axis=2)
        x = jnp.pad(x, ((0, 0), (0, h % wv), (0, w % wh), (0, 0)))
        return [x] * len(kernels)


def _positive(linear: Any, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return widened(linear(positive(x), positive(kernel))) + widened(linear(negative(x), negative(kernel)))
