"""A check before work: where relevance enters, leaves and gets lost, layer by layer."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tffjax.compile.passes import Pass
from tffjax.errors import InputError
from tffjax.kernels.convolution import zeros_varying_like
from tffjax.lrp.composites import Composite, Rule
from tffjax.lrp.explain import check_types, chosen_output, resolve_target
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.prepare import prepared_for, resolve
from tffjax.nn.graph import Layer, layers_of
from tffjax.nn.model import Model
from tffjax.nn.ops import no_tap

UNEXPLAINED = 1e-4
LARGE_LOSS = 0.1


@dataclasses.dataclass(frozen=True)
class Balance:
    """What one layer does with the relevance of a batch; each figure is a mean over images, of a start relevance of 1.

    Attributes:
        layer: its name.
        kind: its kind (`tffjax.nn.graph.Layer`).
        rule: as printed in a composite's table.
        entered, left: relevance at the output and at the input.
        bias, stabilizer, zero: what was lost to the bias, to the stabilizer, at outputs with a zero denominator.
        unexplained: the largest |entered - left - bias - stabilizer - zero| of an image: rounding.
        finite: whether all figures are.
    """

    layer: str
    kind: str
    rule: str
    entered: float
    left: float
    bias: float
    stabilizer: float
    zero: float
    unexplained: float
    finite: bool

    @property
    def ok(self) -> bool:
        """All figures are finite and every loss is explained."""
        return self.finite and self.unexplained <= UNEXPLAINED

    @property
    def advice(self) -> str:
        """What to do about it; empty where nothing is wrong."""
        if not self.finite:
            return "NaN or infinity: look for huge weights or a rule without a stabilizer at this layer"
        if self.unexplained > UNEXPLAINED:
            return "rounding: compute in float64, or use a rule with a larger epsilon"
        if abs(self.zero) > LARGE_LOSS:
            return "dead units take relevance: no positive contribution; a rule with epsilon or gamma keeps it"
        if abs(self.stabilizer) > LARGE_LOSS:
            return "outputs near zero take relevance: a smaller epsilon"
        if abs(self.bias) > LARGE_LOSS:
            return "the bias takes a large share: expected at the last layer when the output is small"
        return ""


@dataclasses.dataclass(frozen=True)
class Check:
    """Balances of all layers that redistribute relevance, from the output to the input.

    Attributes:
        balances: a `Balance` for each.
        start, end: relevance at the output and at the image, means over images.
    """

    balances: tuple[Balance, ...]
    start: float
    end: float

    @property
    def conserved(self) -> float:
        """Share of the start relevance that arrives at the image."""
        return self.end / self.start

    @property
    def ok(self) -> bool:
        """Relevance was redistributed, all finite, and all losses explained by bias, stabilizers, zero denominators."""
        return bool(self.balances) and all(balance.ok for balance in self.balances)


def check_model(
    model: Model,
    images: Float[Array, "n h w c"],
    *,
    target: int | str = "top",
    composite: str | Composite | None = None,
    precision: str | None = None,
) -> Check:
    """Explain a few images and account for the relevance at every layer.

    Args:
        model, images, composite, precision: as for `tffjax.relevance`.
        target: `top`, `logit` or an output index.

    Raises:
        InputError: as `tffjax.relevance`, or for `gradient-x-input`, which redistributes nothing.
    """
    check_types(model, images)
    composite, precision = resolve(model, composite, precision)
    if composite.times_input:
        raise InputError(f"{composite.name} is a gradient: it redistributes no relevance that could be accounted for")
    layers = layers_of(model, images)
    index, word = resolve_target(target, layers)
    ledgers, received = _ledgers(
        model, images, index, word=word, composite=composite, layers=layers, precision=precision
    )
    balances = [
        _balance(layer, str(composite.rule_of(layer)), np.asarray(ledgers[layer.name], np.float64))
        for layer in reversed(layers)
        if layer.name in ledgers
    ]
    return Check(tuple(b for b in balances if b is not None), 1.0, float(np.mean(received)))


def _account_batch(
    model: Model,
    images: jax.Array,
    index: Any,
    word: str,
    composite: Composite,
    layers: tuple[Layer, ...],
    precision: str,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Layer name -> (n, 5) as `tffjax.lrp.operations.account`, and the relevance (n,) that arrives at the images."""
    model = prepared_for(model, composite, precision, images)
    ruled = [layer.name for layer in layers if isinstance(composite.rule_of(layer), Rule)]
    zeros = {name: zeros_varying_like(images, (len(images), 5)) for name in ruled}

    def explained(images: jax.Array, ledgers: dict[str, jax.Array]) -> jax.Array:
        logits = model(images, LrpOps.of(model, layers, ledgers=ledgers), no_tap)
        return chosen_output(logits, index, word)

    value, pullback = jax.vjp(explained, images, zeros)
    received, ledgers = pullback(jnp.ones_like(value))
    return ledgers, received.sum(axis=(1, 2, 3))


_ledgers = Pass(_account_batch, static_argnames=("word", "composite", "layers", "precision"))


def _balance(layer: Layer, rule: str, ledger: np.ndarray) -> Balance | None:
    """None for a layer that no relevance reaches, such as those of a gate."""
    if not ledger.any():
        return None
    entered, left, bias, stabilizer, zero = ledger.T
    unexplained = np.abs(entered - left - bias - stabilizer - zero).max()
    means = (float(figure.mean()) for figure in (entered, left, bias, stabilizer, zero))
    return Balance(layer.name, layer.kind, rule, *means, float(unexplained), bool(np.isfinite(ledger).all()))
