"""Passes compiled for the backend, inside and outside of transformations, and in micro-batches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances

from tffjax.compile.passes import Pass, compiler_options, in_micro_batches, micro_batch_of
from tffjax.nn import EfficientNetB0, Model, ResNet50


def layer(weights, x, scale=1.0):
    return scale * (x @ jnp.maximum(weights["a"], 0) + jnp.exp(weights["b"]))


@pytest.fixture
def weights():
    return {"a": jnp.linspace(-1, 1, 128 * 64).reshape(128, 64), "b": jnp.ones(64)}


@pytest.fixture
def images():
    return jnp.linspace(0, 1, 3 * 128).reshape(3, 128)


def test_a_pass_is_its_function(weights, images):
    run = Pass(layer, static_argnames=("scale",))
    for x in (images, images[:2], images):
        np.testing.assert_allclose(run(weights, x, scale=2.0), layer(weights, x, 2.0), rtol=tolerances.F32_PROGRAM)


def test_a_pass_is_traced_once_for_each_shape(weights, images):
    shapes = []

    def noted(weights, x):
        shapes.append(x.shape)
        return layer(weights, x)

    run = Pass(noted)
    for x in (images, images[:2], images, np.asarray(images)):
        run(weights, x)
    assert shapes == [images.shape, images[:2].shape]


def test_inside_of_transformations(weights, images):
    run = Pass(layer, static_argnames=("scale",))
    expected = layer(weights, images)
    np.testing.assert_allclose(jax.jit(run)(weights, images), expected, rtol=tolerances.F32_PROGRAM)
    np.testing.assert_allclose(jax.jit(lambda: run(weights, images))(), expected, rtol=tolerances.F32_PROGRAM)
    found = jax.vmap(lambda x: run(weights, x[None]))(images)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=tolerances.F32_PROGRAM)
    gradient = jax.grad(lambda weights: run(weights, images).sum())(weights)["b"]
    np.testing.assert_allclose(gradient, 3 * jnp.exp(weights["b"]), rtol=tolerances.F32_PROGRAM)


def test_there_are_no_options_for_double_precision(x64):
    assert compiler_options(jnp.ones(2, jnp.float32))
    assert not compiler_options(jnp.ones(2, jnp.float32), {"a": jnp.ones(2, jnp.float64)})


def test_micro_batches_of_trees():
    weights = {"a": jnp.arange(3.0), "b": jnp.float32(2)}

    def function(part):
        x, index = part
        return {"y": x * weights["a"] ** 2 + jnp.zeros(3), "w": weights["b"] * jnp.ones(len(x)), "i": index}

    batch = (jnp.arange(12.0).reshape(4, 3), jnp.arange(4))
    expected = function(batch)
    for size in (1, 2, 4, 5):
        found = in_micro_batches(function, batch, size)
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


def test_micro_batches_under_jit_and_gradient():
    def loss(weights, batch):
        return in_micro_batches(lambda x: x @ jnp.tanh(weights), batch, 2).sum()

    weights, batch = jnp.linspace(0, 1, 3), jnp.ones((4, 3))
    found = jax.jit(jax.grad(loss))(weights, batch)
    np.testing.assert_allclose(found, jax.grad(lambda w: (batch @ jnp.tanh(w)).sum())(weights), rtol=1e-6)


@pytest.mark.parametrize(
    ("module", "size", "count"),
    [(ResNet50(1), 224, 4), (ResNet50(1), 256, 4), (ResNet50(1), 128, 16), (EfficientNetB0(1), 224, 2)],
)
def test_images_at_once(module: nn.Module, size, count):
    images = jax.ShapeDtypeStruct((16, size, size, 3), jnp.float32)
    assert micro_batch_of(Model(module, jax.eval_shape(module.init, jax.random.key(0), images)), images) == count
