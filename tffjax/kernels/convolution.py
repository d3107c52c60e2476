"""Two-dimensional convolution, NHWC and HWIO, with explicit padding; its transpose is in `tffjax.kernels.transpose`.

What a backend does badly is written as an exact equivalent; `tffjax.kernels.choice.Kernels` says where.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from tffjax.kernels.choice import Kernels, kernels_of
from tffjax.kernels.precision import factor, lax_precision, widened

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Where the windows of a convolution or a pool lie; pairs are (vertical, horizontal).

    Attributes:
        stride: step between windows.
        padding: zeros added ((before, after) rows, (before, after) columns).
        dilation: step between the taps of one window.
        groups: number of groups that the channels are split into.
    """

    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    def unpadded(self) -> "Geometry":
        """The same without padding."""
        return dataclasses.replace(self, padding=((0, 0), (0, 0)))

    def output_size(self, size: Pair, kernel: Pair) -> Pair:
        """Height and width of the output for an input of height and width `size`."""
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilation, strict=True)]
        padded = [n + sum(p) for n, p in zip(size, self.padding, strict=True)]
        return tuple((n - e) // s + 1 for n, e, s in zip(padded, extent, self.stride, strict=True))

    def input_size(self, size: Pair, kernel: Pair) -> Pair:
        """The smallest height and width of an input whose output has height and width `size`."""
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilation, strict=True)]
        full = [(n - 1) * s + e for n, s, e in zip(size, self.stride, extent, strict=True)]
        return tuple(n - sum(p) for n, p in zip(full, self.padding, strict=True))


def same_padding(size: Pair, kernel: Pair, stride: Pair) -> tuple[Pair, Pair]:
    """TensorFlow's "same" padding: total = max((ceil(n/s) - 1) * s + k - n, 0), half before, the rest after."""
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def conv(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "kh kw i_per_group o"],
    geometry: Geometry,
    precision: str = "float32",
    kernels: Kernels | None = None,
    contribution: Callable[[jax.Array], jax.Array] | None = None,
) -> Float[Array, "n oh ow o"]:
    """The linear map of a convolution (cross-correlation, no bias); bfloat16 where `precision` says so.

    An output is exactly zero where all contributions to it are. `contribution`, for convolutions `by_shifts` only, is
    applied to every single product x * w before they are summed.
    """
    kernels = kernels or kernels_of()
    if precision in kernels.patches and geometry.groups == 1 and kernel.shape[:2] != (1, 1):
        return dot(patches(x, kernel.shape[:2], geometry), kernel.reshape(-1, kernel.shape[3]), precision)
    return fast(x, kernel, geometry, precision, kernels, contribution)


def fast(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "kh kw i_per_group o"],
    geometry: Geometry,
    precision: str = "float32",
    kernels: Kernels | None = None,
    contribution: Callable[[jax.Array], jax.Array] | None = None,
) -> Float[Array, "n oh ow o"]:
    """`conv` for values: there may be rounding noise where all contributions are zero."""
    kernels = kernels or kernels_of()
    x, kernel = factor(x, precision), factor(kernel, precision)
    if by_shifts(x.shape[-1], kernel, geometry, kernels):
        return depthwise(pad(x, geometry.padding), kernel, geometry.stride, contribution)
    if precision in kernels.pointwise and kernel.shape[:2] == (1, 1) and geometry.groups == 1:
        return dot(_every(pad(x, geometry.padding), geometry.stride), kernel[0, 0], precision)
    return native(x, kernel, geometry, precision)


def _every(x: jax.Array, stride: Pair) -> jax.Array:
    """Every stride-th row and column."""
    if stride == (1, 1):
        return x
    # The barrier keeps XLA from fusing the slice into one of Triton's dots, which aborts the process (jaxlib 0.11).
    return lax.optimization_barrier(x[:, :: stride[0], :: stride[1]])


def by_shifts(channels: int, kernel: jax.Array, geometry: Geometry, kernels: Kernels) -> bool:
    """Whether `conv` computes this convolution as shifted multiply-adds."""
    return kernels.depthwise and geometry.dilation == (1, 1) and is_depthwise(channels, kernel, geometry)


def zeros_varying_like(like: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Zeros (n, ...) that vary over the same mesh axes as `like` (n, h, w, c): `shard_map` asks for that."""
    rows = jnp.zeros_like(like[:, 0, 0, 0])
    return jnp.broadcast_to(rows.reshape(-1, *[1] * (len(shape) - 1)), shape)


def is_depthwise(channels: int, kernel: jax.Array, geometry: Geometry) -> bool:
    """Whether every channel is convolved alone, with one kernel."""
    return geometry.groups == channels == kernel.shape[-1] and channels > 1


def native(x: jax.Array, kernel: jax.Array, geometry: Geometry, precision: str) -> jax.Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=geometry.stride,
        padding=geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=geometry.groups,
        precision=lax_precision(precision),
    )


def pad(x: jax.Array, padding: tuple[Pair, Pair], value: float = 0) -> jax.Array:
    """Pad rows and columns with a value; negative padding crops."""
    if padding == ((0, 0), (0, 0)):
        return x
    return lax.pad(x, jnp.asarray(value, x.dtype), ((0, 0, 0), (*padding[0], 0), (*padding[1], 0), (0, 0, 0)))


def patches(x: jax.Array, kernel: Pair, geometry: Geometry) -> jax.Array:
    """What each output of a convolution reads, (n, oh, ow, kh * kw * i), in the order of the kernel's entries."""
    padded, (sv, sh), (dv, dh) = pad(x, geometry.padding), geometry.stride, geometry.dilation
    oh, ow = geometry.output_size(x.shape[1:3], kernel)
    taps = [(i * dv, j * dh) for i in range(kernel[0]) for j in range(kernel[1])]
    windows = [padded[:, i : i + (oh - 1) * sv + 1 : sv, j : j + (ow - 1) * sh + 1 : sh] for i, j in taps]
    return jnp.concatenate(windows, axis=3)


def dot(x: jax.Array, matrix: jax.Array, precision: str) -> jax.Array:
    """A 1x1 convolution as a matrix product."""
    return jnp.einsum("nhwi,io->nhwo", x, matrix, precision=lax_precision(precision))


def depthwise(
    padded: jax.Array, kernel: jax.Array, stride: Pair, contribution: Callable[[jax.Array], jax.Array] | None = None
) -> jax.Array:
    """A depthwise convolution without padding as one multiply-add for each tap."""
    # The barrier keeps XLA from fusing the padding into every tap, where it becomes a bounds check per element.
    padded = lax.optimization_barrier(padded)
    (n, h, w, c), (kh, kw) = padded.shape, kernel.shape[:2]
    (sv, sh) = stride
    oh, ow = (h - kh) // sv + 1, (w - kw) // sh + 1
    y = jnp.zeros((n, oh, ow, c), widened(padded).dtype)
    for i in range(kh):
        for j in range(kw):
            limit = (n, i + (oh - 1) * sv + 1, j + (ow - 1) * sh + 1, c)
            product = widened(lax.slice(padded, (0, i, j, 0), limit, (1, sv, sh, 1))) * widened(kernel[i, j, 0])
            y = y + (product if contribution is None else contribution(product))
    return y.astype(padded.dtype)
