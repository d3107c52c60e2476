"""Receptive fields: which part of the image, and of every layer before it, a neuron sees.

Along one axis, the neuron in row i of a site sees rows [stride * i + low, stride * i + high) of a layer before it;
those outside the layer are its padding. A layer whose row i reads `extent` rows from `step * i - before` on takes what
is needed of its output to what is needed of its input by

    stride * step,    low * step - before,    (high - 1) * step - before + extent

and a layer that several others read is needed where any of them needs it. All of it follows from the geometry of the
network at one size of images: the padding of TensorFlow's "same" rule depends on that size.
"""

import math
from typing import NamedTuple

from tffjax.kernels.convolution import Pair
from tffjax.nn.graph import IMAGE, UNKNOWN, Layer, image_of, trace
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


class LayerCrop(NamedTuple):
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


class ReceptiveField(NamedTuple):
    """Everything that a neuron of a site depends on; squeeze-excite gates, which look at the whole image, are given.

    Attributes:
        window: what it sees of the image.
        crops: of the layers on the way, in the order in which they are computed.
        gates: names of the gates on the way.
        work: multiply-adds of the convolutions of all crops.
        work_in_full: the same, of the whole layers.
    """

    window: Window
    crops: tuple[LayerCrop, ...]
    gates: tuple[str, ...]
    work: int
    work_in_full: int


def receptive_fields(
    model: Model, height: int, width: int, hold_gates: bool = True
) -> dict[str, ReceptiveField | None]:
    """The receptive field of every site for images of this size, in the order of the network. Computes nothing.

    None stands for everything: behind a global pool, a dense layer, a group norm, or anything that is not one of the
    network's operations; and for what does not move evenly: behind up-sampling and transposed convolutions, and behind
    average pools whose padding does not count. With `hold_gates` off, that is so behind a squeeze-excite gate too. A
    window may stick out of its layer.
    """
    image = image_of(model, (height, width))
    layers = trace(model, image)
    shapes = [image.shape[1:], *(layer.shape for layer in layers)]
    return {layer.name: _field(layers, shapes, i + 1, hold_gates) for i, layer in enumerate(layers) if layer.is_site}


def _field(
    layers: tuple[Layer, ...], shapes: list[tuple[int, ...]], site: int, hold_gates: bool
) -> ReceptiveField | None:
    needed = {site: Window()}
    on_the_way: list[tuple[int, Window, tuple[int, ...]]] = []  # number of a layer, what it reads, of which
    held = []
    for number in range(site, 0, -1):
        if number not in needed:
            continue
        layer = layers[number - 1]
        inputs = layer.inputs
        if layer.held:
            if not hold_gates:
                return None
            held.append(layer.name)
            inputs = inputs[:1]
        if UNKNOWN in inputs or layer.window is None or len(layer.shape) < 3:
            return None
        read = Window(*(_read(axis, *reads) for axis, reads in zip(needed[number], _reads(layer), strict=True)))
        on_the_way.append((number, read, inputs))
        for given in inputs:
            hull = _hull(needed.get(given, read), read)
            if hull is None:
                return None
            needed[given] = hull
    if IMAGE not in needed:
        return None
    on_the_way.reverse()
    crops = tuple(
        LayerCrop(
            layers[number - 1].name,
            tuple(needed[given] for given in inputs),
            read,
            needed[number],
            layers[number - 1].geometry.padding != ((0, 0), (0, 0)),
            shapes[inputs[0]][:2],
            shapes[number][:2],
        )
        for number, read, inputs in on_the_way
    )
    work = {number: layers[number - 1].multiply_adds for number, _, _ in on_the_way}
    return ReceptiveField(
        needed[IMAGE],
        crops,
        tuple(reversed(held)),
        sum(count // math.prod(shapes[number][:2]) * needed[number].area for number, count in work.items()),
        sum(work.values()),
    )


def _reads(layer: Layer) -> list[tuple[int, int, int]]:
    """Step, before and extent of the rows and of the columns that a layer reads."""
    geometry = layer.geometry
    return [
        (step, before, (taps - 1) * dilation + 1)
        for step, (before, _), taps, dilation in zip(
            geometry.stride, geometry.padding, layer.window, geometry.dilation, strict=True
        )
    ]


def _read(needed: Axis, step: int, before: int, extent: int) -> Axis:
    return Axis(needed.stride * step, needed.low * step - before, (needed.high - 1) * step - before + extent)


def _hull(a: Window, b: Window) -> Window | None:
    """The smallest window that holds both; None where they move at different strides."""
    if any(p.stride != q.stride for p, q in zip(a, b, strict=True)):
        return None
    return Window(*(Axis(p.stride, min(p.low, q.low), max(p.high, q.high)) for p, q in zip(a, b, strict=True)))
