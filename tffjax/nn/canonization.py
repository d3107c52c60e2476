"""Canonization: batch norms folded into the convolutions before them, exactly (Guillemot et al. 2020; SPEC 2)."""

import dataclasses
from collections import Counter

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from tffjax.errors import InputError
from tffjax.nn.conv_bn import state_of
from tffjax.nn.model import Model
from tffjax.nn.names import near


def canonize(model: Model, batch_norm: str = "folded") -> Model:
    """Fold every batch norm into the convolution before it.

        w' = w * g / sqrt(v + epsilon)        b' = (b - m) * g / sqrt(v + epsilon) + beta

    The result computes the same function, and LRP runs on it. A model without batch norms, or one that is folded
    already, is returned as it is. Works under `jit`.

    Args:
        model: its module says which convolutions have a batch norm behind them: `batch_norm_pairs()` gives names of
            layers, in nested modules too (`block.conv`). It has the fields `batch_norm` and `epsilon`; see
            `tffjax.nn.resnet`.
        batch_norm: `folded`, or `reset` to leave an emptied batch norm behind each convolution as the released code
            does (`tffjax.nn.conv_bn`).

    Raises:
        InputError: the module has pairs, but not these fields; a pair names no convolution or no batch norm; a
            convolution is used twice, with a batch norm for each use.
    """
    pairs = tuple(model.module.batch_norm_pairs()) if hasattr(model.module, "batch_norm_pairs") else ()
    if not pairs or state_of(model.module) != "statistics":
        return model
    twice = [conv for conv, count in Counter(conv for conv, _ in pairs).items() if count > 1]
    if twice:
        raise InputError(
            f"the convolution {twice[0]!r} has two batch norms: no one kernel holds both; see own-network.md"
        )
    params, stats = (flatten_dict(model.variables.get(name, {})) for name in ("params", "batch_stats"))
    convs = {".".join(path[:-1]): path[:-1] for path in params if path[-1] == "kernel"}  # by the names of layers
    norms = {".".join(path[:-1]): path[:-1] for path in stats if path[-1] == "var"}
    for pair in pairs:
        for what, name, known in (("convolution", pair[0], convs), ("batch norm", pair[1], norms)):
            if name not in known:
                raise InputError(
                    f"batch_norm_pairs() gives {pair}, but there is no {what} {name!r}; {near(name, known)}"
                )
        conv, norm = convs[pair[0]], norms[pair[1]]
        scale, shift = params[*norm, "scale"], params[*norm, "bias"]
        factor = scale / jnp.sqrt(stats[*norm, "var"] + model.module.epsilon)
        bias = params.get((*conv, "bias"), 0)
        params[*conv, "kernel"] = params[*conv, "kernel"] * factor
        params[*conv, "bias"] = (bias - stats[*norm, "mean"]) * factor + shift
    gone = {norms[bn] for _, bn in pairs}
    left = (unflatten_dict({path: a for path, a in tree.items() if path[:-1] not in gone}) for tree in (params, stats))
    variables = {name: tree for name, tree in zip(("params", "batch_stats"), left, strict=True) if tree}
    return dataclasses.replace(model, module=model.module.clone(batch_norm=batch_norm), variables=variables)
