"""The gradient of a convolution with respect to its kernel, as exact equivalents of what XLA does slowly on CPUs.

XLA's CPU backend sums products over images and positions some ten times slower than it must: for a depthwise kernel
here one image after the other is multiplied and added, elementwise, and only the sum over images is summed over
positions; for a 1x1 kernel it is one matrix product.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from tffjax.kernels import convolution
from tffjax.kernels.choice import Kernels, kernels_of
from tffjax.kernels.convolution import Geometry
from tffjax.kernels.precision import lax_precision
from tffjax.kernels.transpose import conv_transpose


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def trainable_conv(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "kh kw i_per_group o"],
    geometry: Geometry,
    precision: str,
    kernels: Kernels,
) -> Float[Array, "n oh ow o"]:
    """`tffjax.kernels.convolution.fast`, with both gradients written out: `conv_transpose` and `kernel_gradient`."""
    return convolution.fast(x, kernel, geometry, precision, kernels)


def _forward(
    x: jax.Array, kernel: jax.Array, geometry: Geometry, precision: str, kernels: Kernels
) -> tuple[jax.Array, Any]:
    return convolution.fast(x, kernel, geometry, precision, kernels), (x, kernel)


def _backward(
    geometry: Geometry, precision: str, kernels: Kernels, residuals: Any, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    to_input = conv_transpose(gradient, kernel, geometry, x.shape[1:3], precision, kernels)
    return to_input, kernel_gradient(x, gradient, kernel, geometry, precision, kernels)


trainable_conv.defvjp(_forward, _backward)


def kernel_gradient(
    x: Float[Array, "n h w i"],
    gradient: Float[Array, "n oh ow o"],
    kernel: Float[Array, "kh kw i_per_group o"],
    geometry: Geometry,
    precision: str = "float32",
    kernels: Kernels | None = None,
) -> Float[Array, "kh kw i_per_group o"]:
    """The gradient of `sum(gradient * conv(x, kernel))` with respect to the kernel (whose values do not matter)."""
    kernels = kernels or kernels_of()
    if kernels.depthwise_gradient and convolution.by_shifts(x.shape[-1], kernel, geometry, kernels):
        return _depthwise(convolution.pad(x, geometry.padding), gradient, kernel, geometry)
    if precision in kernels.pointwise and kernel.shape[:2] == (1, 1) and geometry.groups == 1:
        sv, sh = geometry.stride
        rows = convolution.pad(x, geometry.padding)[:, ::sv, ::sh].reshape(-1, x.shape[-1])
        columns = gradient.reshape(-1, gradient.shape[-1])
        return jnp.dot(rows.T, columns, precision=lax_precision(precision))[None, None]
    (to_kernel,) = jax.linear_transpose(lambda k: convolution.native(x, k, geometry, precision), kernel)(gradient)
    return to_kernel


def _depthwise(padded: jax.Array, gradient: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    (kh, kw), (sv, sh), (oh, ow) = kernel.shape[:2], geometry.stride, gradient.shape[1:3]

    def add_image(sums: tuple[jax.Array, ...], image: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        x, g = image
        taps = [
            lax.slice(x, (i, j, 0), (i + (oh - 1) * sv + 1, j + (ow - 1) * sh + 1, x.shape[2]), (sv, sh, 1))
            for i in range(kh)
            for j in range(kw)
        ]
        return tuple(total + tap * g for total, tap in zip(sums, taps, strict=True)), None

    zeros = tuple(jnp.zeros(gradient.shape[1:], gradient.dtype) for _ in range(kh * kw))
    sums, _ = lax.scan(add_image, zeros, (padded, gradient))
    # The barrier keeps XLA from fusing the last product into the sum, which makes it a scalar loop.
    return jnp.stack([lax.optimization_barrier(total).sum(axis=(0, 1)) for total in sums]).reshape(kernel.shape)
