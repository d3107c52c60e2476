"""Logits of a batch in one compiled pass."""

from typing import Any

from jaxtyping import Array, Float

from tffjax.compile.passes import Pass, in_micro_batches, micro_batch_of
from tffjax.compile.prepared import plain_ops
from tffjax.nn import Model


def forward(
    model: Model, images: Float[Array, "n h w c"], micro_batch: int | None = None, precision: str | None = None
) -> Float[Array, "n outputs"]:
    """Logits of a batch, `micro_batch` images at a time; by default as `tffjax.compile.passes.micro_batch_of` says."""
    ops = plain_ops(model, precision)
    return in_micro_batches(lambda batch: model(batch, ops), images, micro_batch or micro_batch_of(model, images))


def logits_of(model: Model, images: Float[Any, "n h w c"]) -> Float[Array, "n outputs"]:
    """`forward`, compiled once for each shape; the images are on one device or spread over several."""
    return _forward(model, images, micro_batch=micro_batch_of(model, images))


_forward = Pass(forward, static_argnames=("micro_batch",))
