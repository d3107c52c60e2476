"""The operations of training: batch norm by the batch's own statistics, dropout, and gradients that are fast on CPUs.

Sums of products over images and positions stand behind an optimization barrier: fused with what makes the products they
become scalar loops on CPUs.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tffjax.kernels.choice import kernels_of
from tffjax.kernels.convolution import Geometry
from tffjax.kernels.kernel_gradient import trainable_conv
from tffjax.kernels.precision import factor
from tffjax.nn.functions import relu
from tffjax.nn.names import layer_of
from tffjax.nn.ops import Activation, Plain


@dataclasses.dataclass(frozen=True)
class Training(Plain):
    """Operations for one training pass. Make a new one for every trace: it keeps what the batch norms saw.

    Dense layers get their input through dropout (both networks have one, the head, behind the pooled features).
    With precision `bfloat16`, convolutions and the activations between them are bfloat16; weights, batch statistics,
    the pooled features and the head stay float32.

    Attributes:
        momentum: share of the old running statistics that each step keeps: 0.9 where PyTorch's `momentum` is 0.1.
        dropout: probability with which an input of a dense layer is zeroed; the others are scaled by 1/(1 - dropout).
        key: of the dropout.
        statistics: by name of the batch norm, its new running `mean` and `var`; filled by the pass.
    """

    momentum: float = 0.9
    dropout: float = 0.0
    key: Any = None
    statistics: dict[str, dict[str, jax.Array]] = dataclasses.field(default_factory=dict)

    def _conv(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any, geometry: Geometry) -> jax.Array:
        x, kernel = factor(x, self.precision), factor(kernel, self.precision)
        y = trainable_conv(x, kernel, geometry, self.precision, self.kernels or kernels_of())
        return y if bias is None else y + bias.astype(y.dtype)

    def _dense(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any) -> jax.Array:
        """Dropout, then x W + b."""
        if self.dropout:
            kept = jax.random.bernoulli(self.key, 1 - self.dropout, x.shape)
            x = jnp.where(kept, x / (1 - self.dropout), 0)
        return super()._dense(name, x, kernel, bias)

    def _batch_norm(self, name: str, y: jax.Array, scale: Any, bias: Any, mean: Any, var: Any, epsilon: Any) -> Any:
        """Normalize by the mean and the biased variance of the batch.

        The running variance takes in the unbiased one, sum((y - mean)^2) / (count - 1), as in PyTorch. Over several
        devices the statistics are those of the whole batch. A batch norm that is used twice takes in both.
        """
        normalized, batch_mean, batch_var = _batch_norm(y.astype(scale.dtype), scale, bias, epsilon)
        count, name = y.size // y.shape[-1], layer_of(name)
        if name in self.statistics:
            mean, var = self.statistics[name]["mean"], self.statistics[name]["var"]
        self.statistics[name] = {
            "mean": self.momentum * mean + (1 - self.momentum) * batch_mean,
            "var": self.momentum * var + (1 - self.momentum) * batch_var * (count / (count - 1)),
        }
        return normalized.astype(y.dtype)

    def _average_pool(self, name: str, x: jax.Array, window: tuple[int, int] | None, **parameters: Any) -> jax.Array:
        x = lax.optimization_barrier(x) if window is None else x
        return super()._average_pool(name, x, window, **parameters)

    def _activation(self, name: str, x: jax.Array, function: Activation) -> jax.Array:
        """The gradient of max(x, 0) at 0 is 0, as in PyTorch."""
        return super()._activation(name, x, jax.nn.relu if function is relu else function)

    def _gate(self, name: str, x: jax.Array, gate: jax.Array) -> jax.Array:
        return _gate(x, gate)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _batch_norm(
    y: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The normalized batch, its mean and its biased variance; the last two are constants to the gradient."""
    return _batch_norm_forward(y, scale, bias, epsilon)[0]


def _batch_norm_forward(y: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[Any, Any]:
    mean = _mean(y)
    var = _mean(jnp.square(y - mean))
    inverse = 1 / jnp.sqrt(var + epsilon)
    return ((y - mean) * (inverse * scale) + bias, mean, var), (y, mean, inverse, scale)


def _batch_norm_backward(epsilon: float, residuals: Any, gradients: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    y, mean, inverse, scale = residuals
    gradient = lax.optimization_barrier(gradients[0])
    standardized = (y - mean) * inverse
    to_bias, to_scale = _mean(gradient), _mean(gradient * standardized)
    count = y.size // y.shape[-1]
    to_y = (gradient - to_bias - standardized * to_scale) * (inverse * scale)
    return to_y, count * to_scale, count * to_bias


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


@jax.custom_vjp
def _gate(x: jax.Array, gate: jax.Array) -> jax.Array:
    return x * gate


def _gate_forward(x: jax.Array, gate: jax.Array) -> tuple[jax.Array, Any]:
    return x * gate, (x, gate)


def _gate_backward(residuals: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, gate = residuals
    to_gate = lax.optimization_barrier(gradient * x).sum(axis=(1, 2), keepdims=True)
    return gradient * gate, to_gate


_gate.defvjp(_gate_forward, _gate_backward)


def _mean(y: jax.Array) -> jax.Array:
    return jnp.mean(lax.optimization_barrier(y), axis=(0, 1, 2))
