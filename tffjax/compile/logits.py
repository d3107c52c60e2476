"""Logits of a batch in one compiled pass."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_of
from tffjax.compile.prepared import plain_ops
from tffjax.nn import Model
from tffjax.nn.padded import Parts


def forward(
    model: Model,
    images: Float[Array, "n h w c"],
    heights: Int[Array, " n"] | None = None,
    widths: Int[Array, " n"] | None = None,
    micro_batch: int | None = None,
    precision: str | None = None,
) -> Float[Array, "n outputs"]:
    """Logits of a batch, `micro_batch` images at a time; by default as `tffjax.compile.passes.micro_batch_of` says.

    With heights and widths, of images that are filled up to one size (`tffjax.nn.padded`).
    """
    ops = plain_ops(model, precision)

    def one_pass(batch: tuple[jax.Array, Any]) -> jax.Array:
        images, sizes = batch
        if sizes is None:
            return model(images, ops)
        parts = Parts(sizes, images.shape[1:3])
        return model(parts.cut(images), parts.ops(ops))

    sizes = None if heights is None else jnp.stack([heights, widths], axis=1)
    return in_micro_batches(one_pass, (images, sizes), micro_batch or micro_batch_of(model, images))


def logits_of(
    model: Model, images: Float[Any, "n h w c"], sizes: Sequence[Int[Any, " n"]] = ()
) -> Float[Array, "n outputs"]:
    """`forward`, compiled once for each shape; the images are on one device or spread over several."""
    return _forward(model, images, *sizes, micro_batch=micro_batch_of(model, images))


_forward = Pass(forward, static_argnames=("micro_batch",))
