"""Thin linen shells: they declare parameters and hand them to `ops`. Write your own network with them.

A layer's name in the network is its linen name (dots allowed: `layer1.0.conv1`), joined with dots where modules are
nested.
"""

import flax.linen as nn
import jax
from jax.nn import initializers

from tffjax.errors import InputError
from tffjax.kernels.convolution import Geometry, Pair, same_padding
from tffjax.nn.ops import Plain, Tap, pair

Padding = int | tuple[int | Pair, int | Pair]
"""Of both axes, or (vertical, horizontal), each a number of pixels or (before, after)."""

_he_normal = initializers.variance_scaling(2.0, "fan_out", "normal")


def _path(module: nn.Module) -> str:
    return ".".join(module.scope.path)


def _padding(module: nn.Module) -> tuple[Pair, Pair]:
    if isinstance(module.padding, str):
        words = " or 'same'" if isinstance(module, Conv) else ""
        raise InputError(f"{_path(module)}: padding is numbers{words}, not {module.padding!r}")
    vertical, horizontal = pair(module.padding)
    return pair(vertical), pair(horizontal)


class Conv(nn.Module):
    """A convolution. Announces its output to `tap` unless `is_site` is off.

    Sizes are a number for both axes or (vertical, horizontal). `padding` is zeros, see `Padding`, or "same" for
    TensorFlow's rule, computed from the actual input size.
    """

    features: int
    kernel_size: int | Pair = 3
    stride: int | Pair = 1
    padding: Padding | str = 0
    groups: int = 1
    use_bias: bool = True
    is_site: bool = True
    dilation: int | Pair = 1

    @nn.compact
    def __call__(self, x: jax.Array, ops: Plain, tap: Tap) -> jax.Array:
        """Map (n, h, w, in) to (n, oh, ow, features)."""
        kernel_size, stride, dilation = pair(self.kernel_size), pair(self.stride), pair(self.dilation)
        kernel, bias = _kernel_and_bias(self, x.shape[-1])
        if self.padding == "same":
            extent = tuple((k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True))
            padding = same_padding(x.shape[1:3], extent, stride)
        else:
            padding = _padding(self)
        y = ops.conv(x, kernel, bias, Geometry(stride, padding, dilation, self.groups), _path(self))
        return tap(_path(self), y) if self.is_site else y


class ConvTranspose(nn.Module):
    """A transposed convolution, see `tffjax.nn.Plain.conv_transpose`; arguments as of `Conv`."""

    features: int
    kernel_size: int | Pair = 4
    stride: int | Pair = 2
    padding: Padding = 1
    groups: int = 1
    use_bias: bool = True
    is_site: bool = True
    dilation: int | Pair = 1

    @nn.compact
    def __call__(self, x: jax.Array, ops: Plain, tap: Tap) -> jax.Array:
        """Map (n, h, w, in) to (n, oh, ow, features)."""
        kernel, bias = _kernel_and_bias(self, x.shape[-1])
        geometry = Geometry(pair(self.stride), _padding(self), pair(self.dilation), self.groups)
        y = ops.conv_transpose(x, kernel, bias, geometry, _path(self))
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
        scale, bias = _scale_and_bias(self, *shape)
        mean = self.variable("batch_stats", "mean", initializers.zeros, None, shape)
        var = self.variable("batch_stats", "var", initializers.ones, None, shape)
        return ops.batch_norm(y, scale, bias, mean.value, var.value, self.epsilon, _path(self))


class LayerNorm(nn.Module):
    """Layer normalization over the channels, with scale and bias."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array, ops: Plain) -> jax.Array:
        """Normalize the last axis."""
        return ops.layer_norm(x, *_scale_and_bias(self, x.shape[-1]), self.epsilon, _path(self))


class GroupNorm(nn.Module):
    """Group normalization over positions and groups of adjacent channels, with scale and bias."""

    groups: int = 32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array, ops: Plain) -> jax.Array:
        """Normalize (n, h, w, c)."""
        return ops.group_norm(x, *_scale_and_bias(self, x.shape[-1]), self.groups, self.epsilon, _path(self))


def _kernel_and_bias(module: Conv | ConvTranspose, channels: int) -> tuple[jax.Array, jax.Array | None]:
    shape = (*pair(module.kernel_size), channels // module.groups, module.features)
    kernel = module.param("kernel", _he_normal, shape)
    return kernel, module.param("bias", initializers.zeros, shape[-1:]) if module.use_bias else None


def _scale_and_bias(module: nn.Module, channels: int) -> tuple[jax.Array, jax.Array]:
    scale = module.param("scale", initializers.ones, (channels,))
    return scale, module.param("bias", initializers.zeros, (channels,))
