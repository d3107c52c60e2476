"""Sites (outputs of named convolutions), channel keys, and taps."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.kernels.precision import widened
from tffjax.nn.graph import image_of, layers_of
from tffjax.nn.model import Model
from tffjax.nn.ops import Plain


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


def sites_of(model: Model, size: tuple[int, ...] | None = None) -> tuple[Site, ...]:
    """The sites of a network in the order in which they are computed. Computes nothing.

    Args:
        model: the network.
        size: (h, w) or (h, w, c) of images. Names and numbers of channels do not depend on it; for them it can be left
            out (see `tffjax.nn.graph.image_of`).

    Raises:
        InputError: the network does not take images of this size.
    """
    shapes = ((layer.name, layer.shape) for layer in layers_of(model, image_of(model, size)) if layer.is_site)
    return tuple(Site(name, channels, h, w) for name, (h, w, channels) in shapes)


def site_outputs(
    model: Model, images: Float[Array, "n h w c"], ops: Plain = Plain()
) -> tuple[Float[Array, "n *outputs"], dict[str, jax.Array]]:
    """Logits, and the output (n, h, w, c) of every site by name (`jit` sorts them; `sites_of` keeps the order)."""
    record = Record()
    logits = model(images, ops, record)
    return logits, record.outputs


def outputs_at(
    model: Model, images: Float[Array, "n h w c"], sites: Sequence[str], ops: Plain = Plain()
) -> tuple[jax.Array, ...]:
    """The outputs (n, h, w, c) of some sites, in the order asked for. The network runs up to the last of them only."""
    record = Record()

    def tap(site: str, y: jax.Array) -> jax.Array:
        record(site, y)
        if all(name in record.outputs for name in sites):
            raise _LastSite
        return y

    with contextlib.suppress(_LastSite):
        model(images, ops, tap)
    return tuple(record.outputs[site] for site in sites)


class _LastSite(Exception):
    """Ends a forward pass at the last site that anybody asked for."""


def probe_sums(y: jax.Array, probe: jax.Array | None, times_output: bool = False) -> jax.Array:
    """Pass y; the cotangent of `probe`, zeros (n, 2, c), is the relevance at y summed over positions.

    [:, 0] sums max(R, 0), [:, 1] sums max(-R, 0). With `times_output`, R is the cotangent times y. No map is kept.
    """
    return y if probe is None else _probe(_sign_sums, times_output, y, probe)


def probe_maps(y: jax.Array, probe: jax.Array | None, times_output: bool = False) -> jax.Array:
    """Pass y; the cotangent of `probe`, zeros of the shape of y, is the relevance at y."""
    return y if probe is None else _probe(_unchanged, times_output, y, probe)


def probe_total(y: jax.Array, probe: jax.Array | None) -> jax.Array:
    """Pass y; the cotangent of `probe`, zeros (n,), is the sum of the relevance at y."""
    return y if probe is None else _probe(_total, False, y, probe)


def _sign_sums(relevance: jax.Array) -> jax.Array:
    relevance = widened(relevance)
    parts = (jnp.maximum(relevance, 0), jnp.maximum(-relevance, 0))
    return jnp.stack([part.sum(axis=tuple(range(1, part.ndim - 1))) for part in parts], axis=1)


def _total(relevance: jax.Array) -> jax.Array:
    return widened(relevance).sum(axis=tuple(range(1, relevance.ndim)))


def _unchanged(relevance: jax.Array) -> jax.Array:
    return widened(relevance)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _probe(reduce: Callable[[jax.Array], jax.Array], times_output: bool, y: jax.Array, probe: jax.Array) -> jax.Array:
    return y


def _probe_forward(reduce: Any, times_output: bool, y: jax.Array, probe: jax.Array) -> tuple[jax.Array, Any]:
    return y, y if times_output else None


def _probe_backward(reduce: Any, times_output: bool, y: Any, relevance: jax.Array) -> tuple[jax.Array, jax.Array]:
    return relevance, reduce(relevance * y if times_output else relevance)


_probe.defvjp(_probe_forward, _probe_backward)
