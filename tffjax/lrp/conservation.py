"""A check before work: where relevance enters, leaves and gets lost, layer by layer."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tffjax.compile.passes import Pass
from tffjax.errors import InputError
from tffjax.kernels.convolution import zeros_varying_like
from tffjax.lrp.composites import Composite, Rule, field_of
from tffjax.lrp.explain import check_types
from tffjax.lrp.operations import LrpOps
from tffjax.lrp.prepare import prepared_for, resolve
from tffjax.lrp.redistribution import per_image
from tffjax.lrp.rules import z_box
from tffjax.lrp.targets import Target, resolve_target, start_relevance
from tffjax.nn.canonization import canonize
from tffjax.nn.graph import IMAGE, UNKNOWN, Layer, layers_of, returns_operation, trace
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
        size: the sum of |start relevance|, mean over images.
        outside: how much relevance came or went where no rule accounts for it: the largest difference of an image.
        unfolded: batch norms that nobody folds, in words; empty if there are none, or the module says which to fold.
        notes: what is no operation, passes the gradient, or is not as asked for, in words.
    """

    balances: tuple[Balance, ...]
    start: float
    end: float
    size: float = 1.0
    outside: float = 0.0
    unfolded: str = ""
    notes: tuple[str, ...] = ()

    @property
    def conserved(self) -> float:
        """Share of the start relevance that arrives at the image: 1 less what got lost, measured against `size`."""
        arrived = self.end if self.start >= 0 else -self.end
        return (self.size - abs(self.start) + arrived) / self.size

    @property
    def ok(self) -> bool:
        """Relevance was redistributed, all finite, all losses explained by bias, stabilizers, zeros; no loose norms."""
        return not self.trouble

    @property
    def trouble(self) -> str:
        """What is wrong, in one line; empty where nothing is."""
        failed = next((balance for balance in self.balances if not balance.ok), None)
        if failed is not None:
            return f"{failed.layer}: {failed.advice}"
        if self.outside > UNEXPLAINED:
            reasons = "; ".join(self.notes) or "look for layers whose relevance=maps are not what you expect"
            return f"{self.outside:.3g} of the relevance comes or goes where no rule accounts for it; {reasons}"
        return self.unfolded or ("" if self.balances else "no layer redistributes relevance")


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
    unfolded = _unfolded(canonized)
    notes = (
        *_notes(canonized, found, returns_operation(model, images)),
        *_without_rule(composite, layers, found),
        *unfolded,
        *composite.unreached(layers),
        *_outside_of_boxes(composite, layers, images),
    )
    start, size, end = (float(sums.mean()) for sums in (found.start, found.size, found.received))
    left_behind = "" if hasattr(model.module, "batch_norm_pairs") else "; ".join(unfolded)
    return Check(kept, start, end, size, _outside(found), left_behind, notes)


class _Account(NamedTuple):
    """Relevance of each image: what layers did (n, 5) as `tffjax.lrp.operations.account`, and sums (n,)."""

    ledgers: dict[str, Any]  # by layer
    totals: dict[str, Any]  # at the outputs of all layers
    start: Any
    size: Any  # of |start|
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
    return _Account(ledgers, totals, per_image(start), per_image(jnp.abs(start)), per_image(received))


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


def _reached(found: _Account) -> set[str]:
    """Layers that relevance passes."""
    return {name for name, total in found.totals.items() if total.any()}


def _notes(layers: tuple[Layer, ...], found: _Account, returns_operation: bool) -> tuple[str, ...]:
    """What no operation made; only where relevance passes."""
    read = {number for layer in layers for number in layer.inputs}
    reached = _reached(found)
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
    if not returns_operation:
        notes.append(
            f"no operation made what the network returns (the last one is {layers[-1].name}), and what relevance meets "
            "there is the gradient: write a dense head as tffjax.nn.Dense, and return logits rather than probabilities"
        )
    return tuple(notes)


_GRADIENTS = {"add": "copies relevance to both summands", "average_pool": "shares relevance evenly"}


def _without_rule(composite: Composite, layers: tuple[Layer, ...], found: _Account) -> list[str]:
    """Layers that pass the gradient because the composite says nothing of their kind, or says so."""
    reached, names = _reached(found), {}
    for layer in layers:
        if layer.name in reached and composite.rule_of(layer) in (None, "gradient", "guided", "deconvnet"):
            names.setdefault(field_of(layer), []).append(layer.name)
    notes = []
    for field, some in names.items():
        where = f"({', '.join(some[:3])}{', ...' if len(some) > 3 else ''})"
        if word := getattr(composite, field):
            notes.append(f'{field}="{word}" {where} changes relevance: "identity" hands it through')
        else:
            does = _GRADIENTS.get(field, "multiplies relevance by weights")
            notes.append(f"there is no rule for {field} {where}, whose gradient {does}: {field}=rule(rules.epsilon)")
    return notes


def _unfolded(layers: tuple[Layer, ...]) -> list[str]:
    norms = [layer.name for layer in layers if layer.kind == "batch_norm"]
    if not norms:
        return []
    return [
        f"{len(norms)} batch norms, first {norms[0]}, are not folded and pass relevance unchanged: give the module "
        "batch_norm_pairs() (see docs/own-network.md)"
    ]


def _outside_of_boxes(composite: Composite, layers: tuple[Layer, ...], images: Any) -> list[str]:
    """Layers that read the images under the zB rule, if pixels lie outside of its box."""
    notes = []
    for layer in layers:
        rule = composite.rule_of(layer)
        if IMAGE not in layer.inputs or not isinstance(rule, Rule) or rule.function is not z_box:
            continue
        low, high = (np.asarray(dict(rule.parameters)[bound]) for bound in ("low", "high"))
        pixels, slack = np.asarray(images), 1e-6 * np.max(high - low)
        if (pixels < low - slack).any() or (pixels > high + slack).any():
            notes.append(
                f"the images reach from {pixels.min():.3g} to {pixels.max():.3g}, outside of the box of {layer.name}, "
                f"{low.round(4)} to {high.round(4)}: give the composite first=rule(rules.z_box, low=..., high=...)"
            )
    return notes


def _balance(layer: Layer, rule: str, ledger: np.ndarray) -> Balance | None:
    """None for a layer that no relevance reaches, such as those of a gate."""
    if not ledger.any():
        return None
    entered, left, bias, stabilizer, zero = ledger.T
    unexplained = np.abs(entered - left - bias - stabilizer - zero).max()
    means = (float(figure.mean()) for figure in (entered, left, bias, stabilizer, zero))
    return Balance(layer.name, layer.kind, rule, *means, float(unexplained), bool(np.isfinite(ledger).all()))
