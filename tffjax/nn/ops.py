"""The named operations that a network is written in, and their plain meaning.

A network calls `ops.conv(...)`, `ops.relu(...)`, ... and announces every convolution's output to `tap`. Under `Plain`
that is inference; under a composite's operations (`tffjax.lrp.composites`) the forward values are the same and the
backward pass is LRP. Arrays are NHWC, kernels HWIO, dense kernels (in, out).

Every operation takes the `name` of the layer it belongs to, so that a composite can address it and a report can name
it. All activations are one operation, `activation`, of a function of arrays; `relu`, `silu` and `sigmoid` are short for
it.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.kernels import winograd
from tffjax.kernels.convolution import Geometry
from tffjax.kernels.pooling import average_pool, max_pool
from tffjax.kernels.precision import dense_precision, widened

Tap = Callable[[str, jax.Array], jax.Array]
Activation = Callable[[jax.Array], jax.Array]


def no_tap(site: str, y: jax.Array) -> jax.Array:
    """The tap that does nothing."""
    return y


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0)."""
    return jnp.maximum(x, 0)


def silu(x: jax.Array) -> jax.Array:
    """x * sigmoid(x)."""
    return x * jax.nn.sigmoid(x)


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + exp(-x))."""
    return jax.nn.sigmoid(x)


NONNEGATIVE = frozenset({relu, sigmoid})
"""Activations that are never negative: behind them, half of the z+ rule is multiplied by zero."""


def biased(y: jax.Array, bias: jax.Array | None) -> jax.Array:
    """y + bias, in the type of y."""
    return y if bias is None else (widened(y) + bias).astype(y.dtype)


@dataclasses.dataclass(frozen=True)
class Plain:
    """Inference. `precision` is that of convolutions and dots, see `tffjax.kernels.precision`."""

    precision: str = "float32"

    def conv(
        self,
        x: Float[Array, "n h w i"],
        kernel: Float[Array, "kh kw i_per_group o"],
        bias: Float[Array, " o"] | None,
        geometry: Geometry,
        name: str,
    ) -> Float[Array, "n oh ow o"]:
        """Convolution (cross-correlation) with explicit padding."""
        return biased(winograd.conv(x, kernel, geometry, self.precision), bias)

    def dense(
        self, x: Float[Array, "n i"], kernel: Float[Array, "i o"], bias: Float[Array, " o"] | None, name: str
    ) -> Float[Array, "n o"]:
        """Fully connected layer x W + b."""
        return biased(jnp.dot(x, kernel, precision=dense_precision(self.precision)), bias)

    def batch_norm(
        self,
        y: Float[Array, "n h w c"],
        scale: Float[Array, " c"],
        bias: Float[Array, " c"],
        mean: Float[Array, " c"],
        var: Float[Array, " c"],
        epsilon: float,
        name: str,
    ) -> Float[Array, "n h w c"]:
        """Inference-time batch normalization (y - mean) * scale / sqrt(var + epsilon) + bias."""
        normalized = (widened(y) - mean) * (scale / jnp.sqrt(var + epsilon)) + bias
        return normalized.astype(y.dtype)

    def mean_pool(self, x: Float[Array, "n h w c"], name: str) -> Float[Array, "n c"]:
        """Global average pool; of bfloat16 numbers it is float32, as is all that follows."""
        return jnp.mean(widened(x), axis=(1, 2))

    def average_pool(self, x: Float[Array, "n h w c"], window: tuple[int, int], name: str) -> Float[Array, "n oh ow c"]:
        """Average over non-overlapping windows; rows and columns that do not fill a window are dropped."""
        return average_pool(x, window)

    def max_pool(
        self, x: Float[Array, "n h w c"], window: tuple[int, int], geometry: Geometry, name: str
    ) -> Float[Array, "n oh ow c"]:
        """Maximum over windows; padding never wins."""
        return max_pool(x, window, geometry)

    def add(self, a: Float[Array, "*s"], b: Float[Array, "*s"], name: str) -> Float[Array, "*s"]:
        """Residual sum."""
        return a + b

    def activation(self, x: Float[Array, "*s"], function: Activation, name: str) -> Float[Array, "*s"]:
        """function(x), element by element."""
        return function(widened(x)).astype(x.dtype)

    def relu(self, x: Float[Array, "*s"], name: str) -> Float[Array, "*s"]:
        """max(x, 0)."""
        return self.activation(x, relu, name)

    def silu(self, x: Float[Array, "*s"], name: str) -> Float[Array, "*s"]:
        """x * sigmoid(x)."""
        return self.activation(x, silu, name)

    def sigmoid(self, x: Float[Array, "*s"], name: str) -> Float[Array, "*s"]:
        """1 / (1 + exp(-x))."""
        return self.activation(x, sigmoid, name)

    def gate(self, x: Float[Array, "n h w c"], gate: Float[Array, "n #h #w c"], name: str) -> Float[Array, "n h w c"]:
        """Squeeze-excite product x * gate."""
        return x * gate
