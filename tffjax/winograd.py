"""3x3 convolutions with 4/9 of the multiplications (Winograd's F(2x2, 3x3); Lavin and Gray 2016, section 4.1).

    Y = A^T [(G g G^T) * (B^T d B)] A      for each 2x2 tile of the output and the 4x4 tile d of the input around it

The sums over input channels become 16 matrix products. Exact in real numbers; in floating point the error is relative
to the largest value near by, not to the output itself, so LRP's denominators must not be computed like this: where all
contributions are zero they would be rounding noise instead of zero. Only plain forward passes on a CPU use it.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from tffjax.convolution import Geometry, Pair, pad
from tffjax.models.model import Model
from tffjax.ops import Plain

MIN_CHANNELS = 128
"""With fewer input or output channels the transforms cost more than the multiplications that they save."""

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


@dataclasses.dataclass(frozen=True)
class Winograd(Plain):
    """Plain operations, with the convolutions of these layers computed from their transformed kernels."""

    kernels: Mapping[str, Float[Array, "16 i o"]] = dataclasses.field(default_factory=dict)

    def conv(
        self,
        x: Float[Array, "n h w i"],
        kernel: Float[Array, "kh kw i_per_group o"],
        bias: Float[Array, " o"] | None,
        geometry: Geometry,
        name: str,
    ) -> Float[Array, "n oh ow o"]:
        """Convolution (cross-correlation) with explicit padding."""
        if name not in self.kernels or geometry != Geometry(padding=geometry.padding):
            return super().conv(x, kernel, bias, geometry, name)
        y = convolve(x, self.kernels[name], geometry.padding, self.precision)
        return y if bias is None else y + bias


def transformed_kernels(model: Model) -> dict[str, Float[Array, "16 i o"]]:
    """The transformed kernel of every 3x3 convolution that is wide enough, by the name of the layer."""
    kernels = {name: leaves.get("kernel") for name, leaves in model.variables["params"].items()}
    return {name: transform(kernel) for name, kernel in kernels.items() if kernel is not None and _suits(kernel)}


def _suits(kernel: jax.Array | Mapping[str, jax.Array]) -> bool:
    shape = getattr(kernel, "shape", ())
    return len(shape) == 4 and shape[:2] == (3, 3) and min(shape[2:]) >= MIN_CHANNELS


def transform(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "16 i o"]:
    """G g G^T of every pair of channels, its 4x4 entries in scan order."""
    g = jnp.asarray(_G, kernel.dtype)
    return jnp.einsum("ia,abco,jb->ijco", g, kernel, g, precision="highest").reshape(16, *kernel.shape[2:])


def convolve(
    x: Float[Array, "n h w i"], kernel: Float[Array, "16 i o"], padding: tuple[Pair, Pair], precision: str = "highest"
) -> Float[Array, "n oh ow o"]:
    """A 3x3 convolution with stride 1 from a transformed kernel."""
    (n, h, w, c), (before_h, after_h), (before_w, after_w) = x.shape, *padding
    height, width = h + before_h + after_h - 2, w + before_w + after_w - 2
    rows, columns = -(-height // 2), -(-width // 2)
    x = pad(x, ((before_h, after_h + 2 * rows - height), (before_w, after_w + 2 * columns - width)))
    tiles = [[x[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2] for j in range(4)] for i in range(4)]
    tiles = _both_ways(_input_transform, tiles)
    stacked = jnp.stack([tile.reshape(-1, c) for row in tiles for tile in row])
    products = lax.dot_general(stacked, kernel, (((2,), (1,)), ((0,), (0,))), precision=precision)
    outputs = _both_ways(_output_transform, [[products[4 * i + j] for j in range(4)] for i in range(4)])
    y = jnp.stack([jnp.stack([tile.reshape(n, rows, columns, -1) for tile in row], axis=3) for row in outputs], axis=2)
    return y.reshape(n, 2 * rows, 2 * columns, -1)[:, :height, :width]


def _both_ways(transform: object, tiles: Sequence[Sequence[jax.Array]]) -> list[list[jax.Array]]:
    """The one-dimensional transform along the columns, then along the rows."""
    columns = [transform(column) for column in zip(*tiles, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]


def _input_transform(d: Sequence[jax.Array]) -> list[jax.Array]:
    """B^T d."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _output_transform(m: Sequence[jax.Array]) -> list[jax.Array]:
    """A^T m."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
