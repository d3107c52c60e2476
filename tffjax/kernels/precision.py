"""The arithmetic of products: what `--precision` and `precision=` mean.

| name | factors of a product | sum | arrays between layers |
|---|---|---|---|
| `float32` | as they are (float64 arrays stay float64) | their type | their type |
| `tensorfloat32` | float32 rounded to 10 bits of mantissa by the device | float32 | float32 |
| `bfloat16` | bfloat16 | float32 | bfloat16 |

Products are convolutions, dots and their transposes. What stands between them, sums over positions or channels among
it, is computed in float32. JAX's own names are avoided: on NVIDIA devices its "bfloat16" is TF32, and its default is
whatever the device likes best.
"""

import functools
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax

from tffjax.errors import InputError

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

_OF_LAX = {
    "float32": lax.Precision.HIGHEST,
    "tensorfloat32": lax.Precision.HIGH,
    "bfloat16": lax.Precision.DEFAULT,
}
_AMPERE = (8, 0)  # the first NVIDIA compute capability with TF32


def check_precision(precision: str) -> None:
    """Raise an InputError for a name that does not exist or an arithmetic that this machine's devices do not have."""
    if precision not in PRECISIONS:
        raise InputError(f"there is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if precision == "tensorfloat32" and not _has_tensorfloat32():
        raise InputError(
            f"tensorfloat32 needs an NVIDIA GPU of compute capability 8.0 or more, and JAX runs on "
            f"{jax.devices()[0].device_kind} here; choose float32 or bfloat16"
        )


def lax_precision(precision: str) -> lax.Precision:
    """What `jax.lax` calls it."""
    return _OF_LAX[precision]


def dense_precision(precision: str) -> lax.Precision:
    """That of dense layers, which stay float32 where convolutions are bfloat16: they cost next to nothing."""
    return lax_precision("float32" if precision == "bfloat16" else precision)


def factor(array: jax.Array, precision: str) -> jax.Array:
    """A factor of a product, in the type in which products are computed."""
    return array.astype(jnp.bfloat16) if precision == "bfloat16" else array


def widened(array: jax.Array) -> jax.Array:
    """A bfloat16 array as float32, any other as it is."""
    return array.astype(jnp.float32) if array.dtype == jnp.bfloat16 else array


@functools.cache
def _has_tensorfloat32() -> bool:
    capability: Any = getattr(jax.devices()[0], "compute_capability", None)
    if capability is None or jax.default_backend() != "gpu":
        return False
    try:
        return tuple(int(part) for part in str(capability).split(".")) >= _AMPERE
    except ValueError:  # AMD's are names, such as gfx90a
        return False
