"""Convolution and its transpose against an explicit matrix, on the path for CPUs and on the one for the rest."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import tolerances
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tffjax.kernels import choice
from tffjax.kernels.convolution import Geometry, conv, same_padding
from tffjax.kernels.transpose import conv_transpose

pytestmark = pytest.mark.usefixtures("x64")

# size, kernel size, stride, padding, dilation, groups, input channels, output channels
SHAPES = {
    "1x1": ((5, 4), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1, 3, 4),
    "1x1, strided, odd": ((5, 7), (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1, 3, 4),
    "1x1, strided, even": ((6, 4), (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1, 3, 4),
    "1x1, padded": ((3, 4), (1, 1), (2, 1), ((1, 0), (0, 2)), (1, 1), 1, 2, 3),
    "1x1, grouped": ((5, 4), (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 2, 4, 6),
    "3x3": ((5, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, 2, 3),
    "3x3, strided, odd": ((7, 5), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1, 2, 3),
    "3x3, strided, even": ((6, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1, 2, 3),
    "3x3, tensorflow": ((6, 8), (3, 3), (2, 2), ((0, 1), (0, 1)), (1, 1), 1, 2, 3),
    "7x7, strided": ((11, 10), (7, 7), (2, 2), ((3, 3), (3, 3)), (1, 1), 1, 3, 2),
    "stride beyond the kernel": ((9, 8), (2, 2), (3, 4), ((0, 0), (0, 0)), (1, 1), 1, 2, 2),
    "different axes": ((7, 9), (2, 5), (3, 1), ((0, 1), (4, 2)), (1, 1), 1, 2, 3),
    "padding beyond the kernel": ((3, 4), (3, 2), (1, 2), ((4, 5), (3, 0)), (1, 1), 1, 2, 2),
    "rows that no window meets": ((8, 8), (3, 3), (3, 3), ((0, 0), (0, 0)), (1, 1), 1, 2, 2),
    "kernel as large as the image": ((4, 3), (4, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1, 2, 3),
    "one pixel": ((1, 1), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1, 2, 3),
    "depthwise": ((6, 5), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 4, 4, 4),
    "depthwise, strided": ((7, 8), (3, 3), (2, 2), ((0, 1), (1, 1)), (1, 1), 4, 4, 4),
    "depthwise, 5x5, tensorflow": ((8, 7), (5, 5), (2, 2), ((1, 2), (2, 2)), (1, 1), 3, 3, 3),
    "depthwise, 1x1, strided": ((5, 5), (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 3, 3, 3),
    "depthwise with a multiplier": ((6, 5), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 3, 3, 6),
    "grouped": ((6, 5), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 2, 4, 6),
    "grouped, strided": ((6, 5), (3, 2), (2, 2), ((1, 0), (1, 1)), (1, 1), 2, 4, 2),
    "dilated": ((8, 9), (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), 1, 2, 3),
    "dilated, strided": ((9, 8), (3, 2), (2, 1), ((2, 1), (0, 3)), (2, 3), 1, 2, 3),
    "dilated, grouped": ((8, 7), (3, 3), (2, 2), ((2, 2), (1, 2)), (2, 1), 2, 4, 4),
    "dilated, depthwise": ((8, 7), (3, 3), (1, 1), ((2, 2), (1, 2)), (2, 2), 3, 3, 3),
}
# XLA's own transpose on a CPU ends the process for some grouped, strided or dilated shapes, so the other path is
# tried on these only.
NATIVE = [
    name
    for name, (size, kernel, stride, _, dilation, groups, *_) in SHAPES.items()
    if groups == 1 and dilation == (1, 1) and max(stride) <= 2 and all(np.less(kernel, size))
]


def arrays(size, kernel_size, channels, out, groups, count=2):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, *size, channels))
    return x, rng.standard_normal((*kernel_size, channels // groups, out))


def compiled(function, *static, kernels=choice.CPU):
    """One program instead of many small ones."""
    return jax.jit(lambda array, kernel: function(array, kernel, *static, kernels=kernels))


def check(size, kernel_size, stride, padding, dilation, groups, channels, out, kernels=choice.CPU):
    """Forward, transpose and adjoint identity of one shape."""
    x, kernel = arrays(size, kernel_size, channels, out, groups)
    geometry = Geometry(stride, padding, dilation, groups)
    explicit = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    expected = oracles.convolve(x, kernel, **explicit)
    ours = compiled(conv, geometry, kernels=kernels)(x, kernel)
    assert ours.dtype == jnp.float64
    assert geometry.output_size(size, kernel_size) == ours.shape[1:3]
    close(ours, expected)

    y = np.random.default_rng(1).standard_normal(expected.shape)
    back = compiled(conv_transpose, geometry, size, kernels=kernels)(y, kernel)
    close(back, oracles.convolve_transposed(y, kernel, size, **explicit))
    scale = np.linalg.norm(expected) * np.linalg.norm(y)
    assert abs(np.vdot(ours, y) - np.vdot(x, back)) <= tolerances.F64_CONVOLUTION * scale


def close(ours, expected):
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerances.F64_CONVOLUTION * np.abs(expected).max())


@pytest.mark.parametrize("name", SHAPES)
def test_on_a_cpu(name):
    check(*SHAPES[name])


@pytest.mark.parametrize("name", NATIVE)
def test_as_xla_does_it(name):
    check(*SHAPES[name], kernels=choice.XLA)


@pytest.mark.parametrize("name", SHAPES)
def test_as_patches(name):
    check(*SHAPES[name], kernels=dataclasses.replace(choice.GPU, spread=True))


def test_with_nothing_chosen_every_shape_is_the_native_convolution():
    for size, kernel_size, stride, padding, dilation, groups, channels, out in SHAPES.values():
        x, kernel = arrays(size, kernel_size, channels, out, groups)
        geometry = Geometry(stride, padding, dilation, groups)
        (equation,) = jax.make_jaxpr(functools.partial(conv, geometry=geometry, kernels=choice.XLA))(x, kernel).eqns
        assert equation.primitive.name == "conv_general_dilated"


def test_a_cpu_gets_no_native_depthwise_convolution_nor_a_strided_transpose():
    size, kernel_size, stride, padding, dilation, groups, channels, out = SHAPES["depthwise, strided"]
    x, kernel = arrays(size, kernel_size, channels, out, groups)
    geometry = Geometry(stride, padding, dilation, groups)
    forward = str(jax.make_jaxpr(lambda x, kernel: conv(x, kernel, geometry))(x, kernel))
    y = np.zeros((len(x), *geometry.output_size(size, kernel_size), out))
    backward = str(jax.make_jaxpr(lambda y, kernel: conv_transpose(y, kernel, geometry, size))(y, kernel))
    assert "conv_general_dilated" not in forward + backward


small = st.integers(1, 3)
pairs = st.tuples(small, small)
pads = st.tuples(st.integers(0, 4), st.integers(0, 4))


@pytest.mark.extended
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    kernel_size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=pairs,
    padding=st.tuples(pads, pads),
    dilation=st.one_of(st.just((1, 1)), st.tuples(st.integers(1, 2), st.integers(1, 2))),
    groups=small,
    inside=st.integers(1, 2),
    outside=st.integers(1, 2),
)
def test_any_shape_on_a_cpu(size, kernel_size, stride, padding, dilation, groups, inside, outside):
    geometry = Geometry(stride, padding, dilation, groups)
    assume(min(geometry.output_size(size, kernel_size)) >= 1)
    check(size, kernel_size, stride, padding, dilation, groups, groups * inside, groups * outside)


# XLA's own transpose, which the gradient takes, ends the process for some grouped shapes; depthwise ones avoid it
@pytest.mark.parametrize("name", ["3x3, strided, even", "depthwise, strided", "1x1, strided, odd"])
def test_the_gradient_of_conv_is_its_transpose(name):
    size, kernel_size, stride, padding, dilation, groups, channels, out = SHAPES[name]
    x, kernel = arrays(size, kernel_size, channels, out, groups)
    geometry = Geometry(stride, padding, dilation, groups)

    @jax.jit
    def both(x, kernel):
        y, pull = jax.vjp(lambda x: conv(x, kernel, geometry), x)
        return pull(jnp.cos(y))[0], conv_transpose(jnp.cos(y), kernel, geometry, size)

    gradient, transposed = both(x, kernel)
    close(transposed, np.asarray(gradient))


def test_an_empty_batch_gives_an_empty_batch():
    x, kernel = arrays((5, 5), (3, 3), 2, 2, 2, count=0)
    geometry = Geometry((2, 2), ((1, 1), (1, 1)), groups=2)
    y = compiled(conv, geometry)(x, kernel)
    assert y.shape == (0, 3, 3, 2)
    assert compiled(conv_transpose, geometry, (5, 5))(y, kernel).shape == (0, 5, 5, 2)


def test_float32_stays_float32():
    size, kernel_size, stride, padding, dilation, groups, channels, out = SHAPES["depthwise, strided"]
    x, kernel = (a.astype(np.float32) for a in arrays(size, kernel_size, channels, out, groups))
    geometry = Geometry(stride, padding, dilation, groups)
    y = compiled(conv, geometry)(x, kernel)
    assert y.dtype == jnp.float32
    assert compiled(conv_transpose, geometry, size)(y, kernel).dtype == jnp.float32


# Geometry


@pytest.mark.parametrize(
    ("n", "kernel", "stride", "before", "after"),
    [
        # (ceil(n / s) - 1) * s + k - n
        (224, 3, 2, 0, 1),  # 111 * 2 + 3 - 224 = 1
        (225, 3, 2, 1, 1),  # 112 * 2 + 3 - 225 = 2
        (112, 5, 2, 1, 2),  # 55 * 2 + 5 - 112 = 3
        (7, 5, 1, 2, 2),  # 6 + 5 - 7 = 4
        (8, 2, 1, 0, 1),  # 7 + 2 - 8 = 1
        (6, 1, 2, 0, 0),  # 2 * 2 + 1 - 6 = -1, so none
        (9, 2, 4, 0, 1),  # 2 * 4 + 2 - 9 = 1
        (1, 7, 2, 3, 3),  # 0 + 7 - 1 = 6
    ],
)
def test_same_padding_by_hand(n, kernel, stride, before, after):
    assert same_padding((n, n), (kernel, kernel), (stride, stride)) == ((before, after), (before, after))


def test_same_padding_of_each_axis_by_itself():
    assert same_padding((225, 7), (3, 5), (2, 1)) == ((1, 1), (2, 2))


def test_same_padding_gives_one_output_a_stride():
    for n, kernel, stride in itertools.product(range(1, 12), range(1, 6), range(1, 4)):
        geometry = Geometry((stride, stride), same_padding((n, n), (kernel, kernel), (stride, stride)))
        assert geometry.output_size((n, n), (kernel, kernel)) == (-(-n // stride),) * 2
