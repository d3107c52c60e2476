"""A check before work: where relevance enters, leaves and gets lost, layer by layer."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from tffjax.compile.passes import Pass
from tffjax.errors import InputError
from tffjax.kernels.convolution import zeros_varying_like
from tffjax.lrp.composites import Composite, Rule
from tffjax.lrp.explain import check_types
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.prepare import prepared_for, resolve
from tffjax.lrp.rules import per_image
from tffjax.lrp.targets import Target, resolve_target, start_relevance
from tffjax.nn.canonization import canonize
from tffjax.nn.graph import UNKNOWN, Layer, layers_of, trace
from tffjax.nn.model import Model
from tffjax.nn.ops import Operation
from tffjax.nn.sites import probe_total

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
        outside: how much relevance code outside of operations made or swallowed: the largest difference of an image.
        notes: what is no operation, or no operation that LRP knows how to pass, in words.
    """

    balances: tuple[Balance, ...]
    start: float
    end: float
    outside: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def conserved(self) -> float:
        """Share of the start relevance that arrives at the image."""
        return self.end / self.start

    @property
    def ok(self) -> bool:
        """Relevance was redistributed, all finite, and all losses explained by bias, stabilizers, zero denominators."""
        return bool(self.balances) and all(balance.ok for balance in self.balances) and self.outside <= UNEXPLAINED

    @property
    def trouble(self) -> str:
        """What is wrong, in one line; empty where nothing is."""
        failed = next((balance for balance in self.balances if not balance.ok), None)
        if failed is not None:
            return f"{failed.layer}: {failed.advice}"
        if self.outside > UNEXPLAINED:
            return f"{self.outside:.3g} of the relevance comes or goes outside of operations; {'; '.join(self.notes)}"
        return "" if self.balances else "no layer redistributes relevance"


def check_model(
    model: Model,
    images: Float[Array, "n h w c"],
    *,
    target: Target = "top",
    composite: str | Composite | None = None,
    precision: str | None = None,
) -> Check:
    """Explain a few images and account for the relevance at every layer.

    Args:
        model, images, composite, precision: as for `tffjax.relevance`.
        target: as for `tffjax.relevance`, but no `Neuron`.

    Raises:
        InputError: as `tffjax.relevance`, or for a gradient such as `gradient-x-input`, which redistributes nothing.
    """
    check_types(model, images)
    composite, precision = resolve(model, composite, precision)
    if not composite.redistributes:
        raise InputError(f"{composite.name} is a gradient: it redistributes no relevance that could be accounted for")
    layers = layers_of(model, images)
    target, word = resolve_target(target, model, images)
    found = _account(model, images, target, word=word, composite=composite, layers=layers, precision=precision)
    found = jax.tree.map(lambda a: np.asarray(a, np.float64), found)
    balances = [
        _balance(layer, str(composite.rule_of(layer)), found.ledgers[layer.name])
        for layer in reversed(layers)
        if layer.name in found.ledgers
    ]
    kept = tuple(b for b in balances if b is not None)
    canonized = trace(jax.eval_shape(canonize, model), images)
    start, end = float(found.start.mean()), float(found.received.mean())
    return Check(kept, start, end, _outside(found), _notes(canonized, found))


class _Account(NamedTuple):
    """Relevance of each image: what layers did (n, 5) as `tffjax.lrp.operations.account`, and sums (n,)."""

    ledgers: dict[str, Any]  # by layer
    totals: dict[str, Any]  # at the outputs of all layers
    start: Any
    received: Any  # at the image


def _account_batch(
    model: Model,
    images: jax.Array,
    target: Any,
    word: str,
    composite: Composite,
    layers: tuple[Layer, ...],
    precision: str,
) -> _Account:
    model = prepared_for(model, composite, precision, images)
    ruled = [layer.name for layer in layers if isinstance(composite.rule_of(layer), Rule)]
    zeros = {name: zeros_varying_like(images, (len(images), 5)) for name in ruled}
    totals = {layer.name: zeros_varying_like(images, (len(images),)) for layer in layers}

    def explained(images: jax.Array, ledgers: dict[str, jax.Array], totals: dict[str, jax.Array]) -> jax.Array:
        def behind(operation: Operation, y: jax.Array) -> jax.Array:
            return probe_total(y, totals.get(operation.name))

        return model(images, LrpOps.of(model, layers, ledgers=ledgers, behind=behind))

    logits, pullback = jax.vjp(explained, images, zeros, totals)
    start = start_relevance(logits, target, word)
    received, ledgers, totals = pullback(start)
    return _Account(ledgers, totals, per_image(start), per_image(received))


_account = Pass(_account_batch, static_argnames=("word", "composite", "layers", "precision"))


def _outside(found: _Account) -> float:
    """By how much all that starts and leaves layers differs from all that enters layers and the image.

    Each piece of relevance that a layer hands on enters another one, or the image; layers without a ledger hand on all.
    """
    entered, left = found.received, found.start
    for name, total in found.totals.items():
        entered = entered + total
        left = left + (found.ledgers[name][:, 1] if name in found.ledgers else total)
    size = 1 + sum(np.abs(total) for total in found.totals.values())
    return float((np.abs(entered - left) / size).max())


def _notes(layers: tuple[Layer, ...], found: _Account) -> tuple[str, ...]:
    """What no operation made, and batch norms that are not folded; only where relevance passes."""
    read = {number for layer in layers for number in layer.inputs}
    reached = {name for name, total in found.totals.items() if total.any()}
    unread = [layer.name for number, layer in enumerate(layers[:-1], 1) if number not in read and layer.name in reached]
    notes = [
        f"{layer.name} reads what the network makes of the image: normalize images before, or relevance is scaled there"
        for layer in layers
        if UNKNOWN in layer.inputs and layer.first and layer.name in reached
    ]
    notes += [
        f"{layer.name} reads what no operation made"
        + (f" (of {', '.join(unread)}, perhaps)" if unread else "")
        + ": write a sum as ops.add, a product as ops.gate, else what relevance meets there is the gradient"
        for layer in layers
        if UNKNOWN in layer.inputs and not layer.first and layer.name in reached
    ]
    norms = [layer.name for layer in layers if layer.kind == "batch_norm"]
    if norms:
        notes.append(
            f"{len(norms)} batch norms, first {norms[0]}, are not folded and pass relevance unchanged: give the module "
            "batch_norm_pairs() (see tffjax.canonize)"
        )
    return tuple(notes)


def _balance(layer: Layer, rule: str, ledger: np.ndarray) -> Balance | None:
    """None for a layer that no relevance reaches, such as those of a gate."""
    if not ledger.any():
        return None
    entered, left, bias, stabilizer, zero = ledger.T
    unexplained = np.abs(entered - left - bias - stabilizer - zero).max()
    means = (float(figure.mean()) for figure in (entered, left, bias, stabilizer, zero))
    return Balance(layer.name, layer.kind, rule, *means, float(unexplained), bool(np.isfinite(ledger).all()))
