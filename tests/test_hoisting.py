"""What is taken out of a loop, and that the result stays the same."""

import jax
import jax.numpy as jnp
import numpy as np

from tffjax.compile.compilation import in_micro_batches
from tffjax.compile.hoisting import hoist, split


def _loop_body(function, weights, batch):
    """The operations inside of the loop over micro-batches of 2."""
    traced = jax.make_jaxpr(lambda weights, batch: in_micro_batches(lambda x: function(weights, x), batch, 2))
    (loop,) = [e for e in traced(weights, batch).jaxpr.eqns if e.primitive.name == "scan"]
    return [e.primitive.name for e in loop.params["jaxpr"].jaxpr.eqns]


def test_what_depends_on_weights_only_leaves_the_loop():
    body = _loop_body(lambda w, x: x * jnp.sin(w).sum() + jnp.exp(x), jnp.ones(3), jnp.ones((4, 5)))
    assert "exp" in body
    assert not {"sin", "reduce_sum"} & set(body)


def test_what_grows_much_stays_in_the_loop():
    def grown(w, x):
        return x[:, None] * jax.lax.broadcast(jnp.sin(w), (100,))

    body = _loop_body(grown, jnp.ones(5), jnp.ones((8, 5)))
    assert "sin" not in body
    assert "broadcast_in_dim" in body


def test_what_grows_on_the_way_is_not_kept():
    body = _loop_body(lambda w, x: x + jax.lax.broadcast(jnp.sin(w), (100,)).sum(), jnp.ones(5), jnp.ones((8, 5)))
    assert body == ["add"]


def test_the_result_is_the_same_for_trees_and_constants():
    weights = {"a": jnp.arange(3.0), "b": jnp.float32(2)}

    def function(part):
        x, index = part
        return {"y": x * weights["a"] ** 2 + jnp.zeros(3), "w": weights["b"] * jnp.ones(len(x)), "i": index}

    batch = (jnp.arange(12.0).reshape(4, 3), jnp.arange(4))
    expected = function(batch)
    for found in (hoist(function, batch)(batch), in_micro_batches(function, batch, 2)):
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


def test_a_function_in_two_parts():
    def function(weights, x, y):
        return {"z": x @ jnp.sin(weights["large"]) + jnp.cos(weights["small"]), "w": jnp.tanh(weights["large"]), "y": y}

    weights, rows = {"large": jnp.ones((64, 64)), "small": jnp.ones(64)}, jnp.ones((2, 64))
    parts = split(function, weights, rows, 3)
    prepared = parts.prepare(weights)
    assert len(prepared) == len(parts.keys) == 2
    found, expected = parts.rest(prepared, weights, 2 * rows, 4), function(weights, 2 * rows, 4)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    rest = [e.primitive.name for e in jax.make_jaxpr(parts.rest)(prepared, weights, rows, 3).jaxpr.eqns]
    assert {"dot_general", "cos"} <= set(rest)  # the cosine of few weights is not worth keeping
    assert not {"sin", "tanh"} & set(rest)


def test_under_jit_and_gradient():
    def loss(weights, batch):
        return in_micro_batches(lambda x: x @ jnp.tanh(weights), batch, 2).sum()

    weights, batch = jnp.linspace(0, 1, 3), jnp.ones((4, 3))
    found = jax.jit(jax.grad(loss))(weights, batch)
    np.testing.assert_allclose(found, jax.grad(lambda w: (batch @ jnp.tanh(w)).sum())(weights), rtol=1e-6)
