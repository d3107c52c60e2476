"""3x3 convolutions with 4/9 of the multiplications (Winograd's F(2x2, 3x3); Lavin and Gray 2016, section 4.1).

    Y = A^T [(G g G^T) * (B^T d B)] A      for each 2x2 tile of the output and the 4x4 tile d of the input around it

The sums over input channels become 16 matrix products. Exact in real numbers; in floating point the error is relative
to the largest value near by, not to the output itself. That is well for the values of a layer and for the transpose,
but LRP's denominators must not be computed like this: where all contributions are zero they would be rounding noise
instead of zero. (The epsilon rule does divide by the values of the layer; its epsilon is for such noise.)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.kernels import convolution
from tffjax.kernels.choice import Kernels, kernels_of
from tffjax.kernels.convolution import Geometry, Pair, pad
from tffjax.kernels.precision import lax_precision

MIN_CHANNELS = 64
"""With fewer input or output channels the transforms cost more than the multiplications that they save."""


def conv(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "kh kw i_per_group o"],
    geometry: Geometry,
    precision: str = "float32",
    kernels: Kernels | None = None,
    transformed: Float[Array, "16 i o"] | None = None,
) -> Float[Array, "n oh ow o"]:
    """`tffjax.kernels.convolution.fast`, or Winograd's convolution where it `suits`.

    `transformed` is the `transform` of this kernel, where that is known already.
    """
    kernels = kernels or kernels_of()
    if suits(kernel, geometry, precision, kernels):
        transformed = transform(kernel) if transformed is None else transformed
        return convolve(x, transformed, geometry.padding, precision)
    return convolution.fast(x, kernel, geometry, precision, kernels)


def suits(kernel: jax.Array, geometry: Geometry, precision: str, kernels: Kernels) -> bool:
    """Whether `conv` computes this convolution from its transformed kernel; bfloat16 has too few bits for that."""
    if precision == "bfloat16" or not kernels.winograd:
        return False
    wide = kernel.shape[:2] == (3, 3) and min(kernel.shape[2:]) >= MIN_CHANNELS
    return wide and geometry == Geometry(padding=geometry.padding)


def transform(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "16 i o"]:
    """G g G^T of every pair of channels, its 4x4 entries in scan order."""
    rows = _both_ways(_kernel_transform, [[kernel[i, j] for j in range(3)] for i in range(3)])
    return jnp.stack([entry for row in rows for entry in row])


def convolve(
    x: Float[Array, "n h w i"], kernel: Float[Array, "16 i o"], padding: tuple[Pair, Pair], precision: str = "float32"
) -> Float[Array, "n oh ow o"]:
    """A 3x3 convolution with stride 1 from a transformed kernel."""
    (n, h, w, c), (before_h, after_h), (before_w, after_w) = x.shape, *padding
    height, width = h + before_h + after_h - 2, w + before_w + after_w - 2
    rows, columns = -(-height // 2), -(-width // 2)
    x = pad(x, ((before_h, after_h + 2 * rows - height), (before_w, after_w + 2 * columns - width)))
    tiles = [[x[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2] for j in range(4)] for i in range(4)]
    tiles = _both_ways(_input_transform, tiles)
    # XLA is slower on one batched product than on 16 of them.
    exact = lax_precision(precision)
    products = [
        [jnp.dot(tile.reshape(-1, c), kernel[4 * i + j], precision=exact) for j, tile in enumerate(row)]
        for i, row in enumerate(tiles)
    ]
    outputs = _both_ways(_output_transform, products)
    y = jnp.stack([jnp.stack([tile.reshape(n, rows, columns, -1) for tile in row], axis=3) for row in outputs], axis=2)
    return y.reshape(n, 2 * rows, 2 * columns, -1)[:, :height, :width]


def _both_ways(transform: object, tiles: Sequence[Sequence[jax.Array]]) -> list[list[jax.Array]]:
    """The one-dimensional transform along the columns, then along the rows."""
    columns = [transform(column) for column in zip(*tiles, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]


def _kernel_transform(g: Sequence[jax.Array]) -> list[jax.Array]:
    """G g."""
    return [g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]


def _input_transform(d: Sequence[jax.Array]) -> list[jax.Array]:
    """B^T d."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _output_transform(m: Sequence[jax.Array]) -> list[jax.Array]:
    """A^T m."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
