"""What a network consists of, found by running it on shapes alone.

Besides names and kinds this finds out what each layer reads, which convolution reads the image (its rule is a special
one), and which layers read an input that cannot be negative, such as the output of a ReLU: there, half of the z+ rule
is multiplied by zero. Arrays are told apart by identity: what a network computes on its own, outside the operations, is
a new array of which nothing is known.
"""

import functools
from typing import Any, NamedTuple

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from tffjax.errors import InputError
from tffjax.kernels.convolution import Geometry, Pair
from tffjax.nn import functions, ops
from tffjax.nn.layers import Conv, ConvTranspose
from tffjax.nn.model import Model, record_of, run

IMAGE, UNKNOWN = 0, -1
"""What a layer may read besides other layers: the network's input, and something that no operation has made."""

_UP_SAMPLING = ("upsample_nearest", "upsample_bilinear")
_KEEPS_SIGN = ("average_pool", "max_pool", "add", "pixel_norm", "flatten", "concatenate", *_UP_SAMPLING)
_NO_WINDOW = ("dense", "group_norm", "flatten", "conv_transpose", *_UP_SAMPLING)


class Layer(NamedTuple):
    """A layer: one operation of a network.

    Attributes:
        name: as the network gives it; that of a second use of one layer is `name@2` (`tffjax.nn.names`).
        kind: the operation, see `tffjax.nn.ops.Operation`.
        shape: of its output, without the batch axis.
        first: it is a convolution, or a transposed one, that reads the image, or what the network made of it before any
            operation.
        nonnegative: its input is known to be >= 0.
        is_site: its output is announced to the tap.
        inputs: what it reads: the i-th layer of the trace is number i + 1; or `IMAGE`, `UNKNOWN`.
        window: of what it reads for one output, (1, 1) where that is one position; None where it is everything, or
            does not move evenly with the output, as up-sampling's.
        geometry: of the windows, the identity where there are none.
        multiply_adds: for one image; 0 for what has no kernel.
        held: it is a gate that is one number for each channel.
        number: its place among the layers with weights, counted from 1; 0 if it has none.
        last: it is the last of them.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    first: bool = False
    nonnegative: bool = False
    is_site: bool = False
    inputs: tuple[int, ...] = ()
    window: Pair | None = (1, 1)
    geometry: Geometry = Geometry()
    multiply_adds: int = 0
    held: bool = False
    number: int = 0
    last: bool = False


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
        InputError: the network does not take such images.
        ValueError: two layers have one name: the network itself calls one `name@2`.
    """
    return _traced(model, images).layers


def outputs_of(model: Model, images: Any) -> tuple[int, ...]:
    """The shape of what the network returns for one image; arguments as of `layers_of`.

    Raises:
        InputError: it returns something else than one array (n, ...), or does not take such images.
    """
    returned = _traced(model, images).returned
    if not isinstance(returned, jax.ShapeDtypeStruct):
        raise InputError(
            f"the network returns a {type(returned).__name__} of {len(jax.tree.leaves(returned))} arrays; "
            "wrap it in a module that returns the one to be explained"
        )
    if returned.shape[:1] != (1,):
        raise InputError(
            f"the network returns {returned.shape} for one image; the first axis must be that of the images"
        )
    return returned.shape[1:]


def returns_operation(model: Model, images: Any) -> bool:
    """Whether what the network returns is the output of an operation, as it is; arguments as of `layers_of`."""
    return _traced(model, images).by_operation


def image_of(model: Model, size: tuple[int, ...] | None = None) -> jax.ShapeDtypeStruct:
    """An image (1, h, w, c) for the network, as a shape.

    Args:
        model: the network.
        size: (h, w) or (h, w, c). By default h and w are those of the network's record, or 224 without one; c is what
            the kernel of the first convolution reads.

    Raises:
        InputError: it is no size, or there is none and the network does not take the default one.
    """
    if size is not None and len(size) not in (2, 3):
        raise InputError(f"a size is (h, w) or (h, w, c), not {size}")
    record = record_of(model)
    height, width, *channels = size or (record.image_size if record else (224, 224))
    shape = (1, height, width, *(channels or (_channels_read(model),)))
    image = jax.ShapeDtypeStruct(shape, jnp.result_type(*jax.tree.leaves(model.variables)))
    if size is None:
        try:
            _traced(model, image)
        except InputError as error:
            raise InputError(f"{error}; give size=(h, w) or (h, w, c)") from error
    return image


def _channels_read(model: Model) -> int:
    """How many channels the first convolution reads by its kernel; 3 where that cannot be known."""

    def look(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, Conv | ConvTranspose):
            raise _FirstKernel(context.module.get_variable("params", "kernel").shape[2] * context.module.groups)
        return call(*args, **kwargs)

    def compute(variables: Any, image: jax.Array) -> Any:
        with nn.intercept_methods(look):
            return run(model.module, variables, image, ops.Plain(), ops.no_tap)

    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.result_type(*jax.tree.leaves(model.variables)))
    try:
        jax.eval_shape(compute, model.variables, image)
    except _FirstKernel as found:
        return found.channels
    except Exception:  # whatever a network says of another size or number of channels: that is for the trace to report
        return 3
    return 3


class _FirstKernel(Exception):
    """Ends a run at the first convolution."""

    def __init__(self, channels: int) -> None:
        self.channels = channels


