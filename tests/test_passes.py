"""Programs: what depends on the weights only is done once a model and kept as long as the model."""

import gc

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances

from tffjax.compile import passes
from tffjax.compile.passes import Pass, Program, micro_batch_of
from tffjax.nn import EfficientNetB0, Model, ResNet50


@pytest.fixture
def weights():
    return {"a": jnp.linspace(-1, 1, 128 * 64).reshape(128, 64), "b": jnp.ones(64)}


@pytest.fixture
def images():
    return jnp.linspace(0, 1, 3 * 128).reshape(3, 128)


def layer(weights, x, scale=1.0):
    return scale * (x @ jnp.maximum(weights["a"], 0) + jnp.exp(weights["b"]))


def derived(weights):
    key = tuple(id(leaf) for leaf in jax.tree.leaves(weights))
    return passes._kept[key].derived if key in passes._kept else {}


def test_a_pass_is_its_function(weights, images):
    run = Pass(layer, static_argnames=("scale",))
    for x in (images, images[:2], images):
        np.testing.assert_allclose(run(weights, x, scale=2.0), layer(weights, x, 2.0), rtol=tolerances.F32_PROGRAM)
    assert len(run._programs) == 2


def test_inside_of_transformations(weights, images):
    run = Pass(layer, static_argnames=("scale",))
    expected = layer(weights, images)
    np.testing.assert_allclose(jax.jit(run)(weights, images), expected, rtol=tolerances.F32_PROGRAM)
    found = jax.vmap(lambda x: run(weights, x[None]))(images)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=tolerances.F32_PROGRAM)
    gradient = jax.grad(lambda weights: run(weights, images).sum())(weights)["b"]
    np.testing.assert_allclose(gradient, 3 * jnp.exp(weights["b"]), rtol=tolerances.F32_PROGRAM)


def test_programs_share_what_is_made_of_the_same_weights(weights, images):
    first, second = Program(layer, weights, images), Program(lambda w, x: layer(w, x) + 1, weights, images[:1])
    first(weights, images)
    (kept,) = derived(weights).values()
    np.testing.assert_array_equal(kept, np.maximum(weights["a"], 0))  # exp(b) is too small to be kept
    second(weights, images[:1])
    assert [array is kept for array in derived(weights).values()] == [True]


def test_other_operations_and_other_weights_are_told_apart(weights, images):
    def both(weights, x):
        return x @ jnp.maximum(weights["a"], 0) + x @ jnp.maximum(weights["a"], 1) + x @ jnp.minimum(weights["a"], 0)

    run = Pass(both)
    other = {"a": weights["a"] - 0.5, "b": weights["b"]}
    for model in (weights, other, weights):
        np.testing.assert_allclose(run(model, images), both(model, images), rtol=tolerances.F32_PROGRAM)
    assert len(derived(weights)) == len(derived(other)) == 3


def test_it_goes_with_the_model(weights, images):
    Pass(layer)(weights, images)
    key = tuple(id(leaf) for leaf in jax.tree.leaves(weights))
    assert key in passes._kept
    weights.clear()
    gc.collect()
    assert key not in passes._kept


def test_numpy_weights_may_change_in_place(images):
    weights = {"a": np.ones((128, 64), np.float32), "b": np.zeros(64, np.float32)}
    run = Pass(layer)
    run(weights, images)
    weights["a"] *= 2
    np.testing.assert_allclose(run(weights, images), layer(weights, images), rtol=tolerances.F32_PROGRAM)


@pytest.mark.parametrize(
    ("module", "size", "count"),
    [(ResNet50(1), 224, 4), (ResNet50(1), 256, 4), (ResNet50(1), 128, 16), (EfficientNetB0(1), 224, 2)],
)
def test_images_at_once(module: nn.Module, size, count):
    images = jax.ShapeDtypeStruct((16, size, size, 3), jnp.float32)
    assert micro_batch_of(Model(module, jax.eval_shape(module.init, jax.random.key(0), images)), images) == count
