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

from tffjax.nn.layers import BatchNorm, Conv
from tffjax.nn.ops import Plain, Tap


def conv_bn(
    module: nn.Module, conv_name: str, bn_name: str, x: jax.Array, ops: Plain, tap: Tap, **shape: Any
) -> jax.Array:
    """Convolution, announced to `tap`, then batch norm as `module.batch_norm` says (with `module.epsilon`).

    Call it from a compact `__call__`; `shape` goes to `Conv`.
    """
    x = Conv(**shape, use_bias=module.batch_norm != "statistics", name=conv_name)(x, ops, tap)
    if module.batch_norm == "statistics":
        return BatchNorm(module.epsilon, name=bn_name)(x, ops)
    if module.batch_norm == "reset":
        one, zero = jnp.ones(x.shape[-1], x.dtype), jnp.zeros(x.shape[-1], x.dtype)
        return ops.batch_norm(x, one, zero, zero, one, module.epsilon, bn_name)
    return x
