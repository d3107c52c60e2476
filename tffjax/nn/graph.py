"""What layers a network has, found by running it on shapes alone.

Besides names and kinds this finds out which convolution reads the image (its rule is a special one) and which layers
read an input that cannot be negative, such as the output of a ReLU: there, half of the z+ rule is multiplied by zero.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tffjax.kernels.convolution import Geometry
from tffjax.nn import ops
from tffjax.nn.model import Model


class Layer(NamedTuple):
    """A layer that relevance passes.

    Attributes:
        name: as the network gives it.
        kind: `conv`, `dense`, `average_pool`, `max_pool`, `add`, `activation` or `gate`.
        shape: of its output, without the batch axis.
        first: it is a convolution that reads the image.
        nonnegative: its input is known to be >= 0.
        is_site: its output is announced to the tap.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    first: bool = False
    nonnegative: bool = False
    is_site: bool = False


def layers_of(model: Model, images: Any) -> tuple[Layer, ...]:
    """The layers of a network in the order in which they are computed, for images of this shape. Computes nothing."""
    variables = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), model.variables)
    leaves, structure = jax.tree.flatten(variables)
    image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    return _layers_of(model.module, tuple(leaves), structure, image)


@functools.lru_cache(maxsize=64)
def _layers_of(module: nn.Module, leaves: tuple[Any, ...], structure: Any, image: Any) -> tuple[Layer, ...]:
    found: list[Layer] = []
    sites: set[str] = set()

    def tap(site: str, y: jax.Array) -> jax.Array:
        sites.add(site)
        return y

    def run(variables: Any, images: jax.Array) -> jax.Array:
        return module.apply(variables, images, _Watch(images=images, found=found), tap)

    jax.eval_shape(run, jax.tree.unflatten(structure, leaves), image)
    names = [layer.name for layer in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two layers are named {twice!r}; give every operation its own name")
    return tuple(layer._replace(is_site=layer.name in sites) for layer in found)


@dataclasses.dataclass(frozen=True)
class _Watch(ops.Plain):
    """Operations that note what is called on what.

    Arrays are told apart by identity: what a network computes on its own, outside the operations, is a new array of
    which nothing is known.
    """

    images: Any = None
    found: list[Layer] = dataclasses.field(default_factory=list)
    nonnegative: list[Any] = dataclasses.field(default_factory=list)

    def _note(self, name: str, kind: str, y: jax.Array, *inputs: jax.Array) -> jax.Array:
        nonnegative = all(self._is_nonnegative(x) for x in inputs)
        first = kind == "conv" and inputs[0] is self.images
        self.found.append(Layer(name, kind, y.shape[1:], first, nonnegative))
        if nonnegative and kind in ("average_pool", "max_pool", "add"):
            self.nonnegative.append(y)
        return y

    def _is_nonnegative(self, x: jax.Array) -> bool:
        return any(x is known for known in self.nonnegative)

    def conv(self, x: jax.Array, kernel: jax.Array, bias: Any, geometry: Geometry, name: str) -> jax.Array:
        return self._note(name, "conv", super().conv(x, kernel, bias, geometry, name), x)

    def dense(self, x: jax.Array, kernel: jax.Array, bias: Any, name: str) -> jax.Array:
        return self._note(name, "dense", super().dense(x, kernel, bias, name), x)

    def mean_pool(self, x: jax.Array, name: str) -> jax.Array:
        return self._note(name, "average_pool", super().mean_pool(x, name), x)

    def average_pool(self, x: jax.Array, window: tuple[int, int], name: str) -> jax.Array:
        return self._note(name, "average_pool", super().average_pool(x, window, name), x)

    def max_pool(self, x: jax.Array, window: tuple[int, int], geometry: Geometry, name: str) -> jax.Array:
        return self._note(name, "max_pool", super().max_pool(x, window, geometry, name), x)

    def add(self, a: jax.Array, b: jax.Array, name: str) -> jax.Array:
        return self._note(name, "add", super().add(a, b, name), a, b)

    def relu(self, x: jax.Array, name: str) -> jax.Array:
        y = self._note(name, "activation", super().relu(x, name), x)
        self.nonnegative.append(y)
        return y

    def silu(self, x: jax.Array, name: str) -> jax.Array:
        return self._note(name, "activation", super().silu(x, name), x)

    def sigmoid(self, x: jax.Array, name: str) -> jax.Array:
        y = self._note(name, "activation", super().sigmoid(x, name), x)
        self.nonnegative.append(y)
        return y

    def gate(self, x: jax.Array, gate: jax.Array, name: str) -> jax.Array:
        return self._note(name, "gate", super().gate(x, gate, name), x)
