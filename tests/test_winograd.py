"""Winograd's convolution against XLA's own, and the forward pass of whole networks with it."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances

from tffjax.convolution import Geometry, native
from tffjax.predictions import forward
from tffjax.winograd import Winograd, convolve, transform, transformed_kernels


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 0), (0, 0)), ((0, 1), (2, 1))])
@pytest.mark.parametrize("size", [(6, 8), (7, 5), (3, 4)])
def test_equals_the_convolution(size, padding):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = jnp.asarray(rng.normal(size=(2, *size, 3))), jnp.asarray(rng.normal(size=(3, 3, 3, 5)))
        expected = native(x, kernel, Geometry(padding=padding), "highest")
        found = convolve(x, transform(kernel), padding)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.F64_IDENTITY)


def test_one_tile_by_hand():
    """A 3x3 kernel of ones over 4x4 pixels 0...15: sums of the four 3x3 windows."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    y = convolve(x, transform(jnp.ones((3, 3, 1, 1))), ((0, 0), (0, 0)))
    np.testing.assert_array_equal(y[0, :, :, 0], [[45, 54], [81, 90]])


def test_only_wide_3x3_kernels_are_transformed():
    resnet = transformed_kernels(cases.RESNET50.random_model())
    assert set(resnet) == {f"layer{s}.{b}.conv2" for s, n in ((2, 4), (3, 6), (4, 3)) for b in range(n)}
    assert not transformed_kernels(cases.B0_SAME.random_model())


def test_strided_layers_take_the_plain_convolution():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((1, 8, 8, 4), (3, 3, 4, 4)))
    geometry = Geometry(stride=(2, 2), padding=((1, 1), (1, 1)))
    ops = Winograd(kernels={"a": transform(kernel)})
    np.testing.assert_array_equal(ops.conv(x, kernel, None, geometry, "a"), native(x, kernel, geometry, "highest"))


def test_the_forward_pass_of_resnet50_is_the_same():
    with jax.enable_x64(True):
        model = cases.RESNET50.random_model().astype("float64")
        images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 64, 3)))
        found, expected = forward(model, images), model(images)
        np.testing.assert_allclose(found, expected, rtol=tolerances.F64_IDENTITY, atol=0)
