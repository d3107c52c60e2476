"""The transpose of a convolution, as exact equivalents of what a backend does slowly (`tffjax.kernels.choice`).

Input row h meets tap a in output row o where h + before = stride * o + a. Rows h of one residue modulo the stride meet
the same taps: they are a dense convolution of the output with those taps, reversed (a *phase*).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from tffjax.kernels import convolution, winograd
from tffjax.kernels.choice import Kernels, kernels_of
from tffjax.kernels.convolution import Geometry, Pair
from tffjax.kernels.precision import factor

FEW_CHANNELS = 16
"""Up to so many input channels, all phases are computed as the channels of one convolution: narrow ones are slow."""


def conv_transpose(
    y: Float[Array, "n oh ow o"],
    kernel: Float[Array, "kh kw i_per_group o"],
    geometry: Geometry,
    size: Pair,
    precision: str = "float32",
    kernels: Kernels | None = None,
    transformed: Float[Array, "16 o i"] | None = None,
) -> Float[Array, "n h w i"]:
    """The transpose of `conv` with respect to its input, for an input of height and width `size`.

    `transformed` is what `transform` makes of this kernel, where that is known already.
    """
    kernels = kernels or kernels_of()
    y, kernel = factor(y, precision), factor(kernel, precision)
    dense = geometry.groups == 1 and geometry.dilation == (1, 1)
    if dense and kernel.shape[:2] == (1, 1) and precision in kernels.pointwise:
        x = convolution.dot(y, kernel[0, 0].T, precision)
        return _spread(x, (1, 1), geometry, size)
    few = kernel.shape[2] <= FEW_CHANNELS
    if dense and geometry.stride != (1, 1) and (kernels.stem if few else kernels.phases):
        return (_phases_as_channels if few else _phase_by_phase)(y, kernel, geometry, size, precision)
    if winograd.suits(kernel, geometry, precision, kernels):
        transformed = transform(kernel, geometry, precision, kernels) if transformed is None else transformed
        return winograd.convolve(y, transformed, _reach(y, kernel.shape[:2], geometry, size), precision)
    if convolution.by_shifts(kernel.shape[2] * geometry.groups, kernel, geometry, kernels):
        return convolution.depthwise(_spread(y, kernel.shape[:2], geometry, size), kernel[::-1, ::-1], (1, 1))
    if kernels.spread:
        flipped = swap_channels(kernel[::-1, ::-1], geometry.groups)
        stride_one = Geometry(dilation=geometry.dilation, groups=geometry.groups)
        return convolution.native(_spread(y, kernel.shape[:2], geometry, size), flipped, stride_one, precision)
    zeros = convolution.zeros_varying_like(y, (y.shape[0], *size, kernel.shape[2] * geometry.groups))
    (x,) = jax.linear_transpose(lambda x: convolution.native(x, kernel, geometry, precision), zeros)(y)
    return x


def transposed_conv(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "kh kw i_per_group o"],
    geometry: Geometry,
    precision: str = "float32",
    kernels: Kernels | None = None,
    exact: bool = False,
) -> Float[Array, "n oh ow o"]:
    """Transposed convolution: input row i adds x[i] * kernel[a] to output row stride * i + dilation * a - before.

    The output has (h - 1) * stride + (kh - 1) * dilation + 1 - before - after rows: padding is cut off. `exact`: an
    output is exactly zero where all contributions to it are.
    """
    kernels = dataclasses.replace(kernels or kernels_of(), winograd=False)
    size = geometry.input_size(x.shape[1:3], kernel.shape[:2])
    if exact and precision in kernels.patches:
        stride_one = Geometry(dilation=geometry.dilation, groups=geometry.groups)
        spread = _spread(x, kernel.shape[:2], geometry, size)
        return convolution.conv(spread, kernel[::-1, ::-1], stride_one, precision, kernels)
    return conv_transpose(x, swap_channels(kernel, geometry.groups), geometry, size, precision, kernels)


def transform(
    kernel: Float[Array, "kh kw i_per_group o"], geometry: Geometry, precision: str, kernels: Kernels
) -> Float[Array, "16 o i"] | None:
    """Winograd's transform of the kernel for the transpose; None for a convolution whose transpose takes none."""
    if not winograd.suits(kernel, geometry, precision, kernels):
        return None
    return winograd.transform(swap_channels(kernel[::-1, ::-1], 1))


