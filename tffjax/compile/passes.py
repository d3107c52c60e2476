"""Passes of a model over batches: compiled once for each shape, what depends on the weights only done once a model."""

import functools
import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from tffjax.compile.compilation import compiler_options, is_tracing, micro_batch_size
from tffjax.compile.hoisting import split
from tffjax.nn.graph import layers_of
from tffjax.nn.model import Model

_OUTPUTS = 2**22


class Pass:
    """`function(model, *arrays, **static)`, a `Program` for each shape.

    Inside of a JAX transformation, where a program cannot be run, this is `jax.jit(function)`.
    """

    def __init__(self, function: Callable[..., Any], static_argnames: tuple[str, ...] = ()) -> None:
        self._function = function
        self._inner = jax.jit(function, static_argnames=static_argnames)
        self._programs: dict[Any, Program] = {}

    def __call__(self, model: Any, *arrays: Any, **static: Any) -> Any:
        """Call the function."""
        if is_tracing(model, arrays):
            return self._inner(model, *arrays, **static)
        leaves, structure = jax.tree.flatten((model, arrays))
        key = structure, tuple(jax.typeof(leaf) for leaf in leaves), tuple(sorted(static.items()))
        if key not in self._programs:
            self._programs[key] = Program(functools.partial(self._function, **static), model, *arrays)
        return self._programs[key](model, *arrays)


class Program:
    """`function(model, *arrays)` for models and arrays of some shapes, compiled with `compiler_options`.

    What depends on the weights only, such as transformed kernels, is computed at the first call with a model and kept
    as long as the model; programs share it.
    """

    def __init__(self, function: Callable[..., Any], model: Any, *arrays: Any) -> None:
        """Traces the function. Arguments are arrays or `jax.ShapeDtypeStruct`s."""
        parts = split(function, model, *arrays)
        self._prepare, self._keys = jax.jit(parts.prepare), parts.keys
        self._rest = jax.jit(parts.rest, compiler_options=compiler_options(model, arrays))

    def compiled(self, model: Any, *arrays: Any) -> "Program":
        """The program, compiled now for this model and these arrays instead of when it is called."""
        self._rest = self._rest.lower(self._prepared(model), model, *arrays).compile()
        return self

    def text(self) -> str:
        """The optimized program, once it is `compiled`."""
        return self._rest.as_text()

    def __call__(self, model: Any, *arrays: Any) -> Any:
        """Call the function."""
        return self._rest(self._prepared(model), model, *arrays)

    def _prepared(self, model: Any) -> list[jax.Array]:
        weights = jax.tree.leaves(model)
        if not all(isinstance(leaf, jax.Array) for leaf in weights):  # others may change and still be the same object
            return self._prepare(model)
        derived = _derived_from(weights)
        if not derived.keys() >= set(self._keys):
            derived |= {k: v for k, v in zip(self._keys, self._prepare(model), strict=True) if k not in derived}
        return [derived[key] for key in self._keys]


def micro_batch_of(model: Model, images: Any) -> int:
    """How many of these images (n, h, w, 3) to take at once; as `micro_batch_size`, for passes over the whole network.

    On a CPU so many that the widest layer has some 4 million outputs: fewer rows make slow matrix products, more do
    not fit the caches. That is 4 for ResNet-50 at 224 and 256 pixels and 2 for EfficientNet-B0.
    """
    image = jax.ShapeDtypeStruct((1, *images.shape[-3:]), images.dtype)
    widest = max(math.prod(layer.shape) for layer in layers_of(model, image))
    return micro_batch_size(images, max(1, _OUTPUTS // widest))


class _Kept(NamedTuple):
    weights: list[weakref.ref]
    derived: dict[int, jax.Array]


_kept: dict[tuple[int, ...], _Kept] = {}


def _derived_from(weights: list[jax.Array]) -> dict[int, jax.Array]:
    """What is kept for these arrays, by the keys of `tffjax.compile.hoisting.Split`; gone when one of them is."""
    key = tuple(id(leaf) for leaf in weights)
    if key not in _kept:
        _kept[key] = _Kept([weakref.ref(leaf, lambda _: _kept.pop(key, None)) for leaf in weights], {})
    return _kept[key].derived
