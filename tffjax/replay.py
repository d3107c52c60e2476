"""LRP of single neurons on windows of a pass over the whole image, which all neurons of the image share.

The forward pass and the denominators of the rules depend on activations only: `record` computes them once an image.
What is a neuron's own is the rest of the backward pass, and of every layer it touches only the window that the neuron
depends on (`tffjax.receptive_field`): `replay` reads that window of what was recorded, wherever the neuron is. Where
the windows cover a layer, they are the layer.

What a rule gives its map's transpose, S, is a multiple of the relevance that it got, element by element. So what is
recorded is S at relevance 1: the denominators with all that belongs to them, divided already.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from tffjax import pooling
from tffjax.composites import Composite, LrpOps, Rule
from tffjax.convolution import Geometry, Pair
from tffjax.linear import AveragePool, Conv
from tffjax.models.model import Model
from tffjax.receptive_field import Cone, Part, Window
from tffjax.sites import outputs_at
from tffjax.tracing import Layer


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["images", "outputs", "arrays"], meta_fields=["places"]
)
@dataclasses.dataclass
class Recorded:
    """What backward passes need of a forward pass; all arrays are (n, h, w, c).

    Attributes:
        images: what was passed.
        outputs: of the sites.
        arrays: inputs of layers, what their rules make of relevance 1, winners of maximum pools.
        places: layer -> which of the arrays are its own.
    """

    images: Any
    outputs: dict[str, Any]
    arrays: list[Any]
    places: tuple[tuple[str, tuple[int, ...]], ...]

    def of(self, name: str) -> list[jax.Array]:
        """The arrays of a layer."""
        return [self.arrays[i] for i in dict(self.places)[name]]


def record(
    model: Model,
    images: Float[Array, "n h w 3"],
    sites: tuple[str, ...],
    composite: Composite,
    layers: tuple[Layer, ...],
) -> Recorded:
    """Forward pass up to the last of some sites, with the denominators."""
    ops = _RecordingOps(composite=composite, layers=layers)
    outputs = dict(zip(sites, outputs_at(model, images, sites, ops), strict=True))
    return Recorded(images, outputs, ops.arrays, tuple(ops.places.items()))


def replay(
    model: Model,
    recorded: Recorded,
    channels: Int[Array, "n k"],
    positions: Int[Array, "n k 2"],
    site: str,
    cone: Cone,
    composite: Composite,
    layers: tuple[Layer, ...],
) -> Float[Array, "n k h w"]:
    """Relevance of some neurons of each image, summed over colors; zero if a neuron's activation is <= 0.

    Args:
        model: canonized network.
        recorded: of the images.
        channels, positions: of the neurons, -1 for none.
        site, cone: of the neurons; the cone is a clipped one.
        composite, layers: of the network, see `LrpOps`.

    Returns:
        Relevance in the window `cone.field` of each neuron; what sticks out of the image is zero.
    """
    parts = {part.name: part for part in cone.parts}

    def explain(recorded: Recorded, channels: jax.Array, positions: jax.Array) -> jax.Array:
        ops = _ReplayingOps(composite=composite, layers=layers, parts=parts, positions=positions, recorded=recorded)
        values, image = recorded.outputs[site], recorded.images
        active = (channels >= 0) & (values[positions[:, 0], positions[:, 1], channels] > 0)
        lengths = [axis.length for axis in cone.field]
        nothing = jnp.zeros((len(channels), *lengths, image.shape[-1]), image.dtype)
        y, pullback = jax.vjp(lambda x: outputs_at(model, x, (site,), ops)[0], nothing)
        start = (jnp.arange(y.shape[-1], dtype=channels.dtype) == channels[:, None]) & active[:, None]
        (received,) = pullback(start[:, None, None].astype(y.dtype))
        if composite.times_input:
            received = received * _window(image, cone.field, positions)
        return received.sum(axis=3)

    return jax.vmap(explain)(recorded, channels, positions)


@dataclasses.dataclass(frozen=True)
class _RecordingOps(LrpOps):
    """Plain operations that keep what the backward pass of the composite needs."""

    arrays: list[jax.Array] = dataclasses.field(default_factory=list)
    places: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def keep(self, name: str, *arrays: jax.Array) -> None:
        """Keep arrays; the same one is kept once."""
        numbers = []
        for array in arrays:
            number = next((i for i, kept in enumerate(self.arrays) if kept is array), len(self.arrays))
            if number == len(self.arrays):
                self.arrays.append(array)
            numbers.append(number)
        self.places[name] = tuple(numbers)

    def max_pool(self, x: jax.Array, window: Pair, geometry: Geometry, name: str) -> jax.Array:
        y = super().max_pool(x, window, geometry, name)
        self.keep(name, x if _is_dilated(geometry) else pooling.winners(x, window, geometry, y.shape[1:3]))
        return y

    def add(self, a: jax.Array, b: jax.Array, name: str) -> jax.Array:
        rule, one = self._rule(name), jnp.ones_like(a)
        self.keep(name, *(rule(a, b, one)[:2] if rule else ()))
        return a + b

    def relu(self, x: jax.Array, name: str) -> jax.Array:
        self.keep(name, *([] if self.composite.activation == "identity" else [x]))
        return super().relu(x, name)

    def silu(self, x: jax.Array, name: str) -> jax.Array:
        self.keep(name, *([] if self.composite.activation == "identity" else [x]))
        return super().silu(x, name)

    def sigmoid(self, x: jax.Array, name: str) -> jax.Array:
        self.keep(name, *([] if self.composite.activation == "identity" else [x]))
        return super().sigmoid(x, name)

    def gate(self, x: jax.Array, gate: jax.Array, name: str) -> jax.Array:
        self.keep(name, *([] if self.composite.gate == "identity" else [x, gate]))
        return super().gate(x, gate, name)

    def _linear(self, linear: Any, x: jax.Array, kernel: Any, bias: jax.Array | None, name: str) -> jax.Array:
        y = linear.values(x, kernel)
        y = y if bias is None else y + bias
        found = self._rule(name)
        if found is None:
            self.keep(name)
            return y
        recorder = _Recorder(linear)
        found(recorder, x, kernel, bias, y, jnp.ones_like(y))
        self.keep(name, x, *recorder.shares)
        return y


class _Recorder:
    """A linear map that keeps what it is to transpose."""

    def __init__(self, linear: Any) -> None:
        self.linear = linear
        self.shares: list[jax.Array] = []

    def __call__(self, x: jax.Array, kernel: Any) -> jax.Array:
        return self.linear(x, kernel)

    def positive(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return self.linear.positive(x, kernel)

    def transposes(self, s: jax.Array, kernels: list[Any], like: jax.Array) -> list[jax.Array]:
        self.shares.append(s)
        return [jnp.zeros_like(like)] * len(kernels)


@dataclasses.dataclass(frozen=True)
class _ReplayingOps(LrpOps):
    """Operations of one image whose forward values mean nothing, and whose backward pass is the composite's.

    Attributes:
        parts: by layer.
        positions: (k, 2), rows and columns of the neurons in the site's output.
        recorded: (h, w, c) each.
    """

    parts: dict[str, Part] = dataclasses.field(default_factory=dict)
    positions: Any = None
    recorded: Any = None

    def conv(self, x: jax.Array, kernel: jax.Array, bias: jax.Array | None, geometry: Geometry, name: str) -> jax.Array:
        if name not in self.parts:
            return jnp.zeros((len(x), 1, 1, kernel.shape[-1]), x.dtype)
        return self._replayed(Conv(self._geometry(name, geometry), self.precision), x, kernel, bias, name)

    def average_pool(self, x: jax.Array, window: Pair, name: str) -> jax.Array:
        return self._replayed(AveragePool(window), x, None, None, name) if name in self.parts else x

    def mean_pool(self, x: jax.Array, name: str) -> jax.Array:
        return jnp.zeros((len(x), x.shape[-1]), x.dtype)  # on the way to a gate, which is given

    def max_pool(self, x: jax.Array, window: Pair, geometry: Geometry, name: str) -> jax.Array:
        if name not in self.parts:
            return x
        part, (kept,) = self.parts[name], self.recorded.of(name)
        x, inside, geometry = self._read(name, x), self._inside(part), self._geometry(name, geometry)
        if _is_dilated(geometry):
            x = _recall(x, _window(kept, part.read, self.positions))
            return super().max_pool(x if inside is None else jnp.where(inside, x, -jnp.inf), window, geometry, name)
        return _pooled((window, geometry), x, _window(kept, part.output, self.positions), inside)

    def batch_norm(self, y: jax.Array, *parameters: Any) -> jax.Array:
        return super().batch_norm(self._read(parameters[-1], y), *parameters)

    def add(self, a: jax.Array, b: jax.Array, name: str) -> jax.Array:
        if name not in self.parts:
            return a
        return _summed(self._read(name, a), self._read(name, b, 1), *self._windows(name))

    def relu(self, x: jax.Array, name: str) -> jax.Array:
        return super().relu(self._recalled(name, x), name)

    def silu(self, x: jax.Array, name: str) -> jax.Array:
        return super().silu(self._recalled(name, x), name)

    def sigmoid(self, x: jax.Array, name: str) -> jax.Array:
        return super().sigmoid(self._recalled(name, x), name)

    def gate(self, x: jax.Array, gate: jax.Array, name: str) -> jax.Array:
        if name not in self.parts:
            return x
        if self.composite.gate == "identity":
            return self._read(name, x)
        parts = zip((x, gate), self._windows(name), strict=True)
        x, gate = (_recall(self._read(name, part, number), value) for number, (part, value) in enumerate(parts))
        return super().gate(x, gate, name)

    def _replayed(self, linear: Any, x: jax.Array, kernel: Any, bias: jax.Array | None, name: str) -> jax.Array:
        x, part, rule = self._read(name, x), self.parts[name], self._rule(name)
        inside = self._inside(part)
        if rule is None:
            return linear.values(x if inside is None else jnp.where(inside, x, 0), kernel)
        recorded, *shares = self.recorded.of(name)
        recorded = _window(recorded, part.read, self.positions)
        shares = tuple(_window(share, part.output, self.positions) for share in shares)
        return _replayed(linear, rule, x, recorded, shares, inside, kernel, bias)

    def _windows(self, name: str) -> list[jax.Array]:
        return [_window(array, self.parts[name].read, self.positions) for array in self.recorded.of(name)]

    def _recalled(self, name: str, x: jax.Array) -> jax.Array:
        """What an elementwise layer reads of its input, with the recorded values where they matter."""
        x = self._read(name, x)
        if name not in self.parts or not self.recorded.of(name):
            return x
        (value,) = self._windows(name)
        return _recall(x, value)

    def _geometry(self, name: str, geometry: Geometry) -> Geometry:
        """Windows have their padding with them; whole layers are padded."""
        padding = (
            own if axis.stride == 0 else (0, 0)
            for own, axis in zip(geometry.padding, self.parts[name].read, strict=True)
        )
        return dataclasses.replace(geometry, padding=tuple(padding))

    def _inside(self, part: Part) -> Bool[Array, "k h w 1"] | None:
        """Which pixels of what a padded layer reads are inside of it; None if all are."""
        if not part.padded or not any(axis.stride for axis in part.read):
            return None
        rows, columns = (
            (index >= 0) & (index < limit)
            for index, limit in zip(_indices(part.read, self.positions), part.input_size, strict=True)
        )
        return (rows[:, :, None] & columns[:, None, :])[..., None]

    def _read(self, name: str, x: jax.Array, number: int = 0) -> jax.Array:
        """What a layer reads of its input."""
        if name not in self.parts:
            return x
        part = self.parts[name]
        return _taken(part.given[number], part.read, x, self.positions)


def _is_dilated(geometry: Geometry) -> bool:
    return geometry.dilation != (1, 1)


def _indices(window: Window, positions: Int[Array, "k 2"]) -> Iterator[Int[Array, "k length"]]:
    """Rows and columns of a layer that the window of each neuron holds; some may be outside of it."""
    for axis, position in zip(window, positions.T, strict=True):
        yield axis.stride * position[:, None] + jnp.arange(axis.low, axis.high, dtype=position.dtype)


def _window(layer: Num[Array, "h w c"], window: Window, positions: Int[Array, "k 2"]) -> Num[Array, "_ rows columns c"]:
    """The window of each neuron; outside of the layer it holds anything. Once for all neurons if it is the layer."""
    if not any(axis.stride for axis in window):
        return layer[None]
    rows, columns = (
        jnp.clip(index, 0, limit - 1) for index, limit in zip(_indices(window, positions), layer.shape[:2], strict=True)
    )
    return layer[rows[:, :, None], columns[:, None, :]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _taken(given: Window, read: Window, x: jax.Array, positions: jax.Array) -> jax.Array:
    """The shape of the window `read` of a window `given`."""
    return jnp.zeros((len(x), *(axis.length for axis in read), x.shape[-1]), x.dtype)


def _taken_forward(given: Window, read: Window, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _taken(given, read, x, positions), positions


def _taken_backward(given: Window, read: Window, positions: jax.Array, relevance: jax.Array) -> tuple[jax.Array, None]:
    for number, (outer, inner) in enumerate(zip(given, read, strict=True)):
        padding = [(0, 0)] * 4
        if outer.stride == inner.stride:
            padding[number + 1] = inner.low - outer.low, outer.high - inner.high
            relevance = jnp.pad(relevance, padding)
        else:  # a window of the whole axis, from which it may stick out
            padding[number + 1] = outer.length, outer.length
            starts = outer.length - (inner.stride * positions[:, number] + inner.low)
            relevance = jax.vmap(functools.partial(jax.lax.dynamic_slice_in_dim, slice_size=outer.length, axis=number))(
                jnp.pad(relevance, padding), starts
            )
    return relevance, None


_taken.defvjp(_taken_forward, _taken_backward)


class _Replayed:
    """A linear map of images that end where `inside` says, which knows how relevance is to be shared out."""

    def __init__(self, linear: Any, shares: tuple[jax.Array, ...], inside: jax.Array | None, relevance: jax.Array):
        self.linear, self.inside, self.relevance = linear, inside, relevance
        self.shares = iter(shares)

    def __call__(self, x: jax.Array, kernel: Any) -> jax.Array:
        return self.linear(self._ended(x), kernel)  # a denominator, which XLA drops

    def positive(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return self.linear.positive(self._ended(x), kernel)

    def transposes(self, s: jax.Array, kernels: list[Any], like: jax.Array) -> list[jax.Array]:
        found = self.linear.transposes(self.relevance * next(self.shares), kernels, like)
        return [self._ended(x) for x in found]

    def _ended(self, x: jax.Array) -> jax.Array:
        return x if self.inside is None else jnp.where(self.inside, x, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _replayed(
    linear: Any, rule: Rule, x: Any, recorded: Any, shares: Any, inside: Any, kernel: Any, bias: Any
) -> jax.Array:
    return jnp.zeros(jax.eval_shape(linear, x, kernel).shape, x.dtype)


def _forward(linear: Any, rule: Rule, x: Any, *rest: Any) -> tuple[Any, Any]:
    return _replayed(linear, rule, x, *rest), rest


def _backward(linear: Any, rule: Rule, residuals: Any, relevance: jax.Array) -> tuple[Any, ...]:
    recorded, shares, inside, kernel, bias = residuals
    # What a rule computes from the output is in the shares.
    replayed = _Replayed(linear, shares, inside, relevance)
    received, _ = rule(replayed, recorded, kernel, bias, jnp.zeros_like(relevance), relevance)
    return received, None, None, None, None, None


_replayed.defvjp(_forward, _backward)


@jax.custom_vjp
def _summed(a: jax.Array, b: jax.Array, *shares: jax.Array) -> jax.Array:
    """A residual sum with the share of relevance 1 that goes to each part; none is the gradient."""
    return a + b


def _summed_forward(a: jax.Array, b: jax.Array, *shares: jax.Array) -> tuple[jax.Array, Any]:
    return a + b, shares


def _summed_backward(shares: Any, relevance: jax.Array) -> tuple[Any, ...]:
    return *(relevance * share for share in shares or (1, 1)), *(None for _ in shares)


_summed.defvjp(_summed_forward, _summed_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pooled(pool: tuple[Pair, Geometry], x: jax.Array, winner: jax.Array, inside: jax.Array | None) -> jax.Array:
    window, geometry = pool
    return jnp.zeros((len(x), *geometry.output_size(x.shape[1:3], window), x.shape[-1]), x.dtype)


def _pooled_forward(pool: Any, x: jax.Array, winner: jax.Array, inside: Any) -> tuple[jax.Array, Any]:
    return _pooled(pool, x, winner, inside), (winner, inside, x)


def _pooled_backward(pool: tuple[Pair, Geometry], residuals: Any, relevance: jax.Array) -> tuple[Any, ...]:
    winner, inside, x = residuals
    received = pooling.to_winners(relevance, winner, *pool, x.shape[1:3])
    return received if inside is None else jnp.where(inside, received, 0), None, None


_pooled.defvjp(_pooled_forward, _pooled_backward)


@jax.custom_vjp
def _recall(x: jax.Array, value: jax.Array) -> jax.Array:
    """The value, with the cotangent handed to x."""
    return jnp.broadcast_to(value, x.shape)


_recall.defvjp(lambda x, value: (_recall(x, value), None), lambda _, relevance: (relevance, None))
