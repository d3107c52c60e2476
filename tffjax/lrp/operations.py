"""Operations that make `jax.vjp` of a network an explanation: the plain values, and a composite's backward pass."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tffjax.compile.prepared import Prepared
from tffjax.kernels.convolution import Geometry
from tffjax.lrp import redistribution, rules
from tffjax.lrp.composites import BETA0, Composite, Rule
from tffjax.lrp.linear import AveragePool, Bilinear, Conv, ConvTranspose, Dense, Inside
from tffjax.lrp.redistribution import Linear, LinearMap
from tffjax.nn import ops
from tffjax.nn.graph import Layer


@dataclasses.dataclass(frozen=True)
class LrpOps(ops.Plain):
    """Operations with the plain forward values whose backward pass is the composite's.

    Weights get no cotangent: gradients with respect to parameters through these operations are zero. That is right for
    an explanation and a trap for training.

    Attributes:
        composite: the rules.
        layers: of the network (`tffjax.nn.graph.layers_of`): they say which convolution is the first and which inputs
            are known to be nonnegative.
        weights: layer name -> what its rule makes of its weights; for others that is done where it is needed.
        ledgers: layer name -> zeros (n, 5). The cotangent of each is what the layer did with relevance, see `account`.
    """

    composite: Composite = BETA0
    layers: tuple[Layer, ...] = ()
    weights: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    ledgers: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, model: Prepared, layers: tuple[Layer, ...], **more: Any) -> "LrpOps":
        """The operations of a prepared model."""
        return cls(
            model.precision,
            model.kernels,
            model.transformed,
            composite=model.composite,
            layers=layers,
            weights=model.weights,
            **more,
        )

    def _conv(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any, geometry: Geometry) -> jax.Array:
        return self._linear(Conv(geometry, self.precision, self.kernels), x, kernel, bias, name)

    def _dense(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any) -> jax.Array:
        return self._linear(Dense(self.precision), x, kernel, bias, name)

    def _conv_transpose(self, name: str, x: jax.Array, kernel: jax.Array, bias: Any, geometry: Geometry) -> jax.Array:
        return self._linear(ConvTranspose(geometry, self.precision, self.kernels), x, kernel, bias, name)

    def _average_pool(self, name: str, x: jax.Array, **parameters: Any) -> jax.Array:
        return self._linear(AveragePool(**parameters), x, None, None, name)

    def _upsample_bilinear(self, name: str, x: jax.Array, factor: tuple[int, int]) -> jax.Array:
        return self._linear(Bilinear(factor), x, None, None, name)

    def _batch_norm(self, name: str, y: jax.Array, **parameters: Any) -> jax.Array:
        """Relevance passes it unchanged (canonize first, unless it is an emptied one)."""
        normalized = super()._batch_norm(name, y, **parameters)
        return _hand_through(normalized, y) if self.composite.activation == "identity" else normalized

    def _norm(self, name: str, x: jax.Array, *parameters: Any, **more: Any) -> jax.Array:
        """Mean and divisor are constants: each output has one input, which gets all of its relevance."""
        normalized = super()._norm(name, x, *parameters, **more)
        return _hand_through(normalized, x) if self.composite.activation == "identity" else normalized

    def _add(self, name: str, a: jax.Array, b: jax.Array) -> jax.Array:
        found = self.composite.rule_of(self.layer(name))
        if found is None:
            return super()._add(name, a, b)
        if found.function is rules.epsilon:
            found = Rule(rules.sum_epsilon, found.parameters)
        return _sum(found, a, b, self.ledgers.get(name))

    def _activation(self, name: str, x: jax.Array, function: ops.Activation) -> jax.Array:
        if self.composite.activation == "guided":
            return _guided(functools.partial(super()._activation, name, function=function), x)
        y = super()._activation(name, x, function)
        if self.composite.activation == "deconvnet":
            return _hand_through(y, _positive_only(x))
        return _hand_through(y, x) if self.composite.activation == "identity" else y

    def _gate(self, name: str, x: jax.Array, gate: jax.Array) -> jax.Array:
        return x * gate if self.composite.gate == "gradient" else _hand_through(x * gate, x)

    def layer(self, name: str) -> Layer:
        """What is known of a layer."""
        return _by_name(self.layers)[name]

    def _linear(
        self,
        linear: LinearMap,
        x: jax.Array,
        kernel: Any,
        bias: jax.Array | None,
        name: str,
        inside: jax.Array | None = None,
    ) -> jax.Array:
        rule, transformed = self.composite.rule_of(self.layer(name)), self.transformed.get(name)
        if rule is None:
            x = x if inside is None else jnp.where(inside, x, 0)
            return ops.biased(linear.values(x, kernel, transformed), bias)
        weights = Weights(kernel, bias, transformed, self.weights.get(name))
        return _explained(linear, rule, self.layer(name).nonnegative, x, inside, weights, self.ledgers.get(name))


class Weights(NamedTuple):
    """The parameters of a linear layer, and what is made of them once a model (see `LrpOps`), if it is."""

    kernel: Any
    bias: jax.Array | None
    transformed: jax.Array | None = None
    kernels: tuple[Any, ...] | None = None


@functools.cache
def _by_name(layers: tuple[Layer, ...]) -> dict[str, Layer]:
    return {layer.name: layer for layer in layers}


def account(entered: jax.Array, left: jax.Array, lost: redistribution.Lost) -> jax.Array:
    """What a layer did with relevance, (n, 5): entered, left, lost to bias, to the stabilizer, to zero denominators."""
    return jnp.stack([redistribution.per_image(entered), redistribution.per_image(left), *lost], axis=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _explained(
    linear: LinearMap,
    rule: Rule,
    nonnegative: bool,
    x: jax.Array,
    inside: jax.Array | None,
    weights: Weights,
    ledger: jax.Array | None,
) -> jax.Array:
    return ops.biased(_bounded(linear, inside).values(x, weights.kernel, weights.transformed), weights.bias)


def _explained_forward(linear: LinearMap, rule: Rule, nonnegative: bool, *arrays: Any) -> tuple[jax.Array, Any]:
    y = _explained(linear, rule, nonnegative, *arrays)
    return y, (*arrays, y)


def _explained_backward(
    linear: LinearMap, rule: Rule, nonnegative: bool, residuals: Any, relevance: jax.Array
) -> tuple[Any, ...]:
    x, inside, weights, ledger, y = residuals
    layer = Linear(_bounded(linear, inside), x, weights.kernel, weights.bias, y, nonnegative, weights.kernels)
    received, lost = rule(layer, relevance)
    return received.astype(x.dtype), None, None, None if ledger is None else account(relevance, received, lost)


_explained.defvjp(_explained_forward, _explained_backward)


def _bounded(linear: LinearMap, inside: jax.Array | None) -> LinearMap:
    return linear if inside is None else Inside(linear, inside)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum(rule: Rule, a: jax.Array, b: jax.Array, ledger: jax.Array | None) -> jax.Array:
    return a + b


def _sum_forward(rule: Rule, a: jax.Array, b: jax.Array, ledger: jax.Array | None) -> tuple[jax.Array, Any]:
    return a + b, (a, b, ledger)


def _sum_backward(rule: Rule, residuals: Any, relevance: jax.Array) -> tuple[Any, ...]:
    a, b, ledger = residuals
    to_a, to_b, lost = rule(a, b, relevance)
    ledger = None if ledger is None else account(relevance, to_a + to_b, lost)
    return to_a.astype(a.dtype), to_b.astype(b.dtype), ledger


_sum.defvjp(_sum_forward, _sum_backward)


def _hand_through(y: jax.Array, x: jax.Array) -> jax.Array:
    """The value y with the cotangent handed to x unchanged."""
    return _replace_value(x, jax.lax.stop_gradient(y))


@jax.custom_vjp
def _replace_value(x: jax.Array, y: jax.Array) -> jax.Array:
    return y


_replace_value.defvjp(lambda x, y: (y, None), lambda _, relevance: (relevance, None))


@jax.custom_vjp
def _positive_only(x: jax.Array) -> jax.Array:
    """The value x; a cotangent R arrives at x as max(R, 0) (deconvnet, Zeiler and Fergus 2014)."""
    return x


_positive_only.defvjp(lambda x: (x, None), lambda _, relevance: (jnp.maximum(relevance, 0),))


def _guided(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """The value function(x) with guided backpropagation (Springenberg et al. 2015)."""

    @jax.custom_vjp
    def guided(x: jax.Array) -> jax.Array:
        return function(x)

    def forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return function(x), x

    def backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
        (through,) = jax.vjp(function, x)[1](gradient)
        return (jnp.where((x > 0) & (gradient > 0), through, 0),)

    guided.defvjp(forward, backward)
    return guided(x)
