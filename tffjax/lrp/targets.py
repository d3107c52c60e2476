"""What is explained: an output, a neuron, or a relevance of one's own over the outputs."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tffjax.errors import InputError
from tffjax.nn.graph import Layer, layers_of, outputs_of
from tffjax.nn.model import Model
from tffjax.nn.names import near

WORDS = ("logit", "top")


@functools.partial(jax.tree_util.register_dataclass, data_fields=("channel", "position"), meta_fields=("site",))
@dataclasses.dataclass(frozen=True)
class Neuron:
    """One neuron of a layer as the target of an explanation.

    Attributes:
        site: name of the layer, such as a convolution (its output is that before the activation, with the batch norm
            folded in).
        channel: channel index, a number or one for each image.
        position: (row, column), numbers or one for each image; None takes the largest value of the channel, the first
            in scan order on ties.
    """

    site: str
    channel: int | Int[Array, "*n"]
    position: tuple[Any, Any] | None = None


Target = int | str | Neuron | Int[Any, "*indices"] | Float[Any, "*start"]


def resolve_target(target: Target, model: Model, images: Float[Any, "n h w c"]) -> tuple[Any, str]:
    """A target as (arrays with one entry for each image or None, "" or the word that stands for it).

    Args:
        target, model, images: as of `tffjax.relevance`.

    Raises:
        InputError: there is no such word, output or neuron; the target is of another length or shape.
    """
    outputs, count = outputs_of(model, images), len(images)
    if isinstance(target, str):
        return None, _checked_word(target, outputs)
    if isinstance(target, Neuron):
        _check_neuron(target, layers_of(model, images))
        return jax.tree.map(lambda index: _for_each(jnp.asarray(index), count), target), ""
    target = jnp.asarray(target)
    if jnp.issubdtype(target.dtype, jnp.floating):
        if target.shape not in (outputs, (count, *outputs)):
            raise InputError(
                f"a start relevance has the shape of the outputs, {outputs} or {(count, *outputs)} for {count} images; "
                f"this one is {target.shape}"
            )
        return jnp.broadcast_to(target, (count, *outputs)), ""
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise InputError(f"a target is an output index, a word, a Neuron or a start relevance, not {target.dtype}")
    try:
        _check_range("output", target, _count_of(outputs))
        return _for_each(target, count), ""
    except InputError as error:
        if not target.ndim:
            raise
        raise InputError(f"{error}; whole numbers are output indices, a start relevance is floats") from None


def start_relevance(y: Float[Array, "n *s"], target: Any, word: str) -> Float[Array, "n *s"]:
    """The relevance that starts at y, the outputs or those of the neuron's layer; arguments from `resolve_target`."""
    nothing = jnp.zeros_like(y)  # what is added to it varies over the mesh axes of y: `shard_map` asks for that
    if isinstance(target, Neuron):
        rows = jnp.arange(len(y))
        if y.ndim == 2:
            return nothing.at[rows, target.channel].set(1)
        row, column = target.position or _strongest(y[rows, :, :, target.channel])
        return nothing.at[rows, row, column, target.channel].set(1)
    if target is not None and jnp.issubdtype(target.dtype, jnp.floating):
        return nothing + target.astype(y.dtype)
    if y.ndim == 1:
        return nothing + 1
    return nothing + jax.nn.one_hot(y.argmax(axis=1) if word else target, y.shape[1], dtype=y.dtype)


def _strongest(channel: Float[Array, "n h w"]) -> tuple[jax.Array, jax.Array]:
    place = channel.reshape(len(channel), -1).argmax(axis=1)
    return place // channel.shape[2], place % channel.shape[2]


def _checked_word(word: str, outputs: tuple[int, ...]) -> str:
    if word not in WORDS:
        raise InputError(
            f"there is no target {word!r}; choose 'logit', 'top', an output index, a Neuron or a start relevance"
        )
    count = _count_of(outputs)
    if word == "logit" and count != 1:
        raise InputError(f"'logit' needs a network with one output, this one has {count}; choose 'top' or an index")
    return word


def _count_of(outputs: tuple[int, ...]) -> int:
    """How many outputs an index can choose from; a number for each image is one."""
    if not outputs:
        return 1
    if len(outputs) != 1:
        raise InputError(f"the network returns {outputs} numbers an image: give a start relevance of that shape")
    return outputs[0]


def _check_neuron(neuron: Neuron, layers: tuple[Layer, ...]) -> None:
    *size, channels = layer_named(neuron.site, layers).shape
    _check_range("channel", neuron.channel, channels)
    if neuron.position is not None and not size:
        raise InputError(f"{neuron.site} is no map: its neurons have a channel only, no position")
    for index, length in zip(neuron.position or (), size, strict=False):
        _check_range("position", index, length)


def layer_named(name: str, layers: tuple[Layer, ...]) -> Layer:
    """The layer of a name.

    Raises:
        InputError: there is none.
    """
    found = next((layer for layer in layers if layer.name == name), None)
    if found is None:
        known = [layer.name for layer in layers if layer.is_site] + [layer.name for layer in layers]
        raise InputError(f"the network has no layer {name!r}; {near(name, dict.fromkeys(known))}")
    return found


def _for_each(index: jax.Array, count: int) -> jax.Array:
    if index.shape not in ((), (count,)):
        raise InputError(
            f"there are {count} images, but the target is for {len(index)}: give one number, or one an image"
        )
    return jnp.broadcast_to(index, (count,))


def _check_range(what: str, index: Any, size: int) -> None:
    """Raise an InputError for an index out of range; the values of traced ones cannot be known."""
    try:
        values = np.ravel(np.asarray(index))
    except jax.errors.TracerArrayConversionError:
        return
    for value in values:
        if not 0 <= value < size:
            raise InputError(f"there is no {what} {value}; there are {size}, counted from 0")
