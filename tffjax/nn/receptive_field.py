"""Receptive fields: which part of the image, and of every layer before it, a neuron sees.

Along one axis, the neuron in row i of a site sees rows [stride * i + low, stride * i + high) of a layer before it;
those outside the layer are its padding. A layer whose row i reads `extent` rows from `step * i - before` on takes what
is needed of its output to what is needed of its input by

    stride * step,    low * step - before,    (high - 1) * step - before + extent

and a layer that several others read is needed where any of them needs it. All of it follows from the geometry of the
network at one size of images: the padding of TensorFlow's "same" rule depends on that size.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tffjax.kernels.convolution import Geometry, Pair
from tffjax.nn import ops
from tffjax.nn.model import Model


class Axis(NamedTuple):
    """What the neuron in row i of a site sees of a layer along one axis: rows [stride * i + low, stride * i + high)."""

    stride: int = 1
    low: int = 0
    high: int = 1

    @property
    def length(self) -> int:
        """Number of rows."""
        return self.high - self.low


class Window(NamedTuple):
    """What a neuron sees of a layer."""

    rows: Axis = Axis()
    columns: Axis = Axis()

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.rows.length * self.columns.length


class Part(NamedTuple):
    """The part of one layer's work that a neuron depends on.

    Attributes:
        name: of the layer.
        given: what there is of each of its inputs.
        read: what it reads of them.
        output: what is needed of its output.
        padded: it pads its input, so that rows outside the input count as padding.
        input_size, output_size: height and width of the whole of it.
    """

    name: str
    given: tuple[Window, ...]
    read: Window
    output: Window
    padded: bool
    input_size: Pair
    output_size: Pair


class Cone(NamedTuple):
    """Everything that a neuron of a site depends on; squeeze-excite gates, which look at the whole image, are given.

    Attributes:
        field: its receptive field, what it sees of the image.
        parts: of the layers on the way, in the order in which they are computed.
        gates: names of the gates on the way.
        work: multiply-adds of the convolutions of all parts.
        work_in_full: the same, of the whole layers.
    """

    field: Window
    parts: tuple[Part, ...]
    gates: tuple[str, ...]
    work: int
    work_in_full: int


def cones_of(model: Model, height: int, width: int, hold_gates: bool = True) -> dict[str, Cone | None]:
    """The cone of every site for images of this size, in the order of the network. Computes nothing.

    None stands for everything: behind a global pool, a dense layer, or anything that is not one of the network's
    operations. With `hold_gates` off, that is so behind a squeeze-excite gate too. A window may stick out of its layer.
    """
    variables = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), model.variables)
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.result_type(*jax.tree.leaves(variables)))
    trace = _Trace(hold_gates=hold_gates)
    sites: dict[str, int] = {}

    def run(variables: Any, images: jax.Array) -> jax.Array:
        trace.layers.append(images)

        def tap(site: str, y: jax.Array) -> jax.Array:
            sites[site] = trace.number(y)
            return y

        return model.module.apply(variables, images, trace, tap)

    jax.eval_shape(run, variables, image)
    sizes = [layer.shape[1:3] for layer in trace.layers]
    return {site: _cone(trace.steps, sizes, number) for site, number in sites.items()}


class _Step(NamedTuple):
    """One operation: numbers of its inputs and output, what a row reads, multiply-adds for one output position."""

    name: str
    inputs: tuple[int, ...]
    output: int
    reads: tuple[tuple[int, int, int], tuple[int, int, int]]  # step, before, extent of rows and of columns
    padded: bool
    gate: bool
    work: int


_IMAGE, _UNKNOWN = 0, -1
_ITSELF = ((1, 0, 1), (1, 0, 1))


def _cone(steps: list[_Step], sizes: list[Pair], site: int) -> Cone | None:
    needed = {site: Window()}
    on_the_way = []
    for step in reversed(steps):
        if step.output not in needed:
            continue
        window = needed[step.output]
        read = Window(*(_read(axis, *reads) for axis, reads in zip(window, step.reads, strict=True)))
        on_the_way.append((step, read))
        for number in step.inputs:
            hull = _hull(needed.get(number, read), read)
            if number == _UNKNOWN or hull is None:
                return None
            needed[number] = hull
    if _IMAGE not in needed:
        return None
    on_the_way.reverse()
    parts = tuple(
        Part(
            step.name,
            tuple(needed[number] for number in step.inputs),
            read,
            needed[step.output],
            step.padded,
            sizes[step.inputs[0]],
            sizes[step.output],
        )
        for step, read in on_the_way
    )
    return Cone(
        needed[_IMAGE],
        parts,
        tuple(step.name for step, _ in on_the_way if step.gate),
        sum(step.work * needed[step.output].area for step, _ in on_the_way),
        sum(step.work * math.prod(sizes[step.output]) for step, _ in on_the_way),
    )


def _read(needed: Axis, step: int, before: int, extent: int) -> Axis:
    return Axis(needed.stride * step, needed.low * step - before, (needed.high - 1) * step - before + extent)


def _hull(a: Window, b: Window) -> Window | None:
    """The smallest window that holds both; None where they move at different strides."""
    if any(p.stride != q.stride for p, q in zip(a, b, strict=True)):
        return None
    return Window(*(Axis(p.stride, min(p.low, q.low), max(p.high, q.high)) for p, q in zip(a, b, strict=True)))


def is_held(gate: jax.Array) -> bool:
    """Whether a gate (n, h, w, c) is one number for each channel, as squeeze-excite's are, and not a map."""
    return gate.shape[1:3] == (1, 1)


