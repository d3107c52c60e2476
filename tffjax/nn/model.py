"""A network with its weights, as one value."""

import dataclasses
import functools
import inspect
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.errors import InputError
from tffjax.nn.card import Card
from tffjax.nn.names import Uses
from tffjax.nn.networks import Network, names, network_making, network_of
from tffjax.nn.ops import Plain, Tap, no_tap


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Model:
    """A linen module and its variables; a pytree whose leaves are the weights, so it passes through `jit`.

    Attributes:
        module: a linen module whose `__call__` takes `(images, ops, tap)`. Hashable, static under `jit`.
        variables: its Flax variables, `{"params": ..., "batch_stats": ...}`.
        card: where they came from and what they mean; None for your own networks.

    Raises:
        InputError: the module does not take these, or cannot be hashed.
    """

    module: nn.Module = dataclasses.field(metadata={"static": True})
    variables: dict[str, Any]
    card: Card | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self) -> None:
        """Refuse other modules."""
        _check_call(type(self.module))
        try:
            hash(self.module)
        except TypeError:
            raise InputError(
                f"the fields of {type(self.module).__name__} must be hashable: tuples, not lists"
            ) from None

    def __call__(
        self, images: Float[Array, "n h w c"], ops: Plain | None = None, tap: Tap = no_tap
    ) -> Float[Array, "n *outputs"]:
        """Logits of normalized images: one compiled program, unless operations or a tap are given."""
        if ops is None and tap is no_tap:
            return _logits(self.module, self.variables, images)
        return run(self.module, self.variables, images, ops or Plain(), tap)

    def __repr__(self) -> str:
        leaves = jax.tree.leaves(self.variables)
        types = ", ".join(sorted({str(jnp.result_type(leaf)) for leaf in leaves}))
        count = sum(math.prod(jnp.shape(leaf)) for leaf in leaves)
        what = type(self.module).__name__ if self.card is None else self.card.architecture
        return f"{type(self).__name__}({what}, {count:,} numbers, {types}, card={self.card!r})"

    def astype(self, dtype: Any) -> "Model":
        """The same model with weights of another floating type (float64 needs `jax_enable_x64`)."""
        return dataclasses.replace(self, variables=jax.tree.map(lambda a: jnp.asarray(a, dtype), self.variables))


@functools.cache
def _check_call(kind: type) -> None:
    try:
        inspect.signature(kind.__call__).bind("self", "images", "ops", "tap")
    except TypeError:
        raise InputError(
            f"{kind.__name__} is not written over (images, ops, tap), as LRP needs it: see docs/own-network.md"
        ) from None


@functools.partial(jax.jit, static_argnums=0)
def _logits(module: nn.Module, variables: Any, images: jax.Array) -> Any:
    return run(module, variables, images, Plain(), no_tap)


def run(module: nn.Module, variables: dict[str, Any], images: jax.Array, ops: Plain, tap: Tap) -> Any:
    """A run of a network, in which uses of names are counted (`tffjax.nn.names`)."""
    uses = Uses()
    counting = dataclasses.replace(ops, uses=uses)
    return module.apply(variables, images, counting, lambda site, y: tap(uses.latest(site), y))


def module_of(card: Card) -> nn.Module:
    """The network that a card describes, as trained (batch norms not folded).

    Raises:
        InputError: no network is known by the card's name for it, or it has no such graph options.
    """
    return network_of(card).module(card)


def record_of(model: Model) -> Network | None:
    """What is known of a model's network: by its card or, if it has none, by its module. None if nothing is."""
    if model.card is None:
        return network_making(model.module)
    return network_of(model.card) if model.card.architecture in names() else None
