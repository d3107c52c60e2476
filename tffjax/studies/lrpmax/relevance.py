"""LRP of single neurons, in two ways: on crops of the image, and in passes over whole images.

On crops, the operations compute of each layer the window that one neuron an image depends on (see
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
from tffjax.lrp.redistribution import LinearMap
from tffjax.nn.graph import Layer
from tffjax.nn.model import Model
from tffjax.nn.receptive_field import LayerCrop, ReceptiveField, Window
from tffjax.nn.sites import outputs_at


def crop_relevance(
    model: Model,
    crops: Float[Array, "k h w c"],
    channels: Int[Array, " k"],
    positions: Int[Array, "k 2"],
    gates: dict[str, Float[Array, "k 1 1 _"]],
    site: str,
    field: ReceptiveField,
    composite: Composite,
    layers: tuple[Layer, ...],
) -> Float[Array, "k h w"]:
    """Relevance of one neuron a crop, summed over colors; zero if its activation is <= 0.

    Args:
        model: the network, best prepared for the composite.
        crops: the receptive fields `field.window`; what sticks out of the image may hold anything and gets zero.
        channels, positions: of the neurons, positions in the site's output for the whole image.
        gates: values of the gates `field.gates`.
        site, field: of the neurons.
        composite, layers: of the network, see `LrpOps`.
    """
    model = prepared_for(model, composite, "float32", crops)
    crops_of = {crop.name: crop for crop in field.crops}
    ops = _CropOps.of(model, layers, crops=crops_of, positions=positions, gates=gates)

    def neuron(crops: jax.Array) -> jax.Array:
        (y,) = outputs_at(model, crops, (site,), ops)
        return jnp.take_along_axis(y[:, 0, 0], channels[:, None], axis=1)[:, 0]

    value, pullback = jax.vjp(neuron, crops)
    (received,) = pullback((value > 0).astype(value.dtype))
    return (received * crops if composite.times_input else received).sum(axis=3)


def full_relevance(
    model: Model,
    images: Float[Array, "n h w c"],
    numbers: Int[Array, "n lanes"],
    channels: Int[Array, "n lanes"],
    positions: Int[Array, "n lanes 2"],
    sites: tuple[str, ...],
    composite: Composite,
    layers: tuple[Layer, ...],
    one_by_one: bool,
) -> Float[Array, "n lanes h w"]:
    """Relevance of some neurons of each image; `numbers` says at which of the sites each one is, -1 at none.

    Neurons of an image share the forward pass and the denominators of the rules, which depend on activations only: most
    explanations are linear in the relevance that starts (`Composite.linear`), so linearizing the backward pass splits
    it. With `one_by_one` the lanes run one after the other and empty ones cost nothing, else all at once.
    """
    model = prepared_for(model, composite, "float32", images)
    ops = LrpOps.of(model, layers)
    outputs, backward = jax.vjp(lambda images: outputs_at(model, images, sites, ops), images)
    if composite.linear:
        _, backward = jax.linearize(backward, tuple(jnp.zeros_like(y) for y in outputs))
    image = jnp.arange(len(images), dtype=channels.dtype)

    def explain(number: jax.Array, channel: jax.Array, position: jax.Array) -> jax.Array:
        here = image, position[:, 0], position[:, 1], channel  # where this is out of range, it is another site's
        starts = [
            jnp.zeros_like(y).at[here].set(((number == index) & (y[here] > 0)).astype(y.dtype))
            for index, y in enumerate(outputs)
        ]
        (received,) = backward(tuple(starts))
        return (received * images if composite.times_input else received).sum(axis=3)

    def lane(neuron: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return jax.lax.cond((neuron[0] >= 0).any(), explain, lambda *_: jnp.zeros_like(images[..., 0]), *neuron)

    lanes = jax.tree.map(lambda a: a.swapaxes(0, 1), (numbers, channels, positions))
    return (jax.lax.map(lane, lanes) if one_by_one else jax.vmap(lane)(lanes)).swapaxes(0, 1)


@dataclasses.dataclass(frozen=True)
class _CropOps(LrpOps):
    """LRP operations on windows. What the neuron does not depend on is not computed: nobody uses the zeros there.

    Attributes:
        crops: by layer.
        positions: (k, 2), rows and columns of the neurons in the site's output.
        gates: squeeze-excite gates by name, (k, 1, 1, c).
    """

    crops: dict[str, LayerCrop] = dataclasses.field(default_factory=dict)
    positions: Any = None
    gates: dict[str, jax.Array] = dataclasses.field(default_factory=dict)

    def _compute(self, kind: str, name: str, *inputs: jax.Array, **parameters: Any) -> jax.Array:
        """The operation without padding, on what its layer reads of the inputs, and on the gate that is given."""
        crop, x = self.crops.get(name), inputs[0]
        if crop is None:
            return x if kind == "batch_norm" else jnp.zeros((len(x), *self.layer(name).shape), x.dtype)
        if "geometry" in parameters:
            parameters["geometry"] = parameters["geometry"].unpadded()
        given = [self.gates[name]] if name in self.gates else []
        windows = [_cut(x, window, crop.read) for x, window in zip(inputs, crop.given, strict=not given)]
        return super()._compute(kind, name, *windows, *given, **parameters)

    def _linear(self, linear: LinearMap, x: jax.Array, kernel: Any, bias: Any, name: str) -> jax.Array:
        crop = self.crops[name]
        inside = self._inside(crop.read, crop.input_size) if crop.padded else None
        return super()._linear(linear, x, kernel, bias, name, inside)

    def _max_pool(self, name: str, x: jax.Array, window: Pair, geometry: Geometry) -> jax.Array:
        crop = self.crops[name]
        if not crop.padded:
            return super()._max_pool(name, x, window, geometry)
        y = super()._max_pool(name, jnp.where(self._inside(crop.read, crop.input_size), x, -jnp.inf), window, geometry)
        return jnp.where(self._inside(crop.output, crop.output_size), y, 0)  # there may be nothing but padding

    def _inside(self, window: Window, size: Pair) -> Bool[Array, "k h w 1"]:
        """Which pixels of a window are inside of the layer."""
        rows, columns = (
            (index >= 0) & (index < limit)
            for axis, position, limit in zip(window, self.positions.T, size, strict=True)
            for index in [axis.stride * position[:, None] + jnp.arange(axis.low, axis.high, dtype=position.dtype)]
        )
        return (rows[:, :, None] & columns[:, None, :])[..., None]


def _cut(x: jax.Array, given: Window, read: Window) -> jax.Array:
    """What is read of a window of a layer."""
    rows, columns = (slice(b.low - a.low, b.high - a.low) for a, b in zip(given, read, strict=True))
    return x[:, rows, columns]
