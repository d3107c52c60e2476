"""What a network consists of, found by running it on shapes alone.

Besides names and kinds this finds out what each layer reads, which convolution reads the image (its rule is a special
one), and which layers read an input that cannot be negative, such as the output of a ReLU: there, half of the z+ rule
is multiplied by zero. Arrays are told apart by identity: what a network computes on its own, outside the operations, is
a new array of which nothing is known.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tffjax.kernels.convolution import Geometry, Pair
from tffjax.nn import ops
from tffjax.nn.model import Model

IMAGE, UNKNOWN = 0, -1
"""What a layer may read besides other layers: the network's input, and something that no operation has made."""


class Layer(NamedTuple):
    """A layer: one operation of a network.

    Attributes:
        name: as the network gives it.
        kind: `conv`, `dense`, `batch_norm`, `average_pool`, `max_pool`, `add`, `activation` or `gate`.
        shape: of its output, without the batch axis.
        first: it is a convolution that reads the image.
        nonnegative: its input is known to be >= 0.
        is_site: its output is announced to the tap.
        inputs: what it reads: the i-th layer of the trace is number i + 1; or `IMAGE`, `UNKNOWN`.
        window, geometry: of what it reads for one output, (1, 1) and the identity where that is one position.
        multiply_adds: for one image; 0 for what is not a convolution or a dense layer.
        held: it is a gate that is one number for each channel.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    first: bool = False
    nonnegative: bool = False
    is_site: bool = False
    inputs: tuple[int, ...] = ()
    window: Pair = (1, 1)
    geometry: Geometry = Geometry()
    multiply_adds: int = 0
    held: bool = False


def layers_of(model: Model, images: Any) -> tuple[Layer, ...]:
    """The layers that relevance passes (all but batch norms), in the order in which they are computed.

    Args:
        model: the network.
        images: images of the shape in question, or a `jax.ShapeDtypeStruct`. Nothing is computed.
    """
    return tuple(layer for layer in trace(model, images) if layer.kind != "batch_norm")


def trace(model: Model, images: Any) -> tuple[Layer, ...]:
    """All layers in the order in which they are computed; arguments as of `layers_of`.

    Raises:
        ValueError: two layers have one name.
    """
    variables = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), model.variables)
    leaves, structure = jax.tree.flatten(variables)
    image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    return _trace(model.module, tuple(leaves), structure, image)


@functools.lru_cache(maxsize=64)
def _trace(module: nn.Module, leaves: tuple[Any, ...], structure: Any, image: Any) -> tuple[Layer, ...]:
    found: list[Layer] = []
    sites: set[str] = set()

    def tap(site: str, y: jax.Array) -> jax.Array:
        sites.add(site)
        return y

    def run(variables: Any, images: jax.Array) -> jax.Array:
        return module.apply(variables, images, _Trace(found=found, arrays=[images]), tap)

    jax.eval_shape(run, jax.tree.unflatten(structure, leaves), image)
    names = [layer.name for layer in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two layers are named {twice!r}; give every operation its own name")
    return tuple(layer._replace(is_site=layer.name in sites) for layer in found)


def is_held(gate: jax.Array) -> bool:
    """Whether a gate (n, h, w, c) is one number for each channel, as squeeze-excite's are, and not a map."""
    return gate.shape[1:3] == (1, 1)


@dataclasses.dataclass(frozen=True)
class _Trace(ops.Plain):
    """Operations that note what is called on what."""

    found: list[Layer] = dataclasses.field(default_factory=list)
    arrays: list[Any] = dataclasses.field(default_factory=list)  # the image, then the output of each layer
    nonnegative: set[int] = dataclasses.field(default_factory=set)

    def _note(self, name: str, kind: str, y: jax.Array, *inputs: jax.Array, **facts: Any) -> jax.Array:
        numbers = tuple(next((i for i, a in enumerate(self.arrays) if a is x), UNKNOWN) for x in inputs)
        nonnegative = self.nonnegative.issuperset(numbers)
        first = kind == "conv" and numbers == (IMAGE,)
        self.found.append(Layer(name, kind, y.shape[1:], first, nonnegative, inputs=numbers, **facts))
        self.arrays.append(y)
        if nonnegative and kind in ("average_pool", "max_pool", "add"):
            self.nonnegative.add(len(self.found))
        return y

    def conv(self, x: jax.Array, kernel: jax.Array, bias: Any, geometry: Geometry, name: str) -> jax.Array:
        y = super().conv(x, kernel, bias, geometry, name)
        work = y.size * math.prod(kernel.shape[:3])
        return self._note(name, "conv", y, x, window=kernel.shape[:2], geometry=geometry, multiply_adds=work)

    def dense(self, x: jax.Array, kernel: jax.Array, bias: Any, name: str) -> jax.Array:
        return self._note(name, "dense", super().dense(x, kernel, bias, name), x, multiply_adds=kernel.size)

    def batch_norm(self, y: jax.Array, *parameters: Any) -> jax.Array:
        return self._note(parameters[-1], "batch_norm", super().batch_norm(y, *parameters), y)

    def mean_pool(self, x: jax.Array, name: str) -> jax.Array:
        return self._note(name, "average_pool", super().mean_pool(x, name), x)

    def average_pool(self, x: jax.Array, window: Pair, name: str) -> jax.Array:
        facts = {"window": window, "geometry": Geometry(stride=window)}
        return self._note(name, "average_pool", super().average_pool(x, window, name), x, **facts)

    def max_pool(self, x: jax.Array, window: Pair, geometry: Geometry, name: str) -> jax.Array:
        y = super().max_pool(x, window, geometry, name)
        return self._note(name, "max_pool", y, x, window=window, geometry=geometry)

    def add(self, a: jax.Array, b: jax.Array, name: str) -> jax.Array:
        return self._note(name, "add", super().add(a, b, name), a, b)

    def activation(self, x: jax.Array, function: ops.Activation, name: str) -> jax.Array:
        y = self._note(name, "activation", super().activation(x, function, name), x)
        if function in ops.NONNEGATIVE:
            self.nonnegative.add(len(self.found))
        return y

    def gate(self, x: jax.Array, gate: jax.Array, name: str) -> jax.Array:
        return self._note(name, "gate", super().gate(x, gate, name), x, gate, held=is_held(gate))