def swap_channels(kernel: jax.Array, groups: int) -> jax.Array:
    """Input and output channels exchanged within each group: (kh, kw, i/g, o) -> (kh, kw, o/g, i)."""
    kh, kw, i_per_group, o = kernel.shape
    grouped = kernel.reshape(kh, kw, i_per_group, groups, o // groups)
    return grouped.transpose(0, 1, 4, 3, 2).reshape(kh, kw, o // groups, groups * i_per_group)


def phase(residue: int, stride: int, before: int, kernel: int, size: int, out: int) -> tuple[slice, Pair, int]:
    """How the input rows residue, residue + stride, ... meet the output: taps, padding of the output, number of rows.

    The taps of one residue come in reverse; after the padding, row m meets the i-th of them in output row m + i.
    """
    count = -(-size // stride)
    first = (residue + before) % stride
    taps = len(range(first, kernel, stride))
    if taps == 0:
        return slice(0, 0), (0, 0), count
    shift = (residue + before - first) // stride  # row m meets the smallest tap in output row m + shift
    low = taps - 1 - shift
    high = count + shift - out
    last = first + (taps - 1) * stride
    reverse = slice(last, first - stride if first >= stride else None, -stride)
    return reverse, (low, high), count


def weave(phases: list[jax.Array], stride: Pair, size: Pair) -> jax.Array:
    """Put together an array of height and width `size` from its rows and columns of each residue modulo the stride."""
    if len(phases) == 1:
        return phases[0]
    (n, h, w, c), (sv, sh) = phases[0].shape, stride
    stacked = jnp.stack(phases, axis=1).reshape(n, sv, sh, h, w, c)
    return stacked.transpose(0, 3, 1, 4, 2, 5).reshape(n, h * sv, w * sh, c)[:, : size[0], : size[1]]


def _spread(y: jax.Array, kernel: Pair, geometry: Geometry, size: Pair) -> jax.Array:
    """The output with stride - 1 zeros between rows and columns, padded so that the reversed kernel fits the input."""
    rows, columns = (
        (*reach, stride - 1) for reach, stride in zip(_reach(y, kernel, geometry, size), geometry.stride, strict=True)
    )
    return lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), rows, columns, (0, 0, 0)])


def _reach(y: jax.Array, kernel: Pair, geometry: Geometry, size: Pair) -> tuple[Pair, Pair]:
    """The padding of the output, spread by the stride, with which the reversed kernel fits the input."""
    padding = []
    for axis, (before, _) in enumerate(geometry.padding):
        extent = (kernel[axis] - 1) * geometry.dilation[axis]
        low, rows = extent - before, (y.shape[axis + 1] - 1) * geometry.stride[axis] + 1
        padding.append((low, size[axis] + extent - low - rows))
    return tuple(padding)


def _phase_by_phase(y: jax.Array, kernel: jax.Array, geometry: Geometry, size: Pair, precision: str) -> jax.Array:
    rows, columns = _phases(y, kernel, geometry, size)
    kernel = kernel.swapaxes(2, 3)
    phases = []
    for taps_v, pad_v, count_v in rows:
        for taps_h, pad_h, count_h in columns:
            part = kernel[taps_v, taps_h]
            padded = convolution.pad(y, (pad_v, pad_h))
            if 0 in part.shape:
                phases.append(jnp.zeros((y.shape[0], count_v, count_h, kernel.shape[3]), y.dtype))
            elif part.shape[:2] == (1, 1):
                phases.append(convolution.dot(padded, part[0, 0], precision))
            else:
                phases.append(convolution.native(padded, part, Geometry(), precision))
    return weave(phases, geometry.stride, size)


def _phases_as_channels(y: jax.Array, kernel: jax.Array, geometry: Geometry, size: Pair, precision: str) -> jax.Array:
    """One convolution whose output channels are (row phase, column phase, channel); shorter phases get zero taps."""
    rows, columns = _phases(y, kernel, geometry, size)
    kernel = kernel.swapaxes(2, 3)
    (before_v, taps_v, count_v), (before_h, taps_h, count_h) = (
        _common(rows, kernel.shape[0]),
        _common(columns, kernel.shape[1]),
    )
    parts = []
    for row, (low_v, _), _ in rows:
        for column, (low_h, _), _ in columns:
            part = kernel[row, column]
            above, left = before_v - low_v, before_h - low_h
            below, right = taps_v - part.shape[0] - above, taps_h - part.shape[1] - left
            parts.append(jnp.pad(part, ((above, below), (left, right), (0, 0), (0, 0))))
    padding = (
        (before_v, count_v + taps_v - 1 - y.shape[1] - before_v),
        (before_h, count_h + taps_h - 1 - y.shape[2] - before_h),
    )
    x = convolution.native(convolution.pad(y, padding), jnp.concatenate(parts, axis=3), Geometry(), precision)
    (sv, sh), channels = geometry.stride, kernel.shape[3]
    x = x.reshape(y.shape[0], count_v, count_h, sv, sh, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(y.shape[0], count_v * sv, count_h * sh, channels)[:, : size[0], : size[1]]


def _phases(y: jax.Array, kernel: jax.Array, geometry: Geometry, size: Pair) -> list[list[tuple[slice, Pair, int]]]:
    """`phase` of every residue, for rows and for columns."""
    return [
        [
            phase(r, stride, geometry.padding[axis][0], kernel.shape[axis], size[axis], y.shape[axis + 1])
            for r in range(stride)
        ]
        for axis, stride in enumerate(geometry.stride)
    ]


def _common(phases: list[tuple[slice, Pair, int]], kernel: int) -> tuple[int, int, int]:
    """Padding before, number of taps and number of rows of one window that holds the taps of all phases."""
    lengths = [(low, len(range(kernel)[taps])) for taps, (low, _), _ in phases]
    before = max(low for low, _ in lengths)
    return before, max(before - low + taps for low, taps in lengths), phases[0][2]
