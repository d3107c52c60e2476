"""Thin linen shells: they declare parameters and hand them to `ops`. Write your own network with them.

A layer's name in the network is its linen name (dots allowed: `layer1.0.conv1`), joined with dots where modules are
nested.
"""

import flax.linen as nn
import jax
from jax.nn import initializers

from tffjax.kernels.convolution import Geometry, same_padding
from tffjax.nn.ops import Plain, Tap

_he_normal = initializers.variance_scaling(2.0, "fan_out", "normal")


def _path(module: nn.Module) -> str:
    return ".".join(module.scope.path)


class Conv(nn.Module):
    """A square convolution. Announces its output to `tap` unless `is_site` is off.

    `padding` is symmetric zeros in pixels, or "same" for TensorFlow's rule, computed from the actual input size.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | str = 0
    groups: int = 1
    use_bias: bool = True
    is_site: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, ops: Plain, tap: Tap) -> jax.Array:
        """Map (n, h, w, in) to (n, oh, ow, features)."""
        kernel_size, stride = (self.kernel_size,) * 2, (self.stride,) * 2
        kernel = self.param("kernel", _he_normal, (*kernel_size, x.shape[-1] // self.groups, self.features))
        bias = self.param("bias", initializers.zeros, (self.features,)) if self.use_bias else None
        if self.padding == "same":
            padding = same_padding(x.shape[1:3], kernel_size, stride)
        else:
            padding = ((self.padding, self.padding),) * 2
        geometry = Geometry(stride=stride, padding=padding, groups=self.groups)
        y = ops.conv(x, kernel, bias, geometry, _path(self))
        return tap(_path(self), y) if self.is_site else y


class Dense(nn.Module):
    """A fully connected layer with bias."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, ops: Plain) -> jax.Array:
        """Map (n, in) to (n, features)."""
        kernel = self.param("kernel", initializers.lecun_normal(), (x.shape[-1], self.features))
        bias = self.param("bias", initializers.zeros, (self.features,))
        return ops.dense(x, kernel, bias, _path(self))


class BatchNorm(nn.Module):
    """Inference-time batch normalization with its statistics in the `batch_stats` collection."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, y: jax.Array, ops: Plain) -> jax.Array:
        """Normalize the last axis."""
        shape = (y.shape[-1],)
        scale = self.param("scale", initializers.ones, shape)
        bias = self.param("bias", initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", initializers.zeros, None, shape)
        var = self.variable("batch_stats", "var", initializers.ones, None, shape)
        return ops.batch_norm(y, scale, bias, mean.value, var.value, self.epsilon, _path(self))
