"""How whole passes over a batch are compiled; `tffjax.compile.passes` does it.

Some things make a pass faster on a CPU and leave the numbers as they are, but for the last bits:

- XLA hands convolutions to one of two libraries. The one that it prefers at present takes up to twice as long as the
  other on narrow 3x3 convolutions, so that one is confined to reductions. Its usual order of operations needs
  up to half as much memory again as the thriftiest one, all of it fetched anew for every pass. A version of XLA that
  does not know these options goes without.
- What depends on weights only is computed once for a model, or at least once for a batch: `tffjax.compile.hoisting`.
- A batch is taken a few images at a time. Temporary arrays are fetched from the system anew for every call, which
  costs up to a sixth of the time; those of a few images are few, used again by the next, and nearer to the caches.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tffjax.compile.hoisting import hoist
from tffjax.kernels.convolution import chosen, on_cpu

_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
}


def compiler_options(*trees: Any) -> dict[str, Any]:
    """Options for `jax.jit(..., compiler_options=...)` or `.lower(...).compile(...)` of a whole pass over these arrays.

    There are none for float64: the older library's convolutions take up to 80 times as long there.
    """
    in_double = any(jnp.result_type(leaf) == jnp.float64 for leaf in jax.tree.leaves(trees))
    return _known_options() if chosen("compiler_options") and not in_double else {}


@functools.cache
def _known_options() -> dict[str, Any]:
    return {name: value for name, value in _OPTIONS.items() if on_cpu() and _is_known({name: value})}


def _is_known(option: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=option)
    except (RuntimeError, ValueError):
        return False
    return True


def is_tracing(*trees: Any) -> bool:
    """Whether this runs inside a JAX transformation, or one of the arrays belongs to one."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in (jnp.zeros(()), *jax.tree.leaves(trees)))


def micro_batch_size(images: Any, at_most: int) -> int:
    """How many images to take at once: on a CPU `at_most`, or the largest divisor of the batch below; elsewhere all.

    A batch that is spread over several devices is taken whole: a part of it would lie on one of them. That is seen on
    arrays and `jax.ShapeDtypeStruct`s, but not inside of a transformation.
    """
    sharding = None if isinstance(images, jax.core.Tracer) else getattr(images, "sharding", None)
    spread = sharding is not None and len(sharding.device_set) > 1
    if not chosen("micro_batches") or spread or not len(images):
        return max(len(images), 1)
    return next(size for size in range(at_most, 0, -1) if len(images) % size == 0)


def in_micro_batches(function: Callable[[Any], Any], batch: Any, size: int) -> Any:
    """`function(batch)`, `size` rows at a time; the leading axis of all arrays must be a multiple of it."""
    count = len(jax.tree.leaves(batch)[0])
    if size >= count:
        return function(batch)
    split = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), batch)
    turn = hoist(function, jax.tree.map(lambda a: a[0], split))
    return jax.tree.map(lambda a: a.reshape(count, *a.shape[2:]), jax.lax.map(turn, split))
