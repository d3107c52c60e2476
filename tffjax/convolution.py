"""Two-dimensional convolution and its transpose, NHWC and HWIO, with explicit padding.

XLA's CPU backend is slow on depthwise and strided convolutions (a depthwise 3x3 takes up to 60 times what it must), so
on a CPU these are written as exact equivalents: shifted multiply-adds for depthwise, a dot for 1x1, one small
convolution per phase of the stride for the transpose. Other backends get the native convolution everywhere.
The choice is made when a function is traced, from JAX's default backend.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

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

    def output_size(self, size: Pair, kernel: Pair) -> Pair:
        """Height and width of the output for an input of height and width `size`."""
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilation, strict=True)]
        padded = [n + sum(p) for n, p in zip(size, self.padding, strict=True)]
        return tuple((n - e) // s + 1 for n, e, s in zip(padded, extent, self.stride, strict=True))


def same_padding(size: Pair, kernel: Pair, stride: Pair) -> tuple[Pair, Pair]:
    """TensorFlow's "same" padding: total = max((ceil(n/s) - 1) * s + k - n, 0), half before, the rest after."""
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def conv(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "kh kw i_per_group o"],
    geometry: Geometry,
    precision: str = "highest",
) -> Float[Array, "n oh ow o"]:
    """The linear map of a convolution (cross-correlation, no bias)."""
    if not _on_cpu() or geometry.dilation != (1, 1):
        return _native(x, kernel, geometry, precision)
    if _is_depthwise(x.shape[-1], kernel, geometry):
        return _depthwise(_pad(x, geometry.padding), kernel, geometry.stride)
    if kernel.shape[:2] == (1, 1) and geometry.groups == 1:
        sv, sh = geometry.stride
        return _dot(_pad(x, geometry.padding)[:, ::sv, ::sh], kernel[0, 0], precision)
    return _native(x, kernel, geometry, precision)


def conv_transpose(
    y: Float[Array, "n oh ow o"],
    kernel: Float[Array, "kh kw i_per_group o"],
    geometry: Geometry,
    size: Pair,
    precision: str = "highest",
) -> Float[Array, "n h w i"]:
    """The transpose of `conv` with respect to its input, for an input of height and width `size`."""
    if _on_cpu():
        if geometry.dilation == (1, 1):
            return _transpose_by_phases(y, kernel, geometry, size, precision)
        return _transpose_of_dilated(y, kernel, geometry, size, precision)
    shape = jax.ShapeDtypeStruct((y.shape[0], *size, kernel.shape[2] * geometry.groups), y.dtype)
    (x,) = jax.linear_transpose(lambda x: _native(x, kernel, geometry, precision), shape)(y)
    return x


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _is_depthwise(channels: int, kernel: jax.Array, geometry: Geometry) -> bool:
    return geometry.groups == channels == kernel.shape[-1] and channels > 1


def _native(x: jax.Array, kernel: jax.Array, geometry: Geometry, precision: str) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=geometry.stride,
        padding=geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=geometry.groups,
        precision=precision,
    )


def _pad(x: jax.Array, padding: tuple[Pair, Pair]) -> jax.Array:
    """Pad rows and columns; negative padding crops."""
    if padding == ((0, 0), (0, 0)):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*padding[0], 0), (*padding[1], 0), (0, 0, 0)))


def _dot(x: jax.Array, matrix: jax.Array, precision: str) -> jax.Array:
    return jnp.einsum("nhwi,io->nhwo", x, matrix, precision=precision)


def _depthwise(padded: jax.Array, kernel: jax.Array, stride: Pair) -> jax.Array:
    # The barrier keeps XLA from fusing the padding into every tap, where it becomes a bounds check per element.
    padded = lax.optimization_barrier(padded)
    (n, h, w, c), (kh, kw) = padded.shape, kernel.shape[:2]
    (sv, sh) = stride
    oh, ow = (h - kh) // sv + 1, (w - kw) // sh + 1
    y = jnp.zeros((n, oh, ow, c), padded.dtype)
    for i in range(kh):
        for j in range(kw):
            limit = (n, i + (oh - 1) * sv + 1, j + (ow - 1) * sh + 1, c)
            y = y + lax.slice(padded, (0, i, j, 0), limit, (1, sv, sh, 1)) * kernel[i, j, 0]
    return y


