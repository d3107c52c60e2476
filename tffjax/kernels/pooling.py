"""Average and maximum pooling, NHWC.

The gradient of XLA's maximum pool is a scalar loop on CPUs, 25 times the price of the pool. There it is written as one
comparison for each tap of the window.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from tffjax.kernels.choice import Kernels, kernels_of
from tffjax.kernels.convolution import Geometry, Pair, pad
from tffjax.kernels.precision import widened
from tffjax.kernels.transpose import phase, weave


def average_pool(
    x: Float[Array, "n h w c"], window: Pair, geometry: Geometry | None = None, count_padding: bool = False
) -> Float[Array, "n oh ow c"]:
    """Sum over each window / count; by default windows lie side by side, and what does not fill one is dropped.

    The count is the size of the window; unless `count_padding`, only of what is in the image. Windows that see nothing
    of it are 0.
    """
    if geometry is None or geometry == Geometry(window):
        n, h, w, c = x.shape
        (wv, wh) = window
        cropped = x[:, : h // wv * wv, : w // wh * wh]
        mean = widened(cropped).reshape(n, h // wv, wv, w // wh, wh, c).mean(axis=(2, 4))
        return mean.astype(x.dtype)
    total = _over_windows(widened(x), 0.0, lax.add, window, geometry)
    count = window[0] * window[1] if count_padding else _seen(x.shape[1:3], total.shape[1:3], window, geometry)
    return (total / jnp.asarray(count, total.dtype)).astype(x.dtype)


def max_pool(
    x: Float[Array, "n h w c"], window: Pair, geometry: Geometry, kernels: Kernels | None = None
) -> Float[Array, "n oh ow c"]:
    """Maximum over windows; padding never wins. Its gradient goes to the first maximum in scan order."""
    if (kernels or kernels_of()).max_pool or geometry.dilation != (1, 1):  # XLA has no gradient of dilated windows
        return _max_pool(window, geometry, x)
    return _over_windows(x, -jnp.inf, lax.max, window, geometry)


def _over_windows(x: jax.Array, start: float, combine: Any, window: Pair, geometry: Geometry) -> jax.Array:
    return lax.reduce_window(
        x,
        start,
        combine,
        window_dimensions=(1, *window, 1),
        window_strides=(1, *geometry.stride, 1),
        padding=((0, 0), *geometry.padding, (0, 0)),
        window_dilation=(1, *geometry.dilation, 1),
    )


def _seen(size: Pair, out: Pair, window: Pair, geometry: Geometry) -> np.ndarray:
    """How many taps of each window lie in the image, (oh, ow, 1); 1 where none does."""
    counts = []
    for axis in range(2):
        first = np.arange(out[axis]) * geometry.stride[axis] - geometry.padding[axis][0]
        place = first[:, None] + np.arange(window[axis]) * geometry.dilation[axis]
        counts.append(((place >= 0) & (place < size[axis])).sum(axis=1))
    return np.maximum(np.outer(*counts), 1)[:, :, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _max_pool(window: Pair, geometry: Geometry, x: jax.Array) -> jax.Array:
    return _over_windows(x, -jnp.inf, lax.max, window, geometry)


def _forward(window: Pair, geometry: Geometry, x: jax.Array) -> tuple[jax.Array, Any]:
    return _over_windows(x, -jnp.inf, lax.max, window, geometry), x


def _backward(window: Pair, geometry: Geometry, x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    winner = winners(x, window, geometry, gradient.shape[1:3])
    return (to_winners(gradient, winner, window, geometry, x.shape[1:3]),)


def to_winners(
    gradient: Float[Array, "n oh ow c"], winner: Int[Array, "#n oh ow c"], window: Pair, geometry: Geometry, size: Pair
) -> Float[Array, "n h w c"]:
    """The gradient of a maximum pool with respect to its input of height and width `size`."""
    (n, oh, ow, c), (sv, sh), (dv, dh) = gradient.shape, geometry.stride, geometry.dilation
    extent = _extent(window, geometry)
    rows = [phase(r, sv, geometry.padding[0][0], extent[0], size[0], oh) for r in range(sv)]
    columns = [phase(r, sh, geometry.padding[1][0], extent[1], size[1], ow) for r in range(sh)]
    parts = []
    for taps_v, pad_v, count_v in rows:
        for taps_h, pad_h, count_h in columns:
            part = jnp.zeros((n, count_v, count_h, c), gradient.dtype)
            spread, won_by = lax.optimization_barrier(
                (pad(gradient, (pad_v, pad_h)), pad(winner, (pad_v, pad_h), -1.0))
            )
            for i, a in enumerate(range(extent[0])[taps_v]):
                for j, b in enumerate(range(extent[1])[taps_h]):
                    if a % dv or b % dh:
                        continue
                    here = (slice(None), slice(i, i + count_v), slice(j, j + count_h))
                    part = part + jnp.where(won_by[here] == a * extent[1] + b, spread[here], 0)
            parts.append(part)
    return weave(parts, geometry.stride, size)


def winners(x: Float[Array, "n h w c"], window: Pair, geometry: Geometry, out: Pair) -> Int[Array, "n oh ow c"]:
    """Index of the first tap, in scan order, that holds the maximum of its window; what dilation skips is counted too.

    The maximum is found anew, by comparing taps: the pool's own may have been computed from an x that was fused with
    what makes it and rounded otherwise, and then no tap would equal it.
    """
    padded = lax.optimization_barrier(pad(x, geometry.padding, -jnp.inf))
    (sv, sh), (dv, dh), (oh, ow), extent = geometry.stride, geometry.dilation, out, _extent(window, geometry)
    best = jnp.full((x.shape[0], oh, ow, x.shape[3]), -jnp.inf, x.dtype)
    winner = jnp.zeros(best.shape, jnp.int32)
    for a in range(0, extent[0], dv):
        for b in range(0, extent[1], dh):
            tap = padded[:, a : a + (oh - 1) * sv + 1 : sv, b : b + (ow - 1) * sh + 1 : sh]
            winner = jnp.where(tap > best, a * extent[1] + b, winner)
            best = jnp.maximum(best, tap)
    return winner


def _extent(window: Pair, geometry: Geometry) -> Pair:
    """Rows and columns from the first to the last tap of a window."""
    return tuple((taps - 1) * dilation + 1 for taps, dilation in zip(window, geometry.dilation, strict=True))


_max_pool.defvjp(_forward, _backward)
