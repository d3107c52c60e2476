"""A convolution and what stands behind it, in the three states of batch normalization.

- `statistics`: a batch norm with running statistics, as trained.
- `folded`: nothing; the convolution has a bias and holds the batch norm (`canonize`).
- `reset`: folded, with an emptied batch norm (scale 1, bias 0, mean 0, variance 1) left behind, which still divides by
  sqrt(1 + epsilon). The code released with the paper computes this; it exists to compare with it.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tffjax.errors import InputError
from tffjax.nn.layers import BatchNorm, Conv
from tffjax.nn.ops import Plain, Tap


def conv_bn(
    module: nn.Module, conv_name: str, bn_name: str, x: jax.Array, ops: Plain, tap: Tap, **shape: Any
) -> jax.Array:
    """Convolution, announced to `tap`, then batch norm as `module.batch_norm` says (with `module.epsilon`).

    Call it from a compact `__call__`; `shape` goes to `Conv`.

    Raises:
        InputError: as `state_of`.
    """
    state = state_of(module)
    x = Conv(**shape, use_bias=state != "statistics", name=conv_name)(x, ops, tap)
    if state == "statistics":
        return BatchNorm(module.epsilon, name=bn_name)(x, ops)
    if state == "reset":
        one, zero = jnp.ones(x.shape[-1], x.dtype), jnp.zeros(x.shape[-1], x.dtype)
        return ops.batch_norm(x, one, zero, zero, one, module.epsilon, bn_name)
    return x


def state_of(module: nn.Module) -> str:
    """The state of batch normalization of a module, its field `batch_norm`.

    Raises:
        InputError: it is none of the three, or the module lacks it or `epsilon`.
    """
    state = getattr(module, "batch_norm", None)
    if state not in ("statistics", "folded", "reset") or not hasattr(module, "epsilon"):
        raise InputError(
            f'{type(module).__name__} has batch norms, so it needs the fields epsilon and batch_norm: "statistics" as '
            f'trained, later "folded" or "reset", but not {state!r}; see docs/own-network.md'
        )
    return state
