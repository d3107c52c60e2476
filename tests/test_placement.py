"""Batches on several devices (tests run with two fake ones)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances
from small import small_model

from tffjax.compile.logits import forward
from tffjax.compile.passes import micro_batch_size
from tffjax.compile.placement import batch_sharding, put, put_model
from tffjax.nn import Model


def test_a_batch_is_divided_among_the_devices():
    tree = put({"images": np.arange(24, dtype=np.float32).reshape(4, 2, 3), "weights": np.ones(4, np.float32)})
    parts = [(shard.device, shard.data) for shard in tree["images"].addressable_shards]
    assert [device for device, _ in parts] == jax.local_devices()
    np.testing.assert_array_equal(np.concatenate([data for _, data in parts]), tree["images"])
    assert len(tree["weights"].devices()) == 2


@pytest.fixture(scope="module")
def model() -> Model:
    return small_model(jnp.float32)


def test_a_model_stays_the_same_arrays_once_it_is_placed(model):
    placed = put_model(model, 4)
    again = put_model(placed, 4)
    assert all(a is b for a, b in zip(jax.tree.leaves(placed), jax.tree.leaves(again), strict=True))


def test_a_batch_that_cannot_be_divided_stays_whole():
    assert batch_sharding(3) is None
    assert put(np.ones((3, 2), np.float32)).devices() == {jax.local_devices()[0]}


def test_logits_do_not_depend_on_the_number_of_devices(model):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 64, 64, 3)), jnp.float32)
    whole = jax.jit(forward)(model, images)
    spread = jax.jit(lambda model, images: model(images))(put_model(model, 4), put(images))
    assert len(spread.devices()) == 2
    np.testing.assert_allclose(spread, whole, rtol=tolerances.F32_PROGRAM, atol=tolerances.F32_PROGRAM)


def test_a_spread_batch_is_taken_whole():
    images = np.ones((8, 4, 4, 3), np.float32)
    assert micro_batch_size(images, 5) == 4
    assert micro_batch_size(put(images), 5) == 8
    assert micro_batch_size(jax.ShapeDtypeStruct(images.shape, images.dtype, sharding=batch_sharding(8)), 5) == 8
    assert micro_batch_size(jax.ShapeDtypeStruct(images.shape, images.dtype), 5) == 4