class _Trace(NamedTuple):
    layers: tuple[Layer, ...]
    returned: Any  # on one image, as shapes
    by_operation: bool  # it is the output of an operation, as it is


def _traced(model: Model, images: Any) -> _Trace:
    variables = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), model.variables)
    leaves, structure = jax.tree.flatten(variables)
    image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    _check_images(images)
    try:
        found = _trace(model.module, tuple(leaves), structure, image)
    except flax.errors.ScopeParamShapeError as error:
        if images.shape[1] == _channels_read(model) != images.shape[3]:
            reason = "channels are last; these look like (n, c, h, w): images.transpose(0, 2, 3, 1)"
        else:
            reason = str(error).split(" (https")[0]
        raise InputError(f"the network does not take images of shape {images.shape}, (n, h, w, c): {reason}") from error
    if not found.layers:
        raise InputError(
            f"{type(model.module).__name__} calls no operations: write it with ops and the layers of tffjax.nn, see "
            "docs/own-network.md"
        )
    return found


def _check_images(images: Any) -> None:
    if len(images.shape) != 4:
        raise InputError(f"images are (n, h, w, c); these are {images.shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(f"the images are {images.dtype}; normalize pixels first (tffjax.data.preprocessing.normalize)")


def parameters_of(model: Model, image: jax.ShapeDtypeStruct) -> dict[str, tuple[jax.Array, jax.Array | None]]:
    """Kernel and bias of every layer that has them, as the network hands them to its operations.

    They may be computed by the network, from its variables alone. Call it under `jit`: it runs the network on an image
    (1, h, w, c) of this shape, and what comes of that is dropped there.
    """
    found = {}

    def note(operation: ops.Operation, y: jax.Array) -> jax.Array:
        if "kernel" in operation.parameters:
            found[operation.name] = operation.parameters["kernel"], operation.parameters["bias"]
        return y

    model(jnp.zeros(image.shape, image.dtype), ops.Plain(behind=note))
    return found


@functools.lru_cache(maxsize=64)
def _trace(module: nn.Module, leaves: tuple[Any, ...], structure: Any, image: Any) -> _Trace:
    found: list[Layer] = []
    arrays: list[Any] = []  # the image, then the output of each layer
    made_of_image: list[Any] = []  # by the network, before any operation: normalized or padded
    nonnegative: set[int] = set()
    sites: set[str] = set()
    by_operation = False

    def note(operation: ops.Operation, y: jax.Array) -> jax.Array:
        numbers = tuple(next((i for i, a in enumerate(arrays) if a is x), UNKNOWN) for x in operation.inputs)
        made_of_image.extend(x for x in operation.inputs if not found and x is not arrays[IMAGE])
        convolves, of_image = operation.kind in ("conv", "conv_transpose"), (arrays[IMAGE], *made_of_image)
        first = convolves and any(x is operation.inputs[0] for x in of_image)
        layer = _layer(operation, y, numbers)._replace(first=first, nonnegative=nonnegative.issuperset(numbers))
        found.append(layer)
        arrays.append(y)
        keeps_sign = layer.nonnegative and layer.kind in _KEEPS_SIGN
        if keeps_sign or operation.parameters.get("function") in functions.NONNEGATIVE:
            nonnegative.add(len(found))
        return y

    def tap(site: str, y: jax.Array) -> jax.Array:
        sites.add(site)
        return y

    def compute(variables: Any, images: jax.Array) -> Any:
        nonlocal by_operation
        arrays.append(images)
        returned = run(module, variables, images, ops.Plain(behind=note), tap)
        by_operation = any(returned is array for array in arrays[1:])
        return returned

    returned = jax.eval_shape(compute, jax.tree.unflatten(structure, leaves), image)
    names = [layer.name for layer in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two layers are named {twice!r}; give every operation its own name")
    numbers = {name: i for i, name in enumerate((layer.name for layer in found if layer.multiply_adds), 1)}
    layers = tuple(
        layer._replace(
            is_site=layer.name in sites,
            number=numbers.get(layer.name, 0),
            last=numbers.get(layer.name) == len(numbers),
        )
        for layer in found
    )
    return _Trace(layers, returned, by_operation)


def _layer(operation: ops.Operation, y: jax.Array, inputs: tuple[int, ...]) -> Layer:
    kind, (x, *others), parameters = operation.kind, operation.inputs, operation.parameters
    kernel, geometry = parameters.get("kernel"), parameters.get("geometry", Geometry())
    window = parameters.get("window", (1, 1))
    if kind == "conv":
        window = kernel.shape[:2]
    cut = geometry.padding != ((0, 0), (0, 0)) and not parameters.get("count_padding", True)  # the count varies
    if kind in _NO_WINDOW or cut:
        window = None
    per_position = x if kind == "conv_transpose" else y
    work = 0 if kernel is None else per_position.size // per_position.shape[-1] * kernel.size
    held = kind == "gate" and is_held(*others)
    facts = {"inputs": inputs, "window": window, "geometry": geometry, "multiply_adds": work, "held": held}
    return Layer(operation.name, kind, y.shape[1:], **facts)


def is_held(gate: jax.Array) -> bool:
    """Whether a gate (n, h, w, c) is one number for each channel, as squeeze-excite's are, and not a map."""
    return gate.shape[1:3] == (1, 1)
