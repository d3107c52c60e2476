"""The named operations that a network is written in, and their plain meaning.

A network calls `ops.conv(...)`, `ops.relu(...)`, ... and announces every convolution's output to `tap`. Under `Plain`
that is inference; under a composite's operations (`tffjax.lrp.operations`) the forward values are the same and the
backward pass is LRP. Arrays are NHWC, kernels HWIO, dense kernels (in, out).

Every operation takes the `name` of the layer it belongs to, so that a composite can address it and a report can name
it, and is announced to what stands `behind` it with its inputs and its output. In a run of a model the second use of a
name is `name@2`, the third `name@3` (`tffjax.nn.names`). All activations are one operation, `activation`, of a function
of arrays; `relu`, `leaky_relu`, `silu`, `gelu` and `sigmoid` are short for it.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.errors import InputError
from tffjax.kernels import upsampling, winograd
from tffjax.kernels.choice import Kernels
from tffjax.kernels.convolution import Geometry, Pair
from tffjax.kernels.pooling import average_pool, max_pool
from tffjax.kernels.precision import dense_precision, widened
from tffjax.kernels.transpose import transposed_conv
from tffjax.nn import functions
from tffjax.nn.names import Uses

Tap = Callable[[str, jax.Array], jax.Array]
Activation = Callable[[jax.Array], jax.Array]


def no_tap(site: str, y: jax.Array) -> jax.Array:
    """The tap that does nothing."""
    return y


def biased(y: jax.Array, bias: jax.Array | None) -> jax.Array:
    """y + bias, in the type of y."""
    return y if bias is None else (widened(y) + bias).astype(y.dtype)


def pair(number: Any) -> tuple[Any, Any]:
    """A size of both axes as (vertical, horizontal)."""
    return (number, number) if isinstance(number, int) else number


class Operation(NamedTuple):
    """An operation as a network calls it.

    Attributes:
        kind: the name of its method of `Plain`; global average pools are `average_pool`, all activations `activation`.
        name: of the layer, or of this use of it.
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
    """Inference. On LRP-max's crops, what has an output of the size of its input has one of the size of a window of it.

    Other meanings inherit from it and write `_conv`, `_dense`, ... anew: what an operation computes.

    Attributes:
        precision: of convolutions and dots, see `tffjax.kernels.precision`.
        kernels: how convolutions and pools are computed; None is the choice for JAX's backend.
        transformed: kernels by layer in the form that `tffjax.kernels.winograd.conv` takes; others are transformed
            where they are used.
        behind: called with every operation and its output; what it returns is handed on.
        uses: how often each name was used in this run; None outside of a run, where names are taken as they are.
    """

    precision: str = "float32"
    kernels: Kernels | None = None
    transformed: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    behind: Callable[[Operation, jax.Array], jax.Array] = pass_on
    uses: Uses | None = None

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

    def conv_transpose(
        self,
        x: Float[Array, "n h w i"],
        kernel: Float[Array, "kh kw i_per_group o"],
        bias: Float[Array, "*positions o"] | None,
        geometry: Geometry,
        name: str,
    ) -> Float[Array, "n oh ow o"]:
        """Transposed convolution: input row i adds x[i] * kernel[a] to output row stride * i + dilation * a - before.

        There are (h - 1) * stride + (kh - 1) * dilation + 1 - before - after rows: padding is cut off. That is
        PyTorch's, with output_padding taken off `after`; the kernel of `flax.linen.ConvTranspose` is flipped.
        """
        return self._do("conv_transpose", name, x, kernel=kernel, bias=bias, geometry=geometry)

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
    ) -> Float[Array, "n oh ow c"]:
        """Inference-time batch normalization (y - mean) * scale / sqrt(var + epsilon) + bias."""
        return self._do("batch_norm", name, y, scale=scale, bias=bias, mean=mean, var=var, epsilon=epsilon)

    def pixel_norm(self, x: Float[Array, "*s"], name: str, epsilon: float = 1e-8) -> Float[Array, "*t"]:
        """x / sqrt(mean(x^2) + epsilon), the mean over the channels."""
        return self._do("pixel_norm", name, x, scale=None, bias=None, epsilon=epsilon)

    def layer_norm(
        self,
        x: Float[Array, "*s c"],
        scale: Float[Array, " c"] | None,
        bias: Float[Array, " c"] | None,
        epsilon: float,
        name: str,
    ) -> Float[Array, "*t c"]:
        """(x - mean) / sqrt(var + epsilon) * scale + bias; mean and variance are over the channels."""
        return self._do("layer_norm", name, x, scale=scale, bias=bias, epsilon=epsilon)

    def group_norm(
        self,
        x: Float[Array, "n h w c"],
        scale: Float[Array, " c"] | None,
        bias: Float[Array, " c"] | None,
        groups: int,
        epsilon: float,
        name: str,
    ) -> Float[Array, "n oh ow c"]:
        """As `layer_norm`; mean and variance are over positions and a group of adjacent channels."""
        return self._do("group_norm", name, x, scale=scale, bias=bias, groups=groups, epsilon=epsilon)

    def mean_pool(self, x: Float[Array, "n h w c"], name: str) -> Float[Array, "n c"]:
        """Global average pool; of bfloat16 numbers it is float32, as is all that follows."""
        return self._do("average_pool", name, x, window=None, geometry=Geometry(), count_padding=False)

    def average_pool(
        self,
        x: Float[Array, "n h w c"],
        window: int | Pair,
        name: str,
        geometry: Geometry | None = None,
        count_padding: bool | None = None,
    ) -> Float[Array, "n oh ow c"]:
        """Average over windows; without a geometry they lie side by side, and what does not fill one is dropped.

        `count_padding` says whether padding counts as zeros in the average (PyTorch's `count_include_pad`, there on by
        default) or is left out of it (as in TensorFlow).

        Raises:
            ValueError: there is padding, and nothing is said about it.
        """
        window = pair(window)
        geometry = geometry or Geometry(stride=window)
        if count_padding is None and geometry.padding != ((0, 0), (0, 0)):
            raise ValueError(f"{name}: say whether padding counts in the average: count_padding=True or False")
        return self._do("average_pool", name, x, window=window, geometry=geometry, count_padding=bool(count_padding))

    def max_pool(
        self, x: Float[Array, "n h w c"], window: int | Pair, geometry: Geometry, name: str
    ) -> Float[Array, "n oh ow c"]:
        """Maximum over windows; padding never wins."""
        return self._do("max_pool", name, x, window=pair(window), geometry=geometry)

    def upsample_nearest(self, x: Float[Array, "n h w c"], factor: int | Pair, name: str) -> Float[Array, "n oh ow c"]:
        """Every row and column repeated: y[i] = x[i // factor]."""
        return self._do("upsample_nearest", name, x, factor=pair(factor))

    def upsample_bilinear(self, x: Float[Array, "n h w c"], factor: int | Pair, name: str) -> Float[Array, "n oh ow c"]:
        """Linear between the centers of pixels, constant outside: PyTorch's with `align_corners=False`."""
        return self._do("upsample_bilinear", name, x, factor=pair(factor))

    def flatten(self, x: Float[Array, "n *s"], name: str) -> Float[Array, "n o"]:
        """All axes but the first as one: the channel runs fastest (in PyTorch slowest). float32, as `mean_pool`."""
        return self._do("flatten", name, x)

    def concatenate(self, arrays: Sequence[Float[Array, "..."]], name: str) -> Float[Array, "..."]:
        """Arrays behind each other, along the channels."""
        return self._do("concatenate", name, *arrays)

    def add(self, a: Float[Array, "*s"], b: Float[Array, "*t"], name: str) -> Float[Array, "*u"]:
        """Residual sum.

        Raises:
            InputError: the arrays are not of one shape.
        """
        return self._do("add", name, a, b)

    def activation(self, x: Float[Array, "*s"], function: Activation, name: str) -> Float[Array, "*t"]:
        """function(x), element by element or pixel by pixel (softmax)."""
        return self._do("activation", name, x, function=function)

    def relu(self, x: Float[Array, "*s"], name: str) -> Float[Array, "*t"]:
        """max(x, 0)."""
        return self.activation(x, functions.relu, name)

    def leaky_relu(self, x: Float[Array, "*s"], name: str, slope: float = 0.01) -> Float[Array, "*t"]:
        """x where x >= 0, slope * x elsewhere."""
        return self.activation(x, functools.partial(functions.leaky_relu, slope=slope), name)

    def silu(self, x: Float[Array, "*s"], name: str) -> Float[Array, "*t"]:
        """x * sigmoid(x)."""
        return self.activation(x, functions.silu, name)

    def gelu(self, x: Float[Array, "*s"], name: str) -> Float[Array, "*t"]:
        """x * Phi(x), exact: see `tffjax.nn.functions.gelu`."""
        return self.activation(x, functions.gelu, name)

    def sigmoid(self, x: Float[Array, "*s"], name: str) -> Float[Array, "*t"]:
        """1 / (1 + exp(-x))."""
        return self.activation(x, functions.sigmoid, name)

    def gate(self, x: Float[Array, "n h w c"], gate: Float[Array, "n gh gw c"], name: str) -> Float[Array, "n oh ow c"]:
        """Squeeze-excite product x * gate."""
        return self._do("gate", name, x, gate)

    def _do(self, kind: str, name: str, *inputs: jax.Array, **parameters: Any) -> jax.Array:
        name = name if self.uses is None else self.uses.next(name)
        y = self._compute(kind, name, *inputs, **parameters)
        return self.behind(Operation(kind, name, inputs, parameters), y)

    def _compute(self, kind: str, name: str, *inputs: jax.Array, **parameters: Any) -> jax.Array:
        return getattr(self, f"_{kind}")(name, *inputs, **parameters)

    def _conv(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any, geometry: Geometry) -> jax.Array:
        transformed = self.transformed.get(name)
        return biased(winograd.conv(x, kernel, geometry, self.precision, self.kernels, transformed), bias)

    def _conv_transpose(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any, geometry: Geometry) -> jax.Array:
        return biased(transposed_conv(x, kernel, geometry, self.precision, self.kernels), bias)

    def _dense(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any) -> jax.Array:
        return biased(jnp.dot(x, kernel, precision=dense_precision(self.precision)), bias)

    def _batch_norm(self, name: str, y: jax.Array, scale: Any, bias: Any, mean: Any, var: Any, epsilon: Any) -> Any:
        normalized = (widened(y) - mean) * (scale / jnp.sqrt(var + epsilon)) + bias
        return normalized.astype(y.dtype)

    def _pixel_norm(self, name: str, x: jax.Array, **parameters: Any) -> jax.Array:
        return self._norm(name, x, functions.pixel_norm, **parameters)

    def _layer_norm(self, name: str, x: jax.Array, **parameters: Any) -> jax.Array:
        return self._norm(name, x, functions.layer_norm, **parameters)

    def _group_norm(self, name: str, x: jax.Array, **parameters: Any) -> jax.Array:
        return self._norm(name, x, functions.group_norm, **parameters)

    def _norm(
        self, name: str, x: jax.Array, function: Callable[..., jax.Array], scale: Any, bias: Any, **constants: Any
    ) -> jax.Array:
        y = function(widened(x), **constants) * (1 if scale is None else scale)
        return (y if bias is None else y + bias).astype(x.dtype)

    def _average_pool(
        self, name: str, x: jax.Array, window: Pair | None, geometry: Geometry, count_padding: bool
    ) -> jax.Array:
        return jnp.mean(widened(x), axis=(1, 2)) if window is None else average_pool(x, window, geometry, count_padding)

    def _max_pool(self, name: str, x: jax.Array, window: Pair, geometry: Geometry) -> jax.Array:
        return max_pool(x, window, geometry, self.kernels)

    def _upsample_nearest(self, name: str, x: jax.Array, factor: Pair) -> jax.Array:
        return upsampling.nearest(x, factor)

    def _upsample_bilinear(self, name: str, x: jax.Array, factor: Pair) -> jax.Array:
        return upsampling.bilinear(x, factor)

    def _flatten(self, name: str, x: jax.Array) -> jax.Array:
        return widened(x).reshape(len(x), -1)

    def _concatenate(self, name: str, *arrays: jax.Array) -> jax.Array:
        return jnp.concatenate(arrays, axis=-1)

    def _add(self, name: str, a: jax.Array, b: jax.Array) -> jax.Array:
        if a.shape != b.shape:
            raise InputError(f"{name}: ops.add takes arrays of one shape, not {a.shape} and {b.shape}")
        return a + b

    def _activation(self, name: str, x: jax.Array, function: Activation) -> jax.Array:
        return function(widened(x)).astype(x.dtype)

    def _gate(self, name: str, x: jax.Array, gate: jax.Array) -> jax.Array:
        return x * gate
