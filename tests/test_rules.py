"""Every rule against fractions worked by hand and against the explicit matrix of the layer."""

import functools
from fractions import Fraction as F
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import rule_oracles
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tffjax.errors import InputError
from tffjax.kernels.choice import Kernels
from tffjax.kernels.convolution import Geometry
from tffjax.lrp import rules
from tffjax.lrp.composites import rule
from tffjax.lrp.linear import AveragePool, Bilinear, Conv, ConvTranspose, Dense
from tffjax.lrp.redistribution import Linear
from tffjax.nn.ops import max_pool

pytestmark = pytest.mark.usefixtures("x64")


def on(linear, function, nonnegative=False, **parameters):
    """A rule as a function of (x, kernel, bias, output, relevance)."""
    applied = rule(function, **parameters)
    return lambda x, kernel, bias, output, relevance: applied(
        Linear(linear, x, kernel, bias, output, nonnegative), relevance
    )


class Layer(NamedTuple):
    """A linear layer: the product's map, the explicit matrix of a kernel, and shapes without the batch axis."""

    linear: Any
    matrix: Any
    inputs: tuple[int, ...]
    kernel: tuple[int, ...] | None
    outputs: tuple[int, ...]


def conv_layer(size, kernel, channels, out, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    kernel = (*kernel, channels // groups, out)

    def matrix(kernel):
        return oracles.convolution_matrix(size, kernel, **geometry)[0]

    outputs = oracles.convolution_matrix(size, np.zeros(kernel), **geometry)[1]
    return Layer(Conv(Geometry(**geometry)), matrix, (*size, channels), kernel, outputs)


def transposed_layer(size, kernel, channels, out, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    kernel = (*kernel, channels // groups, out)

    def matrix(kernel):
        return oracles.transposed_matrix(size, kernel, **geometry)[0]

    outputs = oracles.transposed_matrix(size, np.zeros(kernel), **geometry)[1]
    return Layer(ConvTranspose(Geometry(**geometry)), matrix, (*size, channels), kernel, outputs)


def pool_layer(size, channels, window=None, count_padding=False, **geometry):
    linear = AveragePool(window, Geometry(**geometry) if geometry else None, count_padding)
    more = {**geometry, "count_padding": count_padding}
    matrix, outputs = rule_oracles.average_pool_matrix(size, channels, window or size, **more)
    return Layer(linear, lambda kernel: matrix, (*size, channels), None, outputs if window else (channels,))


def bilinear_layer(size, channels, factor):
    matrix, outputs = oracles.upsampling_matrix(size, channels, factor, bilinear=True)
    return Layer(Bilinear(factor), lambda kernel: matrix, (*size, channels), None, outputs)


LAYERS = {
    "1x1": conv_layer((3, 2), (1, 1), 3, 4),
    "1x1, strided, odd": conv_layer((3, 5), (1, 1), 3, 2, stride=(2, 2)),
    "3x3, even": conv_layer((4, 6), (3, 3), 2, 2, padding=((1, 1), (1, 1))),
    "3x3, strided, even": conv_layer((6, 4), (3, 3), 2, 2, stride=(2, 2), padding=((1, 1), (1, 1))),
    "3x3, strided, odd, asymmetric": conv_layer((5, 7), (3, 3), 2, 2, stride=(2, 2), padding=((0, 1), (1, 0))),
    "different axes": conv_layer((5, 6), (2, 3), 2, 2, stride=(3, 1), padding=((0, 1), (2, 1))),
    "outputs of padding only": conv_layer((2, 3), (2, 2), 2, 2, padding=((2, 3), (2, 0))),
    "depthwise": conv_layer((4, 5), (3, 3), 3, 3, padding=((1, 1), (1, 1)), groups=3),
    "depthwise, strided": conv_layer((5, 4), (3, 3), 3, 3, stride=(2, 2), padding=((0, 1), (1, 1)), groups=3),
    "grouped": conv_layer((4, 3), (3, 2), 4, 2, stride=(2, 1), padding=((1, 0), (0, 1)), groups=2),
    "dilated": conv_layer((5, 6), (3, 2), 2, 2, padding=((2, 1), (0, 2)), dilation=(2, 3)),
    "dilated, strided, grouped": conv_layer(
        (6, 5), (2, 3), 4, 2, stride=(2, 1), padding=((1, 1), (2, 1)), dilation=(3, 1), groups=2
    ),
    "1-d, dilated, strided": conv_layer((1, 9), (1, 3), 2, 3, stride=(1, 2), padding=((0, 0), (2, 1)), dilation=(1, 2)),
    "transposed 4x4/2": transposed_layer((3, 4), (4, 4), 2, 3, stride=(2, 2), padding=((1, 1), (1, 1))),
    "transposed, flat of stride 1": transposed_layer((3, 2), (3, 3), 2, 2, padding=((1, 1), (1, 1))),
    "transposed, gaps between the outputs": transposed_layer(
        (2, 3), (1, 2), 2, 2, stride=(3, 3), padding=((0, -2), (0, 0))
    ),
    "transposed, asymmetric": transposed_layer((3, 2), (3, 2), 2, 2, stride=(2, 1), padding=((2, 0), (0, 1))),
    "transposed, depthwise": transposed_layer((3, 3), (3, 3), 3, 3, stride=(2, 2), padding=((1, 0), (1, 0)), groups=3),
    "transposed, grouped, dilated": transposed_layer(
        (3, 2), (2, 3), 4, 6, stride=(2, 1), padding=((1, 0), (1, 2)), dilation=(2, 2), groups=2
    ),
    "dense": Layer(Dense(), np.transpose, (7,), (7, 5), (5,)),
    "mean pool": pool_layer((2, 4), 3),
    "average pool with a rest": pool_layer((5, 7), 2, (2, 4)),
    # powers of two in each window, so that averages of sixteenths are exact
    "average pool, overlapping": pool_layer((6, 6), 2, (4, 2), stride=(1, 2)),
    "average pool, padding counts": pool_layer((4, 5), 2, (2, 4), True, stride=(2, 2), padding=((1, 1), (1, 0))),
    "average pool, padding left out": pool_layer((4, 5), 2, (2, 2), False, stride=(2, 1), padding=((1, 1), (1, 0))),
    "average pool, windows of padding": pool_layer((2, 3), 2, (2, 2), padding=((2, 0), (0, 3)), stride=(1, 2)),
    "average pool, dilated": pool_layer(
        (5, 6), 2, (2, 4), True, stride=(1, 1), padding=((1, 0), (0, 1)), dilation=(3, 2)
    ),
    "bilinear": bilinear_layer((3, 2), 2, (2, 3)),
    "bilinear of one row": bilinear_layer((1, 4), 2, (4, 1)),
}

CHANNEL_BOUNDS = {  # cut to the number of channels
    "low": (-3.0, -2.5, -4.0, -2.0, -3.5, 0.0, -1.0),
    "high": (3.0, 4.0, 2.5, 5.0, 3.5, 2.0, 0.0),
}
RULES = {
    "epsilon": (rules.epsilon, rule_oracles.epsilon, {}),
    "epsilon 0.25": (rules.epsilon, rule_oracles.epsilon, {"epsilon": 0.25}),
    "epsilon 0": (rules.epsilon, rule_oracles.lrp_0, {"epsilon": 0.0}),
    "z+": (rules.z_plus, rule_oracles.z_plus, {}),
    "z+ with bias": (rules.z_plus, rule_oracles.z_plus, {"bias": True}),
    "z+ with bias, epsilon": (rules.z_plus, rule_oracles.z_plus, {"bias": True, "epsilon": 0.25}),
    "alpha 2 beta 1": (rules.alpha_beta, rule_oracles.alpha_beta, {}),
    "alpha 1 beta 0": (rules.alpha_beta, rule_oracles.alpha_beta, {"alpha": 1.0, "beta": 0.0}),
    "alpha 1.5 beta 0.5": (rules.alpha_beta, rule_oracles.alpha_beta, {"alpha": 1.5, "beta": 0.5}),
    "alpha 2 beta 1 with bias": (rules.alpha_beta, rule_oracles.alpha_beta, {"bias": True, "epsilon": 0.25}),
    "beta adaptive": (rules.beta_adaptive, rule_oracles.beta_adaptive, {}),
    "beta adaptive 1.5": (rules.beta_adaptive, rule_oracles.beta_adaptive, {"beta_max": 1.5}),
    "z box": (rules.z_box, rule_oracles.z_box, {"low": -3.0, "high": 3.5}),
    "z box by channel": (rules.z_box, rule_oracles.z_box, CHANNEL_BOUNDS),
    "gamma": (rules.gamma, rule_oracles.gamma, {}),
    "gamma 1": (rules.gamma, rule_oracles.gamma, {"gamma": 1.0, "epsilon": 0.25}),
    "w square": (rules.w_square, rule_oracles.w_square, {}),
    "w square with bias": (rules.w_square, rule_oracles.w_square, {"bias": True, "epsilon": 0.25}),
    "flat": (rules.flat, rule_oracles.flat, {}),
    "flat, epsilon": (rules.flat, rule_oracles.flat, {"epsilon": 0.25}),
}
# On layers beyond these, one set of constants a rule; pools have no weights for the other rules to act on.
ALL_CONSTANTS = ("3x3, strided, odd, asymmetric", "depthwise", "dense", "transposed, grouped, dilated")
ONE_SET = (
    "epsilon",
    "z+",
    "alpha 2 beta 1",
    "alpha 2 beta 1 with bias",
    "beta adaptive",
    "z box by channel",
    "gamma",
    "w square with bias",
    "flat",
)


def parameters_of(name, layer):
    function, oracle, parameters = RULES[name]
    if parameters is CHANNEL_BOUNDS:
        parameters = {key: values[: layer.inputs[-1]] for key, values in parameters.items()}
    return function, oracle, parameters


@functools.cache
def compiled(layer_name, rule_name):
    layer = LAYERS[layer_name]
    function, _, parameters = parameters_of(rule_name, layer)
    return jax.jit(on(layer.linear, function, **parameters))


@functools.cache
def forward(layer_name):
    linear = LAYERS[layer_name].linear
    return jax.jit(lambda x, kernel, bias: linear(x, kernel) + (0 if bias is None else bias))


class Data(NamedTuple):
    """What a rule is given: input, kernel, bias and relevance."""

    x: Any
    kernel: Any
    bias: Any
    relevance: Any


def random_data(layer, kind):
    """Two images.

    - "numbers": normal numbers.
    - "sixteenths": sixteenths, with many zeros in the input and the relevance. All sums are exact, so that exactly zero
      denominators occur.
    """
    rng = np.random.default_rng(0)
    shapes = [(2, *layer.inputs), layer.kernel or (), layer.outputs[-1:], (2, *layer.outputs)]
    if kind == "numbers":
        data = Data(*(rng.standard_normal(shape) for shape in shapes))
    else:
        data = Data(*(rng.integers(-3, 4, shape) / 16 for shape in shapes))
        data.bias[:] *= np.arange(len(data.bias)) % 3 / 16  # a zero, and the size of the products x * w
        data.relevance[0, ..., 0] = 0
        data.x[:, ::2] *= rng.integers(0, 2, data.x[:, ::2].shape)
    return data if layer.kernel else data._replace(kernel=None, bias=None)


def ours(layer_name, rule_name, data):
    output = forward(layer_name)(data.x, data.kernel, data.bias)
    return compiled(layer_name, rule_name)(data.x, data.kernel, data.bias, output, data.relevance)


def by_oracle(layer, rule_name, data):
    """One `Account` an image."""
    _, oracle, parameters = parameters_of(rule_name, layer)
    kernel = np.ones(layer.kernel) if rule_name.startswith("flat") else data.kernel
    matrix = layer.matrix(kernel)
    bias = np.broadcast_to(0.0 if data.bias is None else data.bias, layer.outputs).ravel()
    flat = [(x.ravel(), r.ravel()) for x, r in zip(data.x, data.relevance, strict=True)]
    return [oracle(matrix, bias, x, r, **parameters) for x, r in flat]


def check(layer_name, rule_name, data):
    layer = LAYERS[layer_name]
    received, lost = ours(layer_name, rule_name, data)
    accounts = by_oracle(layer, rule_name, data)
    assert received.shape == data.x.shape
    for image, account in enumerate(accounts):
        error = np.abs(np.ravel(received[image]) - account.received)
        assert (error <= tolerances.RULE * np.array(account.magnitude)).all()
        # Losses are differences of sums over the whole image, so their rounding is that of all its terms.
        scale = tolerances.RULE * (sum(account.magnitude) + np.abs(data.relevance[image]).sum())
        for part in ("bias", "stabilizer", "zero"):
            assert abs(getattr(lost, part)[image] - getattr(account, part)) <= scale, part
        assert abs(data.relevance[image].sum() - received[image].sum() - sum(part[image] for part in lost)) <= scale


def applicable(layer_name):
    if layer_name in ALL_CONSTANTS:
        return RULES
    return ONE_SET if LAYERS[layer_name].kernel else ("epsilon", "epsilon 0.25")


# By hand: three inputs, two outputs. The contributions x * w of the inputs are (3, 2, -8) to the first output, which
# is 1 with its bias, and (1, -4, 2) to the second, which is -2.

X = np.array([[1.0, -2, 2]])
KERNEL = np.array([[3.0, 1], [-1, 2], [-4, 1]])
BIAS = np.array([4.0, -1])
RELEVANCE = np.array([[1.0, 3]])
BY_HAND = {
    # z + epsilon sign(z) = 3/2 and -5/2
    "epsilon": (
        rules.epsilon,
        {"epsilon": 0.5},
        [3 / F(3, 2) - 3 * 1 / F(5, 2), 2 / F(3, 2) + 3 * 4 / F(5, 2), -8 / F(3, 2) - 3 * 2 / F(5, 2)],
    ),
    # positive contributions 3 + 2 and 1 + 2
    "z+": (rules.z_plus, {}, [F(3, 5) + 3 * F(1, 3), F(2, 5), 3 * F(2, 3)]),
    # with the positive bias 4 of the first output, and 1: 10 and 4
    "z+ with bias": (
        rules.z_plus,
        {"bias": True, "epsilon": 1.0},
        [F(3, 10) + 3 * F(1, 4), F(2, 10), 3 * F(2, 4)],
    ),
    # negative contributions -8 and -4, one input each
    "alpha 2 beta 1": (rules.alpha_beta, {}, [2 * (F(3, 5) + 1), 2 * F(2, 5) - 3, 2 * F(2) - 1]),
    "alpha 3 beta 2": (
        rules.alpha_beta,
        {"alpha": 3.0, "beta": 2.0},
        [3 * (F(3, 5) + 1), 3 * F(2, 5) - 2 * 3, 3 * F(2) - 2 * 1],
    ),
    # positive ones as in z+ with bias; negative ones -8 - 1 and -4 - 1 (bias) - 1
    "alpha 2 beta 1 with bias": (
        rules.alpha_beta,
        {"bias": True, "epsilon": 1.0},
        [2 * (F(3, 10) + 3 * F(1, 4)), 2 * F(2, 10) - 3 * F(4, 6), 2 * 3 * F(2, 4) - F(8, 9)],
    ),
    # -Z- / y = 8 / 1, capped at 9/2, and 0 where y < 0
    "beta adaptive": (
        rules.beta_adaptive,
        {},
        [F(11, 2) * F(3, 5) + 1, F(11, 2) * F(2, 5), -F(9, 2) + 2],
    ),
    # (x + 3) w+ + (x - 4) w-: 12, 6, 8 and 4, 2, 5; z + epsilon = 53/2 and 23/2
    "z box": (
        rules.z_box,
        {"low": -3.0, "high": 4.0, "epsilon": 0.5},
        [12 / F(53, 2) + 3 * 4 / F(23, 2), 6 / F(53, 2) + 3 * 2 / F(23, 2), 8 / F(53, 2) + 3 * 5 / F(23, 2)],
    ),
    # bounds (-1, 3), (-3, 0), (0, 2): (1 + 1) 3, (-2 - 0)(-1), (2 - 2)(-4) and (1 + 1) 1, (-2 + 3) 2, (2 - 0) 1
    "z box by channel": (
        rules.z_box,
        {"low": (-1.0, -3.0, 0.0), "high": (3.0, 0.0, 2.0), "epsilon": 0.0},
        [F(6, 8) + 3 * F(2, 6), F(2, 8) + 3 * F(2, 6), 3 * F(2, 6)],
    ),
    # The first output is 1: positive ones count 3/2 times, 9/2, 3, -8, bias 6, z + epsilon = 6. The second is -2:
    # negative ones do, 1, -6, 2, bias -3/2, z - epsilon = -5.
    "gamma": (
        rules.gamma,
        {"gamma": 0.5, "epsilon": 0.5},
        [F(9, 2) / 6 - 3 * F(1, 5), F(3) / 6 + 3 * F(6, 5), F(-8) / 6 - 3 * F(2, 5)],
    ),
    "w square": (rules.w_square, {}, [F(9, 26) + 3 * F(1, 6), F(1, 26) + 3 * F(4, 6), F(16, 26) + 3 * F(1, 6)]),
    # with the squared biases 16 and 1, and 1: 43 and 8
    "w square with bias": (
        rules.w_square,
        {"bias": True, "epsilon": 1.0},
        [F(9, 43) + 3 * F(1, 8), F(1, 43) + 3 * F(4, 8), F(16, 43) + 3 * F(1, 8)],
    ),
    "flat": (rules.flat, {}, [F(4, 3)] * 3),
    "flat, epsilon": (rules.flat, {"epsilon": 1.0}, [F(1)] * 3),
}


def apply(rule, *arrays, **parameters):
    """A rule on NumPy arrays."""
    return jax.jit(functools.partial(rule, **parameters))(*arrays)


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    function, parameters, expected = BY_HAND[name]
    received, _ = apply(on(Dense(), function, **parameters), X, KERNEL, BIAS, np.array([[1.0, -2.0]]), RELEVANCE)
    np.testing.assert_allclose(received[0], [float(fraction) for fraction in expected], rtol=1e-14)


def test_epsilon_of_an_average_pool_by_hand():
    # the mean of 1, 3, -2, 0 is 1/2, stabilized 1
    x = np.array([1.0, 3, -2, 0]).reshape(1, 2, 2, 1)
    received, lost = apply(
        on(AveragePool(), rules.epsilon, epsilon=0.5), x, None, None, np.array([[0.5]]), np.array([[8.0]])
    )
    assert np.ravel(received).tolist() == [F(8, 4) * value for value in (1, 3, -2, 0)]
    assert [float(part[0]) for part in lost] == [0, 4, 0]


def test_residual_sum_by_hand():
    a, b = np.array([[1.0, 2, 1, 0]]), np.array([[3.0, -4, -1, 0]])
    to_a, to_b, lost = apply(rules.sum_epsilon, a, b, np.ones((1, 4)), epsilon=1.0)
    # a + b = 4, -2, 0, 0, stabilized 5, -3, 1, 1
    np.testing.assert_allclose(to_a[0], [float(f) for f in (F(1, 5), F(-2, 3), F(1), F(0))], rtol=1e-15)
    np.testing.assert_allclose(to_b[0], [float(f) for f in (F(3, 5), F(4, 3), F(-1), F(0))], rtol=1e-15)
    np.testing.assert_allclose(np.ravel(lost), [0, float(F(1, 5) + F(1, 3)), 2], rtol=1e-15)


def test_losses_by_hand():
    # output 0: 3 - 3 + 0 = 0; output 1: 1 + 3 - 2 = 2, stabilized 4, bias -2
    x, kernel, bias = np.array([[1.0, 3]]), np.array([[3.0, 1], [-1, 1]]), np.array([0.0, -2])
    output, relevance = np.array([[0.0, 2]]), np.array([[5.0, 8]])
    _, lost = apply(on(Dense(), rules.epsilon, epsilon=2.0), x, kernel, bias, output, relevance)
    assert [float(part[0]) for part in lost] == [8 * F(-2, 4), 8 * F(2, 4), 5]


def test_epsilon_0_hands_nothing_on_at_a_zero_output():
    # outputs 3 - 3 = 0 and 1 + 3 = 4; the relevance 5 of the first is lost there, and nothing is NaN
    x, kernel, relevance = np.array([[1.0, 3]]), np.array([[3.0, 1], [-1, 1]]), np.array([[5.0, 8]])
    received, lost = apply(on(Dense(), rules.epsilon, epsilon=0.0), x, kernel, None, np.array([[0.0, 4]]), relevance)
    assert received.tolist() == [[2, 6]]
    assert [float(part[0]) for part in lost] == [0, 0, 5]
    a, b = np.array([[1.0, 0, 3]]), np.array([[-1.0, 0, 1]])
    *received, lost = apply(rules.sum_epsilon, a, b, np.array([[5.0, 6, 8]]), epsilon=0.0)
    assert np.concatenate(received).tolist() == [[0, 0, 6], [0, 0, 2]]
    assert [float(part[0]) for part in lost] == [0, 0, 11]


def test_gamma_at_negative_outputs_cannot_explode():
    """The trap: 1000 - 1001 = -1. Favoring the positive one by a thousandth would make that 0."""
    x, kernel, relevance = np.array([[1.0, 1]]), np.array([[1000.0], [-1001]]), np.ones((1, 1))
    received, lost = apply(
        on(Dense(), rules.gamma, gamma=0.001, epsilon=0.0), x, kernel, None, np.array([[-1.0]]), relevance
    )
    # z = 1000 - 1001 * 1.001 = -2.001
    np.testing.assert_allclose(received, [[1000 / -2.001, -1001 * 1.001 / -2.001]], rtol=1e-12)
    np.testing.assert_allclose(np.ravel(lost), 0, atol=1e-10)
    # and it is the same rule with all signs turned around
    turned, _ = apply(
        on(Dense(), rules.gamma, gamma=0.001, epsilon=0.0), x, -kernel, None, np.array([[1.0]]), relevance
    )
    np.testing.assert_allclose(turned, received, rtol=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(3.0, 1.0), (1.0, 1.0), (2.0, 0.0), (0.5, -0.5)])
def test_alpha_beta_of_constants_that_do_not_conserve_is_refused(alpha, beta):
    with pytest.raises(InputError, match=f"alpha - beta = 1 and beta >= 0, not alpha={alpha:g}, beta={beta:g}"):
        rule(rules.alpha_beta, alpha=alpha, beta=beta)


def test_a_bias_that_cancels_the_contributions_keeps_its_share():
    # z = 2 - 2 = 0, stabilized 1: the input receives 2 * 7, the bias -2 * 7, and 7 is lost at the zero
    x, kernel, bias = np.array([[1.0]]), np.array([[2.0]]), np.array([-2.0])
    output, relevance = np.zeros((1, 1)), np.array([[7.0]])
    received, lost = apply(on(Dense(), rules.epsilon, epsilon=1.0), x, kernel, bias, output, relevance)
    assert received.item() == 14
    assert [float(part[0]) for part in lost] == [-14, 0, 7]


# The explicit matrix


@pytest.mark.parametrize(("layer_name", "rule_name"), [(layer, rule) for layer in LAYERS for rule in applicable(layer)])
def test_every_rule_on_the_explicit_matrix(layer_name, rule_name):
    for kind in ("numbers", "sixteenths"):
        check(layer_name, rule_name, random_data(LAYERS[layer_name], kind))


def test_the_data_have_what_they_are_made_for():
    for name in ("3x3, even", "depthwise", "dense"):
        data = random_data(LAYERS[name], "sixteenths")
        for array in data:
            assert (array < 0).any()
            assert (array == 0).any()
        output = forward(name)(data.x, data.kernel, data.bias)
        assert ((output == 0) & (data.relevance != 0)).any()
        plus = forward(name)(np.maximum(data.x, 0), np.maximum(data.kernel, 0), None)
        plus += forward(name)(np.minimum(data.x, 0), np.minimum(data.kernel, 0), None)
        assert name != "depthwise" or ((plus == 0) & (data.relevance != 0)).any()


@pytest.mark.parametrize("rule_name", ONE_SET)
@pytest.mark.parametrize("layer_name", ["3x3, strided, odd, asymmetric", "dense"])
def test_without_a_bias(layer_name, rule_name):
    check(layer_name, rule_name, random_data(LAYERS[layer_name], "numbers")._replace(bias=None))


@pytest.mark.parametrize("rule_name", ONE_SET)
@pytest.mark.parametrize("what", ["x", "kernel", "relevance"])
def test_nothing_but_zeros(what, rule_name):
    data = random_data(LAYERS["dense"], "sixteenths")
    data = data._replace(**{what: np.zeros_like(getattr(data, what))})
    assert np.isfinite(jax.tree.leaves(ours("dense", rule_name, data))[0]).all()
    check("dense", rule_name, data)


@pytest.mark.extended
@pytest.mark.parametrize(
    "rule_name", ["z+", "z+ with bias, epsilon", "alpha 2 beta 1", "alpha 2 beta 1 with bias", "beta adaptive", "gamma"]
)
@pytest.mark.parametrize(
    "layer_name", ["1x1", "3x3, strided, odd, asymmetric", "depthwise", "dense", "transposed 4x4/2"]
)
def test_the_nonnegative_form_is_the_full_rule_bit_for_bit(layer_name, rule_name):
    # Operation by operation: a compiler that fuses a * b + c into one rounding may do so in one of the two only.
    layer = LAYERS[layer_name]
    rule, _, parameters = parameters_of(rule_name, layer)
    for kind in ("numbers", "sixteenths"):
        x, kernel, bias, relevance = map(jnp.asarray, random_data(layer, kind))
        x = jnp.maximum(x, 0)
        arrays = (x, kernel, bias, layer.linear(x, kernel) + bias, relevance)
        full, halved = (on(layer.linear, rule, flag, **parameters)(*arrays) for flag in (False, True))
        jax.tree.map(np.testing.assert_array_equal, halved, full)


@pytest.mark.parametrize("kind", ["numbers", "sixteenths"])
def test_residual_sum_against_loops(kind):
    rng = np.random.default_rng(0)
    draw = rng.standard_normal if kind == "numbers" else lambda shape: rng.integers(-3, 4, shape) / 16
    a, b, relevance = (draw((2, 3, 4, 2)) for _ in range(3))
    to_a, to_b, lost = apply(rules.sum_epsilon, a, b, relevance)
    for image in range(2):
        rows = zip(a[image].ravel(), b[image].ravel(), relevance[image].ravel(), strict=True)
        accounts = [rule_oracles.epsilon([[1.0, 1.0]], [0.0], [p, q], [r]) for p, q, r in rows]
        expected = np.array([account.received for account in accounts])
        scale = tolerances.RULE * np.abs(expected).max()
        np.testing.assert_allclose(np.ravel(to_a[image]), expected[:, 0], rtol=tolerances.RULE)
        np.testing.assert_allclose(np.ravel(to_b[image]), expected[:, 1], rtol=tolerances.RULE)
        for part in lost._fields:
            assert abs(getattr(lost, part)[image] - sum(getattr(account, part) for account in accounts)) <= scale
        lost_in_all = sum(part[image] for part in lost)
        assert abs(relevance[image].sum() - to_a[image].sum() - to_b[image].sum() - lost_in_all) <= scale


# Any values

sixteenths = st.integers(-64, 64).map(lambda value: value / 16)


@st.composite
def layers_with_data(draw):
    name = draw(st.sampled_from(["1x1", "3x3, strided, odd, asymmetric", "depthwise", "dense", "mean pool"]))
    rule_name = draw(st.sampled_from(list(applicable(name))))
    layer = LAYERS[name]
    shapes = [(2, *layer.inputs), layer.kernel or (), layer.outputs[-1:], (2, *layer.outputs)]
    data = Data(*(draw(hnp.arrays(np.float64, shape, elements=sixteenths)) for shape in shapes))
    return name, rule_name, data if layer.kernel else data._replace(kernel=None, bias=None)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(layers_with_data())
def test_any_values(drawn):
    check(*drawn)


# Max pool


POOLS = {  # size, window, stride, padding, dilation
    "3x3/2, even": ((6, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "3x3, dilated": ((7, 6), (3, 3), (1, 1), ((2, 2), (1, 1)), (2, 1)),
    "2x3/2, dilated": ((7, 9), (2, 3), (2, 2), ((0, 1), (2, 1)), (3, 2)),
    "3x3/2, odd": ((7, 5), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "3x3/2, tiny": ((1, 2), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "2x2/2": ((6, 5), (2, 2), (2, 2), ((0, 0), (0, 0))),
    "2x3, different axes": ((5, 7), (2, 3), (3, 1), ((1, 0), (0, 2))),
}


@pytest.mark.parametrize("by_comparisons", [True, False])
@pytest.mark.parametrize("name", POOLS)
def test_the_winner_of_a_max_pool_takes_all(name, by_comparisons):
    size, window, stride, padding, *dilation = POOLS[name]
    rng = np.random.default_rng(0)
    for low in (-2, -5):
        # few different values, so that most windows have several maxima; all negative from -5 on
        x = jnp.asarray(rng.integers(low, low + 4, (2, *size, 3)), float)
        kernels = Kernels(max_pool=by_comparisons)
        pool = functools.partial(
            max_pool, window=window, geometry=Geometry(stride, padding, *dilation), kernels=kernels
        )
        y, pullback = jax.vjp(pool, x)
        relevance = jnp.asarray(rng.integers(-8, 9, y.shape), float)
        expected = rule_oracles.winners(np.asarray(x), np.asarray(relevance), window, stride, padding, *dilation)
        np.testing.assert_array_equal(pullback(relevance)[0], expected)


def test_the_first_of_equal_maxima_wins():
    x = jnp.ones((1, 3, 3, 1))
    _, pullback = jax.vjp(lambda x: max_pool(x, (3, 3), Geometry((2, 2), ((1, 1), (1, 1)))), x)
    (received,) = pullback(jnp.array([1.0, 2, 4, 8]).reshape(1, 2, 2, 1))
    assert received[0, :, :, 0].tolist() == [[1, 2, 0], [4, 8, 0], [0, 0, 0]]
