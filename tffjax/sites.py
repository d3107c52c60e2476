"""Sites (outputs of named convolutions), channel keys, and taps."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.models.model import Model
from tffjax.ops import Plain


class Site(NamedTuple):
    """The output of a named convolution: its name, number of channels, height and width."""

    name: str
    channels: int
    height: int
    width: int

    def key(self, channel: int) -> str:
        """The channel key used in published rankings, e.g. `layer1.0.conv1.#63(T=64)`."""
        return f"{self.name}.#{channel}(T={self.channels})"


@dataclasses.dataclass
class Record:
    """A tap that keeps what it sees, by site. Make a new one for every trace."""

    outputs: dict[str, jax.Array] = dataclasses.field(default_factory=dict)

    def __call__(self, site: str, y: jax.Array) -> jax.Array:
        """Remember `y` and pass it on."""
        self.outputs[site] = y
        return y


def sites_of(model: Model, height: int, width: int) -> tuple[Site, ...]:
    """The sites of a network in the order in which they are computed, for images of this size. Computes nothing."""
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    _, outputs = jax.eval_shape(site_outputs, model, image)
    return tuple(Site(name, y.shape[3], *y.shape[1:3]) for name, y in outputs.items())


def site_outputs(
    model: Model, images: Float[Array, "n h w c"], ops: Plain = Plain()
) -> tuple[Float[Array, "n outputs"], dict[str, jax.Array]]:
    """Logits, and the output (n, h, w, c) of every site, in the order in which they are computed."""
    record = Record()
    logits = model(images, ops, record)
    return logits, record.outputs
