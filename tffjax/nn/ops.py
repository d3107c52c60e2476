"""The named operations that a network is written in, and their plain meaning.

A network calls `ops.conv(...)`, `ops.relu(...)`, ... and announces every convolution's output to `tap`. Under `Plain`
that is inference; under a composite's operations (`tffjax.lrp.operations`) the forward values are the same and the
backward pass is LRP. Arrays are NHWC, kernels HWIO, dense kernels (in, out).

Every operation takes the `name` of the layer it belongs to, so that a composite can address it and a report can name
it, and is announced to what stands `behind` it with its inputs and its output. All activations are one operation,
`activation`, of a function of arrays; `relu`, `silu` and `sigmoid` are short for it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.kernels import winograd
from tffjax.kernels.choice import Kernels
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


class Operation(NamedTuple):
    """An operation as a network calls it.

    Attributes:
        kind: `conv`, `dense`, `batch_norm`, `average_pool`, `max_pool`, `add`, `activation` or `gate`.
        name: of the layer.
        inputs: the arrays that it reads.
        parameters: all else by name: `kernel`, `bias`, `geometry`, `window`, `function`, ...
    """

    kind: str
    name: str
    inputs: tuple[jax.Array, ...]
    parameters: dict[str, Any]


def pass_on(operation: Operation, y: jax.Array) -> jax.Array:
    """What stands behind operations where nothing does."""
    return y


@dataclasses.dataclass(frozen=True)
class Plain:
    """Inference.

    Other meanings inherit from it and write `_conv`, `_dense`, ... anew: what an operation computes.

    Attributes:
        precision: of convolutions and dots, see `tffjax.kernels.precision`.
        kernels: how convolutions and pools are computed; None is the choice for JAX's backend.
        transformed: kernels by layer in the form that `tffjax.kernels.winograd.conv` takes; others are transformed
            where they are used.
        behind: called with every operation and its output; what it returns is handed on.
    """

    precision: str = "float32"
    kernels: Kernels | None = None
    transformed: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    behind: Callable[[Operation, jax.Array], jax.Array] = pass_on

    def conv(
        self,
        x: Float[Array, "n h w i"],
        kernel: Float[Array, "kh kw i_per_group o"],
        bias: Float[Array, " o"] | None,
        geometry: Geometry,
        name: str,
    ) -> Float[Array, "n oh ow o"]:
        """Convolution (cross-correlation) with explicit padding."""
        return self._do("conv", name, x, kernel=kernel, bias=bias, geometry=geometry)

    def dense(
        self, x: Float[Array, "n i"], kernel: Float[Array, "i o"], bias: Float[Array, " o"] | None, name: str
    ) -> Float[Array, "n o"]:
        """Fully connected layer x W + b."""
        return self._do("dense", name, x, kernel=kernel, bias=bias)

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
        return self._do("batch_norm", name, y, scale=scale, bias=bias, mean=mean, var=var, epsilon=epsilon)

    def mean_pool(self, x: Float[Array, "n h w c"], name: str) -> Float[Array, "n c"]:
        """Global average pool; of bfloat16 numbers it is float32, as is all that follows."""
        return self._do("average_pool", name, x, window=None)

    def average_pool(self, x: Float[Array, "n h w c"], window: tuple[int, int], name: str) -> Float[Array, "n oh ow c"]:
        """Average over non-overlapping windows; rows and columns that do not fill a window are dropped."""
        return self._do("average_pool", name, x, window=window)

    def max_pool(
        self, x: Float[Array, "n h w c"], window: tuple[int, int], geometry: Geometry, name: str
    ) -> Float[Array, "n oh ow c"]:
        """Maximum over windows; padding never wins."""
        return self._do("max_pool", name, x, window=window, geometry=geometry)

    def add(self, a: Float[Array, "*s"], b: Float[Array, "*t"], name: str) -> Float[Array, "*u"]:
        """Residual sum of arrays of one shape; on LRP-max's crops, of the windows in them that the sum reads."""
        return self._do("add", name, a, b)

    def activation(self, x: Float[Array, "*s"], function: Activation, name: str) -> Float[Array, "*s"]:
        """function(x), element by element."""
        return self._do("activation", name, x, function=function)

    def relu(self, x: Float[Array, "*s"], name: str) -> Float[Array, "*s"]:
        """max(x, 0)."""
        return self.activation(x, relu, name)

    def silu(self, x: Float[Array, "*s"], name: str) -> Float[Array, "*s"]:
        """x * sigmoid(x)."""
        return self.activation(x, silu, name)

    def sigmoid(self, x: Float[Array, "*s"], name: str) -> Float[Array, "*s"]:
        """1 / (1 + exp(-x))."""
        return self.activation(x, sigmoid, name)

    def gate(self, x: Float[Array, "n h w c"], gate: Float[Array, "n gh gw c"], name: str) -> Float[Array, "n oh ow c"]:
        """Squeeze-excite product x * gate."""
        return self._do("gate", name, x, gate)

    def _do(self, kind: str, name: str, *inputs: jax.Array, **parameters: Any) -> jax.Array:
        y = getattr(self, f"_{kind}")(name, *inputs, **parameters)
        return self.behind(Operation(kind, name, inputs, parameters), y)

    def _conv(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any, geometry: Geometry) -> jax.Array:
        transformed = self.transformed.get(name)
        return biased(winograd.conv(x, kernel, geometry, self.precision, self.kernels, transformed), bias)

    def _dense(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any) -> jax.Array:
        return biased(jnp.dot(x, kernel, precision=dense_precision(self.precision)), bias)

    def _batch_norm(self, name: str, y: jax.Array, scale: Any, bias: Any, mean: Any, var: Any, epsilon: Any) -> Any:
        normalized = (widened(y) - mean) * (scale / jnp.sqrt(var + epsilon)) + bias
        return normalized.astype(y.dtype)

    def _average_pool(self, name: str, x: jax.Array, window: tuple[int, int] | None) -> jax.Array:
        return jnp.mean(widened(x), axis=(1, 2)) if window is None else average_pool(x, window)

    def _max_pool(self, name: str, x: jax.Array, window: tuple[int, int], geometry: Geometry) -> jax.Array:
        return max_pool(x, window, geometry, self.kernels)

    def _add(self, name: str, a: jax.Array, b: jax.Array) -> jax.Array:
        return a + b

    def _activation(self, name: str, x: jax.Array, function: Activation) -> jax.Array:
        return function(widened(x)).astype(x.dtype)

    def _gate(self, name: str, x: jax.Array, gate: jax.Array) -> jax.Array:
        return x * gate
