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
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.prepare import prepared_for
from tffjax.lrp.rules import LinearMap
from tffjax.nn.graph import Layer
from tffjax.nn.model import Model
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
    """LRP operations on windows. What the neuron does not depend on is not computed: nobody uses the zeros there.

    Attributes:
        parts: by layer.
        positions: (k, 2), rows and columns of the neurons in the site's output.
        gates: squeeze-excite gates by name, (k, 1, 1, c).
    """

    parts: dict[str, Part] = dataclasses.field(default_factory=dict)
    positions: Any = None
    gates: dict[str, jax.Array] = dataclasses.field(default_factory=dict)

    def _compute(self, kind: str, name: str, *inputs: jax.Array, **parameters: Any) -> jax.Array:
        part, x = self.parts.get(name), inputs[0]
        if part is None:
            return x if kind == "batch_norm" else jnp.zeros((len(x), *self.layer(name).shape), x.dtype)
        windows = [_cut(x, given, part.read) for x, given in zip(inputs, part.given, strict=False)]
        if name in self.gates:
            windows.append(self.gates[name])
        if "geometry" in parameters:
            parameters["geometry"] = dataclasses.replace(parameters["geometry"], padding=((0, 0), (0, 0)))
        return super()._compute(kind, name, *windows, **parameters)

    def _linear(self, linear: LinearMap, x: jax.Array, kernel: Any, bias: Any, name: str) -> jax.Array:
        part = self.parts[name]
        inside = self._inside(part.read, part.input_size) if part.padded else None
        return super()._linear(linear, x, kernel, bias, name, inside)

    def _max_pool(self, name: str, x: jax.Array, window: Pair, geometry: Geometry) -> jax.Array:
        part = self.parts[name]
        if not part.padded:
            return super()._max_pool(name, x, window, geometry)
        x = jnp.where(self._inside(part.read, part.input_size), x, -jnp.inf)
        y = super()._max_pool(name, x, window, geometry)
        return jnp.where(self._inside(part.output, part.output_size), y, 0)  # there may be nothing but padding

    def _inside(self, window: Window, size: Pair) -> Bool[Array, "k h w 1"]:
        """Which pixels of a window are inside of the layer."""
        rows, columns = (
            (index >= 0) & (index < limit)
            for axis, position, limit in zip(window, self.positions.T, size, strict=True)
            for index in [axis.stride * position[:, None] + jnp.arange(axis.low, axis.high, dtype=position.dtype)]
        )
        return (rows[:, :, None] & columns[:, None, :])[..., None]


def _cut(x: jax.Array, given: Window, read: Window) -> jax.Array:
    """The window that is read of the one that there is."""
    rows, columns = (slice(r.low - g.low, r.high - g.low) for g, r in zip(given, read, strict=True))
    return x[:, rows, columns]