def _transpose_by_phases(y: jax.Array, kernel: jax.Array, geometry: Geometry, size: Pair, precision: str) -> jax.Array:
    """Transpose of an undilated convolution as one stride-1 convolution for each residue of the input position.

    Input row h meets tap a where h + before = stride * row + a. Rows of one residue modulo the stride meet
    the same taps, so they are a dense convolution of y with those taps, reversed.
    """
    (sv, sh), kernel_size = geometry.stride, kernel.shape[:2]
    rows = [_phase(r, sv, geometry.padding[0][0], kernel_size[0], size[0], y.shape[1]) for r in range(sv)]
    columns = [_phase(r, sh, geometry.padding[1][0], kernel_size[1], size[1], y.shape[2]) for r in range(sh)]
    depthwise = _is_depthwise(kernel.shape[2] * geometry.groups, kernel, geometry)
    if not depthwise:
        kernel = _swap_channels(kernel, geometry.groups)
    phases = []
    for taps_v, pad_v, count_v in rows:
        for taps_h, pad_h, count_h in columns:
            part = kernel[taps_v, taps_h]
            padded = _pad(y, (pad_v, pad_h))
            if 0 in part.shape:
                phases.append(jnp.zeros((y.shape[0], count_v, count_h, kernel.shape[3]), y.dtype))
            elif depthwise:
                phases.append(_depthwise(padded, part, (1, 1)))
            elif part.shape[:2] == (1, 1) and geometry.groups == 1:
                phases.append(_dot(padded, part[0, 0], precision))
            else:
                phases.append(_native(padded, part, Geometry(groups=geometry.groups), precision))
    if len(phases) == 1:
        return phases[0]
    stacked = jnp.stack(phases, axis=1).reshape(y.shape[0], sv, sh, *phases[0].shape[1:])
    woven = stacked.transpose(0, 3, 1, 4, 2, 5).reshape(y.shape[0], -1, phases[0].shape[2] * sh, kernel.shape[3])
    return woven[:, : size[0], : size[1]]


def _phase(residue: int, stride: int, before: int, kernel: int, size: int, out: int) -> tuple[slice, Pair, int]:
    """Taps (reversed), padding of y and number of rows for the input rows residue, residue + stride, ..."""
    count = -(-size // stride)
    first = (residue + before) % stride
    taps = len(range(first, kernel, stride))
    if taps == 0:
        return slice(0, 0), (0, 0), count
    # Input row residue + stride * m meets output row m + shift through the smallest tap of its residue.
    shift = (residue + before - first) // stride
    low = taps - 1 - shift
    high = count + shift - out
    last = first + (taps - 1) * stride
    reverse = slice(last, first - stride if first >= stride else None, -stride)
    return reverse, (low, high), count


def _transpose_of_dilated(y: jax.Array, kernel: jax.Array, geometry: Geometry, size: Pair, precision: str) -> jax.Array:
    """Transpose of any convolution: y spread out by the stride meets the reversed kernel.

    XLA's own transpose of grouped and dilated convolutions aborts the process for some shapes (jaxlib 0.10), hence the
    zeros are written out.
    """
    (sv, sh), (dv, dh) = geometry.stride, geometry.dilation
    spread = lax.pad(y, jnp.zeros((), y.dtype), ((0, 0, 0), (0, 0, sv - 1), (0, 0, sh - 1), (0, 0, 0)))
    padding = []
    for axis, (dilation, (before, _)) in enumerate(zip((dv, dh), geometry.padding, strict=True)):
        extent = (kernel.shape[axis] - 1) * dilation
        low = extent - before
        padding.append((low, size[axis] + extent - low - spread.shape[axis + 1]))
    flipped = _swap_channels(kernel[::-1, ::-1], geometry.groups)
    stride_one = Geometry(dilation=geometry.dilation, groups=geometry.groups)
    return _native(_pad(spread, tuple(padding)), flipped, stride_one, precision)


def _swap_channels(kernel: jax.Array, groups: int) -> jax.Array:
    """Input and output channels exchanged within each group: (kh, kw, i/g, o) -> (kh, kw, o/g, i)."""
    kh, kw, i_per_group, o = kernel.shape
    grouped = kernel.reshape(kh, kw, i_per_group, groups, o // groups)
    return grouped.transpose(0, 1, 4, 3, 2).reshape(kh, kw, o // groups, groups * i_per_group)
