"""Operations that make `jax.vjp` of a network an explanation: the plain values, and a composite's backward pass."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tffjax.kernels.convolution import Geometry
from tffjax.lrp import rules
from tffjax.lrp.composites import BETA0, Composite, Rule
from tffjax.lrp.linear import AveragePool, Conv, Dense
from tffjax.lrp.rules import Linear
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
        ledgers: layer name -> zeros (n, 5). The cotangent of each is what the layer did with relevance, see `account`.
    """

    composite: Composite = BETA0
    layers: tuple[Layer, ...] = ()
    ledgers: dict[str, jax.Array] = dataclasses.field(default_factory=dict)

    def conv(self, x: jax.Array, kernel: jax.Array, bias: jax.Array | None, geometry: Geometry, name: str) -> jax.Array:
        """Convolution."""
        return self._linear(Conv(geometry, self.precision), x, kernel, bias, name)

    def dense(self, x: jax.Array, kernel: jax.Array, bias: jax.Array | None, name: str) -> jax.Array:
        """Fully connected layer."""
        return self._linear(Dense(self.precision), x, kernel, bias, name)

    def mean_pool(self, x: jax.Array, name: str) -> jax.Array:
        """Global average pool."""
        return self._linear(AveragePool(), x, None, None, name)

    def average_pool(self, x: jax.Array, window: tuple[int, int], name: str) -> jax.Array:
        """Average over non-overlapping windows."""
        return self._linear(AveragePool(window), x, None, None, name)

    def batch_norm(self, y: jax.Array, *parameters: Any) -> jax.Array:
        """Batch norm, which relevance passes unchanged (canonize first, unless it is an emptied one)."""
        normalized = super().batch_norm(y, *parameters)
        return _hand_through(normalized, y) if self.composite.activation == "identity" else normalized

    def add(self, a: jax.Array, b: jax.Array, name: str) -> jax.Array:
        """Residual sum."""
        found = self.composite.rule_of(self.layer(name))
        if found is None:
            return a + b
        if found.function is rules.epsilon:
            found = Rule(rules.sum_epsilon, found.parameters)
        return _sum(found, a, b, self.ledgers.get(name))

    def activation(self, x: jax.Array, function: ops.Activation, name: str) -> jax.Array:
        """Activation."""
        if self.composite.activation == "guided":
            return _guided(functools.partial(super().activation, function=function, name=name), x)
        y = super().activation(x, function, name)
        return _hand_through(y, x) if self.composite.activation == "identity" else y

    def gate(self, x: jax.Array, gate: jax.Array, name: str) -> jax.Array:
        """Squeeze-excite product."""
        return x * gate if self.composite.gate == "gradient" else _hand_through(x * gate, x)

    def layer(self, name: str) -> Layer:
        """What is known of a layer."""
        return _by_name(self.layers)[name]

    def _linear(self, linear: Any, x: jax.Array, kernel: Any, bias: jax.Array | None, name: str) -> jax.Array:
        found = self.composite.rule_of(self.layer(name))
        if found is None:
            return ops.biased(linear.values(x, kernel), bias)
        return _explained(linear, found, self.layer(name).nonnegative, x, kernel, bias, self.ledgers.get(name))


@functools.cache
def _by_name(layers: tuple[Layer, ...]) -> dict[str, Layer]:
    return {layer.name: layer for layer in layers}


def account(entered: jax.Array, left: jax.Array, lost: rules.Lost) -> jax.Array:
    """What a layer did with relevance, (n, 5): entered, left, lost to bias, to the stabilizer, to zero denominators."""
    return jnp.stack([rules.per_image(entered), rules.per_image(left), *lost], axis=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _explained(
    linear: Any, rule: Rule, nonnegative: bool, x: jax.Array, kernel: Any, bias: Any, ledger: jax.Array | None
) -> jax.Array:
    return ops.biased(linear.values(x, kernel), bias)


def _explained_forward(
    linear: Any, rule: Rule, nonnegative: bool, x: Any, kernel: Any, bias: Any, ledger: Any
) -> tuple[Any, Any]:
    y = _explained(linear, rule, nonnegative, x, kernel, bias, ledger)
    return y, (x, kernel, bias, y, ledger)


def _explained_backward(
    linear: Any, rule: Rule, nonnegative: bool, residuals: Any, relevance: jax.Array
) -> tuple[Any, ...]:
    *arrays, ledger = residuals
    received, lost = rule(Linear(linear, *arrays, nonnegative), relevance)
    x, ledger = arrays[0], None if ledger is None else account(relevance, received, lost)
    return received.astype(x.dtype), None, None, ledger


_explained.defvjp(_explained_forward, _explained_backward)


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
