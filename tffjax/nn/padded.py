"""Images of different sizes in one batch: filled up to a common size, and computed as if each were alone.

An image lies at the top left. Whatever an operation computes outside of the image's own part of its output is set to 0.
A convolution then reads beyond the image what it reads there in the image alone, the zeros of its padding; so does a
max pool of what is not negative; and a global average divides by the number of the image's own positions. The values
are those of the image alone, but for the order in which XLA adds them up.

That holds where windows lie alike for all sizes: stride, padding before, and padding in all do not depend on the size.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tffjax.errors import InputError
from tffjax.kernels.convolution import Geometry, Pair
from tffjax.nn.graph import Layer, trace
from tffjax.nn.model import Model
from tffjax.nn.ops import Operation, Plain

_KINDS = ("conv", "batch_norm", "activation", "add", "gate", "max_pool", "average_pool", "dense")
_INSTEAD = "use --resize and --crop, or --max-shapes"


class Parts:
    """Which part of every array of a pass belongs to each image of a batch.

    Attributes:
        sizes: height and width of every image.
        full: those of the batch.
    """

    def __init__(self, sizes: Int[Array, "n 2"], full: Pair) -> None:
        self.sizes, self.full = jnp.maximum(sizes.astype(jnp.int32), 1), full
        self._of_shape = {full: self.sizes}

    def inside(self, shape: Pair) -> Bool[Array, "n h w 1"]:
        """The positions of an array of this height and width that are the image's own."""
        sizes = self._of_shape[shape] if shape in self._of_shape else jnp.ones_like(self.sizes)
        rows, columns = (jnp.arange(n, dtype=sizes.dtype) < sizes[:, axis, None] for axis, n in enumerate(shape))
        return (rows[:, :, None] & columns[:, None, :])[..., None]

    def cut(self, x: Float[Array, "n h w c"], fill: float = 0.0) -> Float[Array, "n h w c"]:
        """An array with `fill` outside of the images' own parts."""
        return jnp.where(self.inside(x.shape[1:3]), x, jnp.asarray(fill, x.dtype))

    def ops(self, ops: Plain) -> Plain:
        """Operations under which images that are `cut` are computed as if each were alone."""
        return dataclasses.replace(ops, behind=self._behind)

    def _behind(self, operation: Operation, y: jax.Array) -> jax.Array:
        x = operation.inputs[0]
        if operation.kind == "average_pool":
            own = jnp.prod(self._of_shape[x.shape[1:3]], axis=1)
            return y * (x.shape[1] * x.shape[2] / own.astype(y.dtype))[:, None]
        if y.ndim != 4:
            return y
        if operation.kind in ("conv", "max_pool") and x.shape[1:3] in self._of_shape:
            kernel = operation.parameters.get("kernel")
            window = operation.parameters["window"] if kernel is None else kernel.shape[:2]
            sizes = self._of_shape[x.shape[1:3]]
            self._of_shape[y.shape[1:3]] = _output_sizes(sizes, operation.parameters["geometry"], window)
        return self.cut(y)


def _output_sizes(sizes: Int[Array, "n 2"], geometry: Geometry, window: Pair) -> Int[Array, "n 2"]:
    return (sizes + np.array(_excess(geometry, window), np.int32)) // np.array(geometry.stride, np.int32) + 1


def _excess(geometry: Geometry, window: Pair) -> Pair:
    """By how much padding exceeds the reach of a window: n rows become (n + excess) // stride + 1."""
    taps = zip(geometry.padding, window, geometry.dilation, strict=True)
    return tuple(sum(padding) - (n - 1) * step - 1 for padding, n, step in taps)


def check_padding(model: Model, full: Pair) -> None:
    """Refuse networks that images filled up to the size `full` would not leave as they are.

    Padding may depend on the size of a layer's input by its rest modulo the stride. So sizes are traced that differ
    from `full` by 1, 2, 4, ...: behind strides of 2, every layer's input is one row and column less for one of them.

    Raises:
        InputError: an operation that sees positions in another way; a max pool of numbers that may be negative; strides
            other than 1 and 2; windows that lie in another way for another size.
    """
    layers = trace(model, _image(model, full))
    for layer in layers:
        if layer.kind not in _KINDS or (layer.kind == "average_pool" and layer.geometry != Geometry()):
            raise InputError(f"--pad-to: {layer.name} is a {layer.kind}, which would see the padding; {_INSTEAD}")
        if layer.kind == "max_pool" and not layer.nonnegative:
            raise InputError(f"--pad-to: {layer.name} may take the maximum of negative numbers; {_INSTEAD}")
        if not set(layer.geometry.stride) <= {1, 2}:
            raise InputError(f"--pad-to: {layer.name} has a stride other than 1 and 2; {_INSTEAD}")
    _check_shapes(full, layers)
    less = 1
    while less < min(full):
        smaller = (full[0] - less, full[1] - less)
        for here, there in zip(trace(model, _image(model, smaller)), layers, strict=True):
            if here.geometry.padding != there.geometry.padding:
                raise InputError(
                    f"--pad-to: the padding of {there.name} follows from the size of the image (padding same, or pools "
                    f"that round up), so that filling images up moves its windows; {_INSTEAD}"
                )
        less *= 2


def _check_shapes(full: Pair, layers: Sequence[Layer]) -> None:
    """`Parts` knows sizes by the shapes of arrays: what leads from one shape to another must be one kind of windows."""
    shapes, known = [full, *(layer.shape[:2] for layer in layers)], {}
    for layer in layers:
        if layer.kind in ("conv", "max_pool") and layer.inputs[0] >= 0:
            windows = layer.geometry.stride, _excess(layer.geometry, layer.window)
            if known.setdefault((shapes[layer.inputs[0]], layer.shape[:2]), windows) != windows:
                raise InputError(f"--pad-to: {layer.name} has other windows than a layer beside it; {_INSTEAD}")


def _image(model: Model, size: Pair) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *size, 3), jnp.result_type(*jax.tree.leaves(model.variables)))
