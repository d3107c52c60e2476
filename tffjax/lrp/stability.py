"""How near an explanation is to a jump: places where rounding alone may send relevance elsewhere.

LRP is not continuous. Where the two largest inputs of a max-pool window are equal, rounding picks the winner; where the
two summands of a residual sum cancel, a / (a + b) is as large as one likes; where an activation's input is zero, its
sign decides. Nothing is wrong there, but no two programs need to agree.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_of
from tffjax.compile.prepared import plain_ops
from tffjax.kernels.convolution import pad, patches
from tffjax.lrp.explain import check_types
from tffjax.nn.canonization import canonize
from tffjax.nn.functions import relu
from tffjax.nn.graph import layers_of
from tffjax.nn.model import Model
from tffjax.nn.ops import Operation


class NearJumps(NamedTuple):
    """Shares of a layer's places, per image, that are nearer to a jump than a tolerance.

    Attributes:
        layer, kind: of a residual sum (`add`), a max pool or a ReLU (`activation`).
        shares: in [0, 1]; places where everything is zero are not near.
    """

    layer: str
    kind: str
    shares: Float[Array, " n"]


def near_jumps(model: Model, images: Float[Array, "n h w c"], tolerance: float = 1e-5) -> tuple[NearJumps, ...]:
    """How many places of each image's forward pass are near to a jump, layer by layer.

    - residual sum: |a + b| <= tolerance * (|a| + |b|)
    - max pool: the second largest input of a window is at least (1 - tolerance) of the largest, which is positive
    - ReLU: |x| <= tolerance * the mean of |x| over the layer and image

    Args:
        model, images: as for `tffjax.relevance`; the model is canonized first.
        tolerance: some ten times the rounding of what is compared; 1e-5 suits float32.
    """
    check_types(model, images)
    found = _near(model, images, tolerance, micro_batch=micro_batch_of(model, images))
    kinds = {layer.name: layer.kind for layer in layers_of(model, images)}
    return tuple(NearJumps(name, kinds[name], found[name]) for name in kinds if name in found)


def _near_of_batch(model: Model, images: jax.Array, tolerance: jax.Array, micro_batch: int) -> dict[str, jax.Array]:
    model = canonize(model)

    def forward(images: jax.Array) -> dict[str, jax.Array]:
        found: dict[str, jax.Array] = {}

        def note(operation: Operation, y: jax.Array) -> jax.Array:
            near = _is_near(operation, y, tolerance)
            if near is not None:
                found[operation.name] = near.mean(axis=tuple(range(1, near.ndim)), dtype=images.dtype)
            return y

        model(images, dataclasses.replace(plain_ops(model), behind=note))
        return found

    return in_micro_batches(forward, images, micro_batch)


_near = Pass(_near_of_batch, static_argnames=("micro_batch",))


def _is_near(operation: Operation, y: jax.Array, tolerance: jax.Array) -> jax.Array | None:
    """Which places of an operation are near to a jump; None for one that has none."""
    x, parameters = operation.inputs[0], operation.parameters
    if operation.kind == "add":
        size = jnp.abs(x) + jnp.abs(operation.inputs[1])
        return (jnp.abs(y) <= tolerance * size) & (size > 0)
    if operation.kind == "max_pool":
        padded = pad(x, parameters["geometry"].padding, -jnp.inf)
        taps = patches(padded, parameters["window"], parameters["geometry"].unpadded())
        taps = taps.reshape(*y.shape[:3], -1, y.shape[3])
        return ((taps >= (1 - tolerance) * y[..., None, :]).sum(axis=3) > 1) & (y > 0)
    if operation.kind == "activation" and parameters["function"] is relu:
        mean = jnp.abs(x).mean(axis=tuple(range(1, x.ndim)), keepdims=True)
        return (jnp.abs(x) <= tolerance * mean) & (x != 0)
    return None
