"""A small network with every operation that relevance passes, and images for it."""

import cases
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tffjax.kernels.convolution import Geometry
from tffjax.nn import Conv, Dense, Model
from tffjax.nn.ops import Plain, no_tap

SITES = {"stem": 6, "depthwise": 6, "project": 6, "head": 8}
"""Its sites and their channels."""

KEYS = [f"{site}.#{index}(T={count})" for site, count in SITES.items() for index in range(count)]


class SmallNet(nn.Module):
    """A user's network with every operation that relevance passes."""

    outputs: int = 3

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        x = ops.relu(Conv(6, 3, stride=2, padding=1, name="stem")(x, ops, tap), "stem.relu")
        x = ops.max_pool(x, (3, 3), Geometry((2, 2), ((1, 1), (1, 1))), "pool")
        y = ops.silu(Conv(6, 3, padding="same", groups=6, name="depthwise")(x, ops, tap), "depthwise.silu")
        gate = Conv(6, is_site=False, kernel_size=1, name="squeeze")(
            ops.mean_pool(y, "se.pool")[:, None, None], ops, tap
        )
        y = ops.gate(y, ops.sigmoid(gate, "se.sigmoid"), "se.gate")
        y = ops.add(Conv(6, 1, name="project")(y, ops, tap), x, "sum")
        y = ops.average_pool(ops.relu(y, "sum.relu"), (2, 2), "average")
        y = ops.relu(Conv(8, 3, padding=1, groups=2, name="head")(y, ops, tap), "head.relu")
        return Dense(self.outputs, name="out")(ops.mean_pool(y, "global"), ops)


def small_model(dtype=jnp.float64) -> Model:
    """It with random weights, three outputs."""
    return Model(SmallNet(), cases.random_variables(SmallNet(), seed=0)).astype(dtype)


def noise(size: int, count: int = 2, dtype=jnp.float64) -> jax.Array:
    """Images for it, normalized."""
    return jnp.asarray(np.random.default_rng(1).standard_normal((count, size, size, 3)), dtype)
