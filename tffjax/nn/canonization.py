"""Canonization: batch norms folded into the convolutions before them, exactly (Guillemot et al. 2020; SPEC 2)."""

import dataclasses
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp

from tffjax.errors import InputError
from tffjax.nn.model import Model


def canonize(model: Model, batch_norm: str = "folded") -> Model:
    """Fold every batch norm into the convolution before it.

        w' = w * g / sqrt(v + epsilon)        b' = (b - m) * g / sqrt(v + epsilon) + beta

    The result computes the same function, and LRP runs on it. A model without batch norms, or one that is folded
    already, is returned as it is. Works under `jit`.

    Args:
        model: its module says which convolutions have a batch norm behind them (`batch_norm_pairs()`) and has the
            fields `batch_norm` and `epsilon`; see `tffjax.nn.resnet`.
        batch_norm: `folded`, or `reset` to leave an emptied batch norm behind each convolution as the released code
            does (`tffjax.nn.conv_bn`).

    Raises:
        InputError: a convolution is used twice, with a batch norm for each use.
    """
    if getattr(model.module, "batch_norm", None) != "statistics":
        return model
    pairs = tuple(model.module.batch_norm_pairs())
    twice = [conv for conv, count in Counter(conv for conv, _ in pairs).items() if count > 1]
    if twice:
        raise InputError(
            f"the convolution {twice[0]!r} has two batch norms: no one kernel holds both; see own-network.md"
        )
    params, stats = dict(model.variables["params"]), model.variables["batch_stats"]
    for conv, bn in pairs:
        params[conv] = _fold(params[conv], params.pop(bn), stats[bn], model.module.epsilon)
    module = model.module.clone(batch_norm=batch_norm)
    return dataclasses.replace(model, module=module, variables={"params": params})


def _fold(conv: dict[str, Any], bn: dict[str, Any], stats: dict[str, Any], epsilon: float) -> dict[str, jax.Array]:
    factor = bn["scale"] / jnp.sqrt(stats["var"] + epsilon)
    return {
        "kernel": conv["kernel"] * factor,
        "bias": (conv.get("bias", 0) - stats["mean"]) * factor + bn["bias"],
    }
