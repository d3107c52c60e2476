"""LRP of single neurons on crops: every layer is computed only where the neuron sees it.

The operations here compute, of each layer, the window that one neuron an image depends on (see
`tffjax.nn.receptive_field`), without padding: a window of padded input that sticks out of the layer is zero there (or
minus infinity for a maximum pool), which is what padding is. Values that a layer has outside of itself in this way are
of no consequence, since whatever reads them takes them for padding or is outside itself. So forward values and
relevances of what the neuron depends on are those of the whole image, at its borders too, for all rules.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tffjax.kernels.convolution import Geometry, Pair
from tffjax.lrp.composites import Composite
from tffjax.lrp.linear import Conv
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.prepare import prepared_for
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
        model: the network, best prepared for the composite.
        crops: the receptive fields `cone.field`; what sticks out of the image may hold anything and gets zero.
        channels, positions: of the neurons, positions in the site's output for the whole image.
        gates: values of the gates `cone.gates`.
        site, cone: of the neurons.
        composite, layers: of the network, see `LrpOps`.
    """
    model = prepared_for(model, composite, "float32", crops)
    parts = {part.name: part for part in cone.parts}
    ops = _ConeOps.of(model, layers, parts=parts, positions=positions, gates=gates)

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

    def _conv(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any, geometry: Geometry) -> jax.Array:
        if name not in self.parts:
            return jnp.zeros((len(x), 1, 1, kernel.shape[-1]), x.dtype)
        part, geometry = self.parts[name], _unpadded(geometry)
        inside = self._inside(part.read, part.input_size) if part.padded else None
        linear = Conv(geometry, self.precision, self.kernels)
        return self._linear(linear, self._read(name, x), kernel, bias, name, inside)

    def _max_pool(self, name: str, x: jax.Array, window: Pair, geometry: Geometry) -> jax.Array:
        if name not in self.parts:
            return x
        part, x = self.parts[name], self._read(name, x)
        if not part.padded:
            return super()._max_pool(name, x, window, _unpadded(geometry))
        x = jnp.where(self._inside(part.read, part.input_size), x, -jnp.inf)
        y = super()._max_pool(name, x, window, _unpadded(geometry))
        return jnp.where(self._inside(part.output, part.output_size), y, 0)  # there may be nothing but padding

    def _average_pool(self, name: str, x: jax.Array, window: Pair | None) -> jax.Array:
        return super()._average_pool(name, self._read(name, x), window) if name in self.parts or window is None else x

    def _batch_norm(self, name: str, y: jax.Array, **parameters: Any) -> jax.Array:
        return super()._batch_norm(name, self._read(name, y), **parameters)

    def _activation(self, name: str, x: jax.Array, function: Activation) -> jax.Array:
        return super()._activation(name, self._read(name, x), function)

    def _add(self, name: str, a: jax.Array, b: jax.Array) -> jax.Array:
        return super()._add(name, self._read(name, a), self._read(name, b, 1)) if name in self.parts else a

    def _gate(self, name: str, x: jax.Array, gate: jax.Array) -> jax.Array:
        if name not in self.parts:
            return x
        gate = self.gates[name] if name in self.gates else self._read(name, gate, 1)
        return super()._gate(name, self._read(name, x), gate)

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
