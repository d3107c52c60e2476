"""Winograd's convolution against XLA's own, and the forward pass of whole networks with it."""

import dataclasses

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances

from tffjax.compile.logits import forward
from tffjax.kernels.choice import CPU, XLA
from tffjax.kernels.convolution import Geometry, native
from tffjax.kernels.transpose import conv_transpose
from tffjax.kernels.winograd import convolve, suits, transform
from tffjax.lrp.linear import Conv
from tffjax.nn.ops import Plain


@pytest.mark.extended
@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 0), (0, 0)), ((0, 1), (2, 1))])
@pytest.mark.parametrize("size", [(6, 8), (7, 5), (3, 4)])
def test_equals_the_convolution(size, padding):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = jnp.asarray(rng.normal(size=(2, *size, 3))), jnp.asarray(rng.normal(size=(3, 3, 3, 5)))
        expected = native(x, kernel, Geometry(padding=padding), "float32")
        found = convolve(x, transform(kernel), padding)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.F64_IDENTITY)


@pytest.mark.extended
def test_one_tile_by_hand():
    """A 3x3 kernel of ones over 4x4 pixels 0...15: sums of the four 3x3 windows."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    y = convolve(x, transform(jnp.ones((3, 3, 1, 1))), ((0, 0), (0, 0)))
    np.testing.assert_array_equal(y[0, :, :, 0], [[45, 54], [81, 90]])


def test_the_kernel_transform_is_the_formula(x64):
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 5))
    expected = np.einsum("ia,abco,jb->ijco", g, kernel, g).reshape(16, 4, 5)
    np.testing.assert_allclose(transform(jnp.asarray(kernel)), expected, rtol=0, atol=tolerances.F64_IDENTITY)


def test_only_wide_3x3_kernels_of_stride_1_are_transformed():
    padded = Geometry(padding=((1, 1), (1, 1)))

    def is_transformed(*shape, precision="float32", kernels=CPU, **changes):
        return suits(jnp.zeros(shape), dataclasses.replace(padded, **changes), precision, kernels)

    assert is_transformed(3, 3, 64, 64)
    assert not is_transformed(3, 3, 63, 64)
    assert not is_transformed(1, 1, 64, 64)
    assert not is_transformed(3, 3, 64, 64, stride=(2, 2))
    assert not is_transformed(3, 3, 64, 128, groups=2)
    assert not is_transformed(3, 3, 64, 64, precision="bfloat16")
    assert not is_transformed(3, 3, 64, 64, kernels=XLA)


@pytest.mark.extended
@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 2), (1, 0))])
def test_the_transpose_of_a_wide_convolution(padding, x64):
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 64, 65)))
    x, geometry = jnp.zeros((1, 6, 7, 64)), Geometry(padding=padding)
    y, pullback = jax.vjp(lambda x: native(x, kernel, geometry, "float32"), x)
    s = jnp.asarray(rng.normal(size=y.shape))
    found = conv_transpose(s, kernel, geometry, x.shape[1:3])
    np.testing.assert_allclose(found, pullback(s)[0], rtol=0, atol=100 * tolerances.F64_IDENTITY)


def test_denominators_are_exactly_zero_where_all_contributions_are():
    """Half of the inputs are zero where the kernel is not: no noise may stand there."""
    rng = np.random.default_rng(0)
    x = rng.random((1, 6, 6, 128)).astype(np.float32)
    x[..., ::2] = 0
    kernel = rng.random((3, 3, 128, 64)).astype(np.float32)
    kernel[:, :, 1::2, :32] = 0
    linear = Conv(Geometry(padding=((1, 1), (1, 1))))
    z = np.asarray(linear(jnp.asarray(x), jnp.asarray(kernel)))
    np.testing.assert_array_equal(z[..., :32], 0)
    assert (z[..., 32:] > 0).all()


class _Native(Plain):
    def _conv(self, name, x, kernel, bias, geometry):
        y = native(x, kernel, geometry, self.precision)
        return y if bias is None else y + bias


@pytest.mark.slow
def test_the_forward_pass_of_resnet50_is_the_same():
    with jax.enable_x64(True):
        model = cases.RESNET50.random_model().astype("float64")
        images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 64, 3)))
        found, expected = forward(model, images), model(images, _Native())
        np.testing.assert_allclose(found, expected, rtol=tolerances.F64_IDENTITY, atol=0)
