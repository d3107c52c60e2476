"""LRP of single neurons on crops: every layer is computed only where the neuron sees it.

The operations here compute, of each layer, the window that one neuron an image depends on (see
`tffjax.nn.receptive_field`), without padding: a window of padded input that sticks out of the layer is zero there (or
minus infinity for a maximum pool), which is what padding is. Values that a layer has outside of itself in this way are
of no consequence, since whatever reads them takes them for padding or is outside itself. So forward values and
relevances of what the neuron depends on are those of the whole image, at its borders too, for all rules.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tffjax.kernels.convolution import Geometry, Pair
from tffjax.lrp.composites import Composite, Rule
from tffjax.lrp.linear import Conv
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.rules import Linear
from tffjax.nn.graph import Layer
from tffjax.nn.model import Model
from tffjax.nn.ops import Activation
from tffjax.nn.receptive_field import Cone, Part, Window
from tffjax.nn.sites import outputs_at


def crop_relevance(
    model: Model,
    crops: Float[Array, "k h w 3"],
    channels: Int[Array, " k"],
    positions: Int[Array, "k 2"],
    gates: dict[str, Float[Array, "k 1 1 _"]],
    site: str,
    cone: Cone,
    composite: Composite,
    layers: tuple[Layer, ...],
) -> Float[Array, "k h w"]:
    """Relevance of one neuron a crop, summed over colors; zero if its activation is <= 0.

    Args:
        model: canonized network.
        crops: the receptive fields `cone.field`; what sticks out of the image may hold anything and gets zero.
        channels, positions: of the neurons, positions in the site's output for the whole image.
        gates: values of the gates `cone.gates`.
        site, cone: of the neurons.
        composite, layers: of the network, see `LrpOps`.
    """
    parts = {part.name: part for part in cone.parts}
    ops = _ConeOps(composite=composite, layers=layers, parts=parts, positions=positions, gates=gates)

    def neuron(crops: jax.Array) -> jax.Array:
        (y,) = outputs_at(model, crops, (site,), ops)
        return jnp.take_along_axis(y[:, 0, 0], channels[:, None], axis=1)[:, 0]

    value, pullback = jax.vjp(neuron, crops)
    (received,) = pullback((value > 0).astype(value.dtype))
    return (received * crops if composite.times_input else received).sum(axis=3)


@dataclasses.dataclass(frozen=True)
class _ConeOps(LrpOps):
    """LRP operations on windows. What the neuron does not depend on is not computed: nobody uses what is returned.

    Attributes:
        parts: by layer.
        positions: (k, 2), rows and columns of the neurons in the site's output.
        gates: squeeze-excite gates by name, (k, 1, 1, c).
    """

    parts: dict[str, Part] = dataclasses.field(default_factory=dict)
    positions: Any = None
    gates: dict[str, jax.Array] = dataclasses.field(default_factory=dict)

    def conv(self, x: jax.Array, kernel: jax.Array, bias: jax.Array | None, geometry: Geometry, name: str) -> jax.Array:
        if name not in self.parts:
            return jnp.zeros((len(x), 1, 1, kernel.shape[-1]), x.dtype)
        part, geometry = self.parts[name], _unpadded(geometry)
        x, rule = self._read(name, x), self.composite.rule_of(self.layer(name))
        if not part.padded:
            return super().conv(x, kernel, bias, geometry, name)
        inside = self._inside(part.read, part.input_size)
        if rule is None:
            return super().conv(jnp.where(inside, x, 0), kernel, bias, geometry, name)
        nonnegative = self.layer(name).nonnegative
        return _explained(Conv(geometry, self.precision), rule, nonnegative, x, inside, kernel, bias)

    def max_pool(self, x: jax.Array, window: Pair, geometry: Geometry, name: str) -> jax.Array:
        if name not in self.parts:
            return x
        part, x = self.parts[name], self._read(name, x)
        if not part.padded:
            return super().max_pool(x, window, _unpadded(geometry), name)
        x = jnp.where(self._inside(part.read, part.input_size), x, -jnp.inf)
        y = super().max_pool(x, window, _unpadded(geometry), name)
        return jnp.where(self._inside(part.output, part.output_size), y, 0)  # there may be nothing but padding

    def average_pool(self, x: jax.Array, window: Pair, name: str) -> jax.Array:
        return super().average_pool(self._read(name, x), window, name) if name in self.parts else x

    def batch_norm(self, y: jax.Array, *parameters: Any) -> jax.Array:
        return super().batch_norm(self._read(parameters[-1], y), *parameters)

    def activation(self, x: jax.Array, function: Activation, name: str) -> jax.Array:
        return super().activation(self._read(name, x), function, name)

    def add(self, a: jax.Array, b: jax.Array, name: str) -> jax.Array:
        return super().add(self._read(name, a), self._read(name, b, 1), name) if name in self.parts else a

    def gate(self, x: jax.Array, gate: jax.Array, name: str) -> jax.Array:
        if name not in self.parts:
            return x
        gate = self.gates[name] if name in self.gates else self._read(name, gate, 1)
        return super().gate(self._read(name, x), gate, name)

    def _read(self, name: str, x: jax.Array, number: int = 0) -> jax.Array:
        """What a layer reads of its input."""
        if name not in self.parts:
            return x
        part = self.parts[name]
        rows, columns = (
            slice(read.low - given.low, read.high - given.low)
            for given, read in zip(part.given[number], part.read, strict=True)
        )
        return x[:, rows, columns]

    def _inside(self, window: Window, size: Pair) -> Bool[Array, "k h w 1"]:
        """Which pixels of a window are inside of the layer."""
        rows, columns = (
            (index >= 0) & (index < limit)
            for axis, position, limit in zip(window, self.positions.T, size, strict=True)
            for index in [axis.stride * position[:, None] + jnp.arange(axis.low, axis.high, dtype=position.dtype)]
        )
        return (rows[:, :, None] & columns[:, None, :])[..., None]


def _unpadded(geometry: Geometry) -> Geometry:
    return dataclasses.replace(geometry, padding=((0, 0), (0, 0)))


class _Inside:
    """A linear map of images that end where `inside` says (also those that a rule makes up, such as zB's box)."""

    def __init__(self, linear: Conv, inside: jax.Array) -> None:
        self.linear, self.inside = linear, inside

    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return self.linear(jnp.where(self.inside, x, 0), kernel)

    def transposes(self, s: jax.Array, kernels: list[jax.Array], like: jax.Array) -> list[jax.Array]:
        return [jnp.where(self.inside, x, 0) for x in self.linear.transposes(s, kernels, like)]

    def positive(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return self.linear.positive(jnp.where(self.inside, x, 0), kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _explained(linear: Conv, rule: Rule, nonnegative: bool, x: Any, inside: Any, kernel: Any, bias: Any) -> jax.Array:
    y = _Inside(linear, inside)(x, kernel)
    return y if bias is None else y + bias


def _forward(
    linear: Conv, rule: Rule, nonnegative: bool, x: Any, inside: Any, kernel: Any, bias: Any
) -> tuple[Any, Any]:
    y = _explained(linear, rule, nonnegative, x, inside, kernel, bias)
    return y, (x, inside, kernel, bias, y)


def _backward(linear: Conv, rule: Rule, nonnegative: bool, residuals: Any, relevance: jax.Array) -> tuple[Any, ...]:
    x, inside, kernel, bias, y = residuals
    received, _ = rule(Linear(_Inside(linear, inside), x, kernel, bias, y, nonnegative), relevance)
    return received, None, None, None


_explained.defvjp(_forward, _backward)
