"""Average and maximum pooling, NHWC.

The gradient of XLA's maximum pool is a scalar loop on CPUs, 25 times the price of the pool. There it is written as one
comparison for each tap of the window.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from tffjax.kernels.choice import Kernels, kernels_of
from tffjax.kernels.convolution import Geometry, Pair, pad
from tffjax.kernels.precision import widened
from tffjax.kernels.transpose import phase, weave


def average_pool(x: Float[Array, "n h w c"], window: Pair) -> Float[Array, "n oh ow c"]:
    """Average over non-overlapping windows; rows and columns that do not fill a window are dropped."""
    n, h, w, c = x.shape
    (wv, wh) = window
    cropped = x[:, : h // wv * wv, : w // wh * wh]
    mean = widened(cropped).reshape(n, h // wv, wv, w // wh, wh, c).mean(axis=(2, 4))
    return mean.astype(x.dtype)


def max_pool(
    x: Float[Array, "n h w c"], window: Pair, geometry: Geometry, kernels: Kernels | None = None
) -> Float[Array, "n oh ow c"]:
    """Maximum over windows; padding never wins. Its gradient goes to the first maximum in scan order."""
    if (kernels or kernels_of()).max_pool and geometry.dilation == (1, 1):
        return _max_pool(window, geometry, x)
    return _reduce_window(x, window, geometry)


def _reduce_window(x: jax.Array, window: Pair, geometry: Geometry) -> jax.Array:
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        window_dimensions=(1, *window, 1),
        window_strides=(1, *geometry.stride, 1),
        padding=((0, 0), *geometry.padding, (0, 0)),
        window_dilation=(1, *geometry.dilation, 1),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _max_pool(window: Pair, geometry: Geometry, x: jax.Array) -> jax.Array:
    return _reduce_window(x, window, geometry)


def _forward(window: Pair, geometry: Geometry, x: jax.Array) -> tuple[jax.Array, Any]:
    return _reduce_window(x, window, geometry), x


def _backward(window: Pair, geometry: Geometry, x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    winner = winners(x, window, geometry, gradient.shape[1:3])
    return (to_winners(gradient, winner, window, geometry, x.shape[1:3]),)


def to_winners(
    gradient: Float[Array, "n oh ow c"], winner: Int[Array, "#n oh ow c"], window: Pair, geometry: Geometry, size: Pair
) -> Float[Array, "n h w c"]:
    """The gradient of a maximum pool with respect to its input of height and width `size`."""
    (n, oh, ow, c), (sv, sh) = gradient.shape, geometry.stride
    rows = [phase(r, sv, geometry.padding[0][0], window[0], size[0], oh) for r in range(sv)]
    columns = [phase(r, sh, geometry.padding[1][0], window[1], size[1], ow) for r in range(sh)]
    parts = []
    for taps_v, pad_v, count_v in rows:
        for taps_h, pad_h, count_h in columns:
            part = jnp.zeros((n, count_v, count_h, c), gradient.dtype)
            spread, won_by = lax.optimization_barrier(
                (pad(gradient, (pad_v, pad_h)), pad(winner, (pad_v, pad_h), -1.0))
            )
            for i, a in enumerate(range(window[0])[taps_v]):
                for j, b in enumerate(range(window[1])[taps_h]):
                    here = (slice(None), slice(i, i + count_v), slice(j, j + count_h))
                    part = part + jnp.where(won_by[here] == a * window[1] + b, spread[here], 0)
            parts.append(part)
    return weave(parts, geometry.stride, size)


def winners(x: Float[Array, "n h w c"], window: Pair, geometry: Geometry, out: Pair) -> Int[Array, "n oh ow c"]:
    """Index of the first tap, in scan order, that holds the maximum of its window.

    The maximum is found anew, by comparing taps: the pool's own may have been computed from an x that was fused with
    what makes it and rounded otherwise, and then no tap would equal it.
    """
    padded = lax.optimization_barrier(pad(x, geometry.padding, -jnp.inf))
    (sv, sh), (oh, ow) = geometry.stride, out
    best = jnp.full((x.shape[0], oh, ow, x.shape[3]), -jnp.inf, x.dtype)
    winner = jnp.zeros(best.shape, jnp.int32)
    for a in range(window[0]):
        for b in range(window[1]):
            tap = padded[:, a : a + (oh - 1) * sv + 1 : sv, b : b + (ow - 1) * sh + 1 : sh]
            winner = jnp.where(tap > best, a * window[1] + b, winner)
            best = jnp.maximum(best, tap)
    return winner


_max_pool.defvjp(_forward, _backward)