@dataclasses.dataclass(frozen=True)
class _Trace(ops.Plain):
    """Operations that note what reads what; arrays are told apart by identity, the image is number 0."""

    hold_gates: bool = True
    steps: list[_Step] = dataclasses.field(default_factory=list)
    layers: list[jax.Array] = dataclasses.field(default_factory=list)

    def number(self, x: jax.Array) -> int:
        return next((i for i, layer in enumerate(self.layers) if layer is x), _UNKNOWN)

    def _note(self, name: str, y: jax.Array, *inputs: jax.Array, gate: bool = False) -> jax.Array:
        return self._add(name, y, tuple(map(self.number, inputs)), gate=gate)

    def _add(self, name: str, y: jax.Array, inputs: tuple[int, ...], reads: Any = _ITSELF, **facts: Any) -> jax.Array:
        self.steps.append(
            _Step(name, inputs, len(self.layers), reads, **({"padded": False, "gate": False, "work": 0} | facts))
        )
        self.layers.append(y)
        return y

    def _windows(
        self, name: str, y: jax.Array, x: jax.Array, window: Pair, geometry: Geometry, work: int = 0
    ) -> jax.Array:
        reads = tuple(
            (step, before, (taps - 1) * dilation + 1)
            for step, (before, _), taps, dilation in zip(
                geometry.stride, geometry.padding, window, geometry.dilation, strict=True
            )
        )
        padded = geometry.padding != ((0, 0), (0, 0))
        return self._add(name, y, (self.number(x),), reads, padded=padded, work=work)

    def conv(self, x: jax.Array, kernel: jax.Array, bias: Any, geometry: Geometry, name: str) -> jax.Array:
        y = super().conv(x, kernel, bias, geometry, name)
        return self._windows(name, y, x, kernel.shape[:2], geometry, math.prod(kernel.shape))

    def max_pool(self, x: jax.Array, window: Pair, geometry: Geometry, name: str) -> jax.Array:
        return self._windows(name, super().max_pool(x, window, geometry, name), x, window, geometry)

    def average_pool(self, x: jax.Array, window: Pair, name: str) -> jax.Array:
        return self._windows(name, super().average_pool(x, window, name), x, window, Geometry(stride=window))

    def batch_norm(self, y: jax.Array, *parameters: Any) -> jax.Array:
        return self._note(parameters[-1], super().batch_norm(y, *parameters), y)

    def relu(self, x: jax.Array, name: str) -> jax.Array:
        return self._note(name, super().relu(x, name), x)

    def silu(self, x: jax.Array, name: str) -> jax.Array:
        return self._note(name, super().silu(x, name), x)

    def sigmoid(self, x: jax.Array, name: str) -> jax.Array:
        return self._note(name, super().sigmoid(x, name), x)

    def add(self, a: jax.Array, b: jax.Array, name: str) -> jax.Array:
        return self._note(name, super().add(a, b, name), a, b)

    def gate(self, x: jax.Array, gate: jax.Array, name: str) -> jax.Array:
        y = super().gate(x, gate, name)
        if not is_held(gate):
            return self._note(name, y, x, gate)
        if not self.hold_gates:
            return self._add(name, y, (self.number(x), _UNKNOWN))
        return self._note(name, y, x, gate=True)
