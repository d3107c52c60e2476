"""How passes over batches are compiled.

Some things make a pass faster and leave the numbers as they are, but for the last bits. On a GPU, dots are cuBLAS's:
tuning Triton's takes minutes. On a CPU:

- XLA hands convolutions to one of two libraries. The one that it prefers at present takes up to twice as long as the
  other on narrow 3x3 convolutions, so that one is confined to reductions. Its usual order of operations needs
  up to half as much memory again as the thriftiest one, all of it fetched anew for every pass. A version of XLA that
  does not know these options goes without.
- A batch is taken a few images at a time. Temporary arrays are fetched from the system anew for every call, which
  costs up to a sixth of the time; those of a few images are few, used again by the next, and nearer to the caches.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tffjax.kernels.choice import on_cpu
from tffjax.nn.graph import layers_of
from tffjax.nn.model import Model

_OPTIONS: dict[str, dict[str, Any]] = {
    "cpu": {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    },
    "gpu": {"xla_gpu_enable_triton_gemm": False},
}
_OUTPUTS = 2**22


class Pass:
    """`jax.jit(function)` with `compiler_options`.

    Only a program of its own can have options: inside of a JAX transformation it goes without.
    """

    def __init__(self, function: Callable[..., Any], static_argnames: tuple[str, ...] = ()) -> None:
        self._function, self._static = function, static_argnames

    def __call__(self, *arrays: Any, **static: Any) -> Any:
        """Call the function."""
        has_options = not _is_tracing(arrays) and compiler_options(arrays)
        return (self._with_options if has_options else self._plain)(*arrays, **static)

    @functools.cached_property
    def _plain(self) -> Callable[..., Any]:
        return jax.jit(self._function, static_argnames=self._static)

    @functools.cached_property
    def _with_options(self) -> Callable[..., Any]:
        return jax.jit(self._function, static_argnames=self._static, compiler_options=_known_options())


def compiler_options(*trees: Any) -> dict[str, Any]:
    """Options for `jax.jit(..., compiler_options=...)` or `.lower(...).compile(...)` of a whole pass over these arrays.

    There are none for float64: on a CPU, the older library's convolutions take up to 80 times as long there.
    """
    in_double = any(jnp.result_type(leaf) == jnp.float64 for leaf in jax.tree.leaves(trees))
    return {} if in_double else _known_options()


@functools.cache
def _known_options() -> dict[str, Any]:
    options = _OPTIONS.get(jax.default_backend(), {})
    return {name: value for name, value in options.items() if _is_known({name: value})}


def _is_known(option: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=option)
    except (RuntimeError, ValueError):
        return False
    return True


def _is_tracing(*trees: Any) -> bool:
    """Whether this runs inside a JAX transformation, or one of the arrays belongs to one."""
    arrays = [jnp.zeros(()), *(leaf for leaf in jax.tree.leaves(trees) if isinstance(leaf, jax.Array))]
    return any(_devices(array) is None for array in arrays)


def _devices(array: jax.Array) -> set[jax.Device] | None:
    """Where an array lies; None inside of a transformation, where that cannot be known."""
    try:
        return array.devices()
    except jax.errors.ConcretizationTypeError:
        return None


def micro_batch_of(model: Model, images: Any) -> int:
    """How many of these images (n, h, w, 3) to take at once; as `micro_batch_size`, for passes over the whole network.

    On a CPU so many that the widest layer has some 4 million outputs: fewer rows make slow matrix products, more do
    not fit the caches. That is 4 for ResNet-50 at 224 and 256 pixels and 2 for EfficientNet-B0.
    """
    image = jax.ShapeDtypeStruct((1, *images.shape[-3:]), images.dtype)
    widest = max(math.prod(layer.shape) for layer in layers_of(model, image))
    return micro_batch_size(images, max(1, _OUTPUTS // widest))


def micro_batch_size(images: Any, at_most: int) -> int:
    """How many images to take at once: on a CPU `at_most`, or the largest divisor of the batch below; elsewhere all.

    A batch that is spread over several devices is taken whole: a part of it would lie on one of them. That is seen on
    arrays and `jax.ShapeDtypeStruct`s, but not inside of a transformation.
    """
    if not on_cpu() or not len(images) or _is_spread(images):
        return max(len(images), 1)
    return next(size for size in range(at_most, 0, -1) if len(images) % size == 0)


def _is_spread(images: Any) -> bool:
    if isinstance(images, jax.ShapeDtypeStruct):
        return images.sharding is not None and len(images.sharding.device_set) > 1
    return isinstance(images, jax.Array) and len(_devices(images) or ()) > 1


def in_micro_batches(function: Callable[[Any], Any], batch: Any, size: int) -> Any:
    """`function(batch)`, `size` rows at a time; the leading axis of all arrays must be a multiple of it."""
    count = len(jax.tree.leaves(batch)[0])
    if size >= count:
        return function(batch)
    split = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), batch)
    return jax.tree.map(lambda a: a.reshape(count, *a.shape[2:]), jax.lax.map(function, split))
