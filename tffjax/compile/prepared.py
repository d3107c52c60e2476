"""A network with all that its passes need of the weights, computed once."""

import dataclasses
from typing import Any

import jax

from tffjax.errors import InputError
from tffjax.kernels.choice import Kernels
from tffjax.nn.model import Model
from tffjax.nn.ops import Plain


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Prepared(Model):
    """A model that is prepared for its passes, see `tffjax.prepare`; a pytree like the model that it is.

    Attributes:
        transformed: kernels as `Plain` takes them, by layer.
        weights: what the rules of the composite make of the weights, by layer.
        composite: that of the explanations (`tffjax.lrp.composites.Composite`); None if it is for forward passes only.
        precision, kernels: of the passes.
    """

    transformed: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: dict[str, Any] = dataclasses.field(default_factory=dict)
    composite: Any = dataclasses.field(default=None, metadata={"static": True})
    precision: str = dataclasses.field(default="float32", metadata={"static": True})
    kernels: Kernels | None = dataclasses.field(default=None, metadata={"static": True})

    def astype(self, dtype: Any) -> Model:
        """Refuse: what was made of the old weights would be wrong."""
        raise InputError("the model is prepared for its passes in this type: first model.astype(...), then prepare")


def precision_of(model: Model, asked: str | None) -> str:
    """The precision of a pass: that of a prepared model; of another the one asked for, by default float32.

    Raises:
        InputError: another one than that of the prepared model is asked for.
    """
    if not isinstance(model, Prepared):
        return asked or "float32"
    if asked not in (None, model.precision):
        raise InputError(f"the model is prepared for {model.precision}, not for {asked}")
    return model.precision


def plain_ops(model: Model, precision: str | None = None) -> Plain:
    """The operations of a forward pass."""
    precision = precision_of(model, precision)
    return Plain(precision, model.kernels, model.transformed) if isinstance(model, Prepared) else Plain(precision)
