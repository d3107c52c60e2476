"""Operations beyond those of the paper's networks: values, traces, where relevance goes, layers that are used twice."""

import dataclasses
from fractions import Fraction as F

import cases
import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import oracles
import pytest
import tolerances
import torch
from torch.nn import functional

import tffjax
from tffjax.errors import InputError
from tffjax.kernels import choice
from tffjax.kernels.convolution import Geometry
from tffjax.lrp import COMPOSITES, check_model, rule, rules
from tffjax.lrp.composites import GUIDED_BACKPROP
from tffjax.lrp.linear import ConvTranspose as ConvTranspose2d
from tffjax.lrp.operations import LrpOps
from tffjax.nn import Conv, ConvTranspose, Dense, GroupNorm, LayerNorm, Model, canonize, layers_of
from tffjax.nn.names import Uses
from tffjax.nn.ops import Plain, no_tap
from tffjax.nn.receptive_field import Axis, receptive_fields
from tffjax.nn.sites import Record
from tffjax.studies.rankings import all_channels, parse_key
from tffjax.training.operations import Training

ONE_ROW = ((0, 0), (1, 1))


class AllKinds(nn.Module):
    """Every operation that the paper's networks do not have, and one convolution that is used twice."""

    outputs: int = 3
    flat: bool = True  # then it takes images of one size only

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        x = ops.leaky_relu(Conv(4, 3, padding=1, name="stem")(x, ops, tap), "leaky", slope=0.2)
        smooth = ops.average_pool(x, (3, 3), "smooth", Geometry(padding=((1, 1), (1, 1))), count_padding=True)
        x = ops.concatenate([ops.pixel_norm(x, "pixel"), ops.activation(smooth, jax.nn.relu, "smooth.relu")], "both")
        x = ops.gelu(Conv(4, (3, 2), (2, 1), (1, (2, 0)), dilation=(1, 2), name="tall")(x, ops, tap), "gelu")
        x = LayerNorm(name="layer_norm")(x, ops)
        x = ops.relu(GroupNorm(2, name="group_norm")(ConvTranspose(6, name="up")(x, ops, tap), ops), "relu")
        x = ops.upsample_bilinear(x, (1, 2), "bilinear")
        twice = Conv(6, 3, padding=1, name="twice")
        x = ops.relu(twice(x, ops, tap), "relu")
        x = ops.activation(twice(x, ops, tap), jnp.tanh, "tanh")
        x = ops.max_pool(x, (2, 2), Geometry(stride=(2, 4), dilation=(2, 3)), "dilated")
        x = ops.upsample_nearest(ops.activation(x, jax.nn.softplus, "softplus"), (2, 1), "nearest")
        x = ops.flatten(x, "flatten") if self.flat else ops.mean_pool(x, "mean")
        return Dense(self.outputs, name="out")(x, ops)


def model_of(module, size: int = 8, seed: int = 0, dtype=jnp.float64) -> Model:
    return Model(module, cases.random_variables(module, seed, size=size)).astype(dtype)


def noise(size: int, count: int = 2, dtype=jnp.float64):
    return jnp.asarray(np.random.default_rng(1).standard_normal((count, size, size, 3)), dtype)


# Values


def draw(rng, *shapes):
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


def by_torch(function, x, *arrays, **options):
    """A function of PyTorch on NHWC arrays."""
    y = function(torch.tensor(np.moveaxis(x, -1, 1)), *(torch.tensor(np.array(a)) for a in arrays), **options)
    return np.moveaxis(y.numpy(), 1, -1)


@pytest.mark.parametrize(
    ("stride", "padding", "output_padding", "dilation", "groups"),
    [(2, 1, 0, 1, 1), (2, 1, 1, 1, 1), (3, 0, 2, 2, 2), (1, 2, 0, 1, 4)],
)
def test_transposed_convolutions_are_pytorchs(stride, padding, output_padding, dilation, groups, x64, rng):
    x, kernel, bias = draw(rng, (2, 4, 5, 4), (3, 4, 4 // groups, 8), (8,))
    cut = ((padding, padding - output_padding),) * 2
    y = Plain().conv_transpose(x, kernel, bias, Geometry((stride,) * 2, cut, (dilation,) * 2, groups), "up")
    # (i, o / groups, kh, kw), the inputs of all groups behind each other
    theirs = np.concatenate(np.split(np.transpose(kernel, (2, 3, 0, 1)), groups, axis=1))
    more = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
    expected = by_torch(functional.conv_transpose2d, x, theirs, bias, groups=groups, **more)
    np.testing.assert_allclose(y, expected, atol=tolerances.F64_CONVOLUTION * np.abs(expected).max())


@pytest.mark.parametrize("count_padding", [True, False])
def test_average_pools_are_pytorchs(count_padding, x64, rng):
    (x,) = draw(rng, (2, 7, 6, 3))
    geometry = Geometry((2, 1), ((1, 1), (1, 1)))
    y = Plain().average_pool(x, (3, 2), "pool", geometry, count_padding)
    windows = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1)}
    expected = by_torch(functional.avg_pool2d, x, **windows, count_include_pad=count_padding)
    np.testing.assert_allclose(y, expected, atol=tolerances.F64_CONVOLUTION)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_up_sampling_is_pytorchs(mode, x64, rng):
    (x,) = draw(rng, (2, 3, 4, 2))
    y = getattr(Plain(), f"upsample_{mode}")(x, (3, 2), "up")
    align = {} if mode == "nearest" else {"align_corners": False}
    expected = by_torch(functional.interpolate, x, scale_factor=(3, 2), mode=mode, **align)
    np.testing.assert_allclose(y, expected, atol=tolerances.F64_CONVOLUTION)


def test_activations_and_norms_are_pytorchs(x64, rng):
    x, scale, bias = draw(rng, (2, 3, 4, 6), (6,), (6,))
    ops = Plain()
    pairs = [
        (ops.gelu(x, "a"), by_torch(functional.gelu, x)),
        (ops.leaky_relu(x, "a", 0.2), by_torch(functional.leaky_relu, x, negative_slope=0.2)),
        (ops.group_norm(x, scale, bias, 3, 1e-5, "a"), group_norm_by_torch(x, scale, bias, 3)),
        (ops.layer_norm(x, scale, bias, 1e-5, "a"), layer_norm_by_torch(x, scale, bias)),
        (ops.layer_norm(x, None, None, 1e-5, "a"), layer_norm_by_torch(x, np.ones(6), np.zeros(6))),
        (ops.pixel_norm(x, "a"), x / np.sqrt((x**2).mean(axis=3, keepdims=True) + 1e-8)),
        (ops.concatenate([x, x[..., :1]], "a"), np.concatenate([x, x[..., :1]], axis=3)),
        (ops.flatten(x, "a"), x.reshape(2, 72)),
    ]
    for ours, expected in pairs:
        np.testing.assert_allclose(ours, expected, atol=tolerances.F64_CONVOLUTION * np.abs(expected).max())


def group_norm_by_torch(x, scale, bias, groups):
    return by_torch(lambda x, *arrays: functional.group_norm(x, groups, *arrays, 1e-5), x, scale, bias)


def layer_norm_by_torch(x, *arrays):
    x, *arrays = (torch.tensor(np.array(a)) for a in (x, *arrays))
    return functional.layer_norm(x, (x.shape[-1],), *arrays, 1e-5).numpy()


def test_whether_padding_counts_must_be_said():
    with pytest.raises(ValueError, match="smooth: say whether padding counts in the average"):
        Plain().average_pool(jnp.ones((1, 4, 4, 1)), (3, 3), "smooth", Geometry(padding=((1, 1), (1, 1))))
    edge = [Plain().average_pool(jnp.ones((1, 1, 1, 1)), (1, 3), "smooth", Geometry(padding=ONE_ROW), counts).item()
            for counts in (True, False)]  # fmt: skip
    np.testing.assert_allclose(edge, [1 / 3, 1], rtol=1e-6)


# The trace


def test_one_number_is_a_window_and_a_factor_of_both_axes(x64, rng):
    ops, (x,) = Plain(), draw(rng, (1, 4, 4, 2))
    np.testing.assert_array_equal(ops.average_pool(x, 2, "a"), ops.average_pool(x, (2, 2), "a"))
    np.testing.assert_array_equal(ops.max_pool(x, 2, Geometry(), "m"), ops.max_pool(x, (2, 2), Geometry(), "m"))
    for upsample in (ops.upsample_nearest, ops.upsample_bilinear):
        np.testing.assert_array_equal(upsample(x, 2, "up"), upsample(x, (2, 2), "up"))


def test_what_operations_and_layers_refuse(monkeypatch):
    ops, x = Plain(), jnp.zeros((1, 4, 4, 2))
    with pytest.raises(
        InputError, match=r"sum: ops.add takes arrays of one shape, not \(1, 4, 4, 2\) and \(1, 4, 4, 1"
    ):
        ops.add(x, x[..., :1], "sum")
    with pytest.raises(InputError, match="layer: padding is numbers or 'same', not 'SAME'"):
        Padded(Conv(3, padding="SAME")).init(jax.random.key(0), x, ops, no_tap)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as at a user's
    with pytest.raises(InputError, match="layer: padding is numbers, not 'same'"):
        Padded(ConvTranspose(3, padding="same")).init(jax.random.key(0), x, ops, no_tap)


class Padded(nn.Module):
    layer: nn.Module

    def __call__(self, x, ops, tap):
        return self.layer(x, ops, tap)


def test_the_trace_of_all_kinds():
    layers = {
        layer.name: layer for layer in layers_of(model_of(AllKinds(), dtype=jnp.float32), noise(8, 1, jnp.float32))
    }
    shapes = {name: layer.shape for name, layer in layers.items()}
    assert shapes["both"] == (8, 8, 8)
    assert (shapes["tall"], shapes["up"], shapes["bilinear"]) == ((4, 8, 4), (8, 16, 6), (8, 32, 6))
    assert (shapes["dilated"], shapes["nearest"], shapes["flatten"]) == ((3, 8, 6), (6, 8, 6), (288,))
    assert [name for name in layers if "twice" in name or "relu" in name] == [
        "smooth.relu", "relu", "twice", "relu@2", "twice@2"
    ]  # fmt: skip
    assert [name for name, layer in layers.items() if layer.is_site] == ["stem", "tall", "up", "twice", "twice@2"]
    # behind ReLU and softplus; "both" reads a branch that may be negative
    nonnegative = ["bilinear", "twice", "twice@2", "nearest", "flatten", "out"]
    assert [name for name, layer in layers.items() if layer.nonnegative] == nonnegative
    assert [name for name, layer in layers.items() if layer.first] == ["stem"]
    work = {name: layer.multiply_adds for name, layer in layers.items() if layer.multiply_adds}
    assert work["up"] == 4 * 8 * (4 * 4 * 4 * 6)  # every input meets the whole kernel
    assert work["twice"] == work["twice@2"] == 8 * 32 * (9 * 6 * 6)


def test_concatenated_nonnegative_arrays_are_nonnegative():
    class Branches(nn.Module):
        @nn.compact
        def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
            a, b = ops.relu(x, "relu"), ops.sigmoid(x, "sigmoid")
            x = ops.upsample_nearest(ops.pixel_norm(ops.concatenate([a, b], "both"), "norm"), (2, 2), "up")
            return Dense(1, name="out")(ops.mean_pool(x, "pool"), ops)

    layers = layers_of(model_of(Branches(), dtype=jnp.float32), noise(4, 1, jnp.float32))
    assert [layer.name for layer in layers if layer.nonnegative] == ["both", "norm", "up", "pool", "out"]


def test_receptive_fields_end_at_transposed_convolutions():
    fields = receptive_fields(model_of(AllKinds(), dtype=jnp.float32), 8, 8)
    assert fields["tall"].window.rows == Axis(2, -3, 4)  # rows 2 i - 1 to 2 i + 1 of the average, which reads 5
    assert [name for name, field in fields.items() if field is None] == ["up", "twice", "twice@2"]


@pytest.mark.parametrize("norm", [GroupNorm(2, name="norm"), None])
def test_receptive_fields_end_behind_group_norms_and_uncounted_padding(norm):
    class Ends(nn.Module):
        @nn.compact
        def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
            x = Conv(4, 3, name="before")(x, ops, tap)
            if norm is not None:
                x = norm.copy(name="norm")(x, ops)
            else:
                x = ops.average_pool(x, (3, 3), "pool", Geometry(padding=((1, 1), (1, 1))), count_padding=False)
            return ops.mean_pool(Conv(4, 1, name="after")(x, ops, tap), "global")

    fields = receptive_fields(model_of(Ends(), dtype=jnp.float32), 8, 8)
    assert fields["before"].window.rows == Axis(1, 0, 3)
    assert fields["after"] is None


# Where relevance goes


def received(operation, relevance, *arrays, composite="epsilon", **known):
    """The relevance of the inputs of one operation."""
    layer = tffjax.nn.Layer("it", known.pop("kind"), (), **known)
    ops = LrpOps(composite=COMPOSITES.get(composite, composite), layers=(layer,))
    _, pullback = jax.vjp(lambda *arrays: operation(ops, *arrays), *arrays)
    return pullback(jnp.asarray(relevance))


def test_what_moves_values_hands_relevance_to_its_source(x64):
    zeros = jnp.zeros((1, 1, 2, 1))  # also where the value is 0, other than an epsilon rule would
    (to_x,) = received(
        lambda ops, x: ops.upsample_nearest(x, (2, 1), "it"), [[[[1.0], [2]], [[4], [8]]]], zeros, kind="?"
    )
    assert np.ravel(to_x).tolist() == [5, 10]
    to_a, to_b = received(
        lambda ops, a, b: ops.concatenate([a, b], "it"), [[1.0, 2, 3]], zeros[0, 0].T, zeros[0, 0, :1], kind="?"
    )
    assert (to_a.tolist(), to_b.tolist()) == ([[1, 2]], [[3]])
    (to_x,) = received(lambda ops, x: ops.flatten(x, "it"), [[1.0, 2]], zeros, kind="?")
    assert to_x.shape == zeros.shape
    assert np.ravel(to_x).tolist() == [1, 2]


def test_norms_hand_relevance_through(x64):
    x, relevance = jnp.array([[[[3.0, -4]]]]), [[[[1.0, 2]]]]
    scale, bias = jnp.array([-2.0, 0]), jnp.array([5.0, 7])
    for norm in (
        lambda ops, x: ops.pixel_norm(x, "it"),
        lambda ops, x: ops.layer_norm(x, scale, bias, 1e-5, "it"),
        lambda ops, x: ops.group_norm(x, scale, bias, 1, 1e-5, "it"),
    ):
        np.testing.assert_array_equal(received(norm, relevance, x, kind="?")[0], relevance)
        (gradient,) = received(norm, relevance, x, kind="?", composite="gradient-x-input")
        np.testing.assert_allclose(
            gradient, jax.vjp(lambda x, norm=norm: norm(Plain(), x), x)[1](jnp.array(relevance))[0]
        )
        (guided,) = received(norm, relevance, x, kind="?", composite=GUIDED_BACKPROP)
        np.testing.assert_array_equal(guided, gradient)


def test_bilinear_up_sampling_by_hand(x64):
    # x = 2, -1 becomes 2, 5/4, -1/4, -1; stabilized by 1/4: 9/4, 3/2, -1/2, -5/4
    epsilon = COMPOSITES["epsilon"].replace(average_pool=rule(rules.epsilon, epsilon=0.25))
    (to_x,) = received(
        lambda ops, x: ops.upsample_bilinear(x, (1, 2), "it"), jnp.ones((1, 1, 4, 1)), jnp.array([[[[2.0], [-1]]]]),
        kind="upsample_bilinear", composite=epsilon,
    )  # fmt: skip
    shares = [F(4, 9), F(2, 3), F(-2), F(-4, 5)]
    expected = [
        2 * (shares[0] + F(3, 4) * shares[1] + F(1, 4) * shares[2]),
        -(F(1, 4) * shares[1] + F(3, 4) * shares[2] + shares[3]),
    ]
    np.testing.assert_allclose(np.ravel(to_x), [float(f) for f in expected], rtol=1e-14)


def test_a_transposed_convolution_by_hand(x64):
    # x = 1, -2 with the kernel 3, -1, 2 at stride 2: contributions 3 | -1 | 2 and -6 | 2 | -4
    x, kernel = jnp.array([[[[1.0], [-2]]]]), jnp.array([3.0, -1, 2]).reshape(1, 3, 1, 1)
    geometry = Geometry(stride=(1, 2))
    y = Plain().conv_transpose(x, kernel, None, geometry, "it")
    assert np.ravel(y).tolist() == [3, -1, -4, 2, -4]
    (to_x,) = received(
        lambda ops, x: ops.conv_transpose(x, kernel, None, geometry, "it"), jnp.ones((1, 1, 5, 1)), x,
        kind="conv_transpose", composite="epsilon-plus",
    )  # fmt: skip
    # positive contributions: 3; none; 2; 2; none
    assert np.ravel(to_x).tolist() == [2, 1]


def test_softmax_hands_relevance_through_or_takes_its_gradient(x64):
    x = jnp.array([[1.0, 2, 3]])
    softmax = lambda ops, x: ops.activation(x, jax.nn.softmax, "it")  # noqa: E731
    (to_x,) = received(softmax, [[0.0, 0, 1]], x, kind="activation")
    assert to_x.tolist() == [[0, 0, 1]]
    (to_x,) = received(softmax, [[0.0, 0, 1]], x, kind="activation", composite="gradient-x-input")
    p = jax.nn.softmax(x)[0]
    np.testing.assert_allclose(to_x[0], p[2] * (np.eye(3)[2] - p), rtol=1e-12)


def test_the_table_names_what_every_kind_gets():
    composite = (
        COMPOSITES["beta0"].at("up", rule(rules.gamma, gamma=0.1)).at("bilinear", rule(rules.epsilon, epsilon=0.5))
    )
    layers = layers_of(model_of(AllKinds(), dtype=jnp.float32), noise(8, 1, jnp.float32))
    table = composite.table(layers).splitlines()
    rows = {name: rest for name, *rest in ([cell.strip() for cell in line.split("|")] for line in table)}
    assert rows["up"] == ["conv_transpose", "gamma", "gamma=0.1"]
    assert rows["bilinear"] == ["upsample_bilinear", "epsilon", "epsilon=0.5"]
    assert rows["smooth"] == ["average_pool", "epsilon", ""]
    assert rows["nearest"] == ["upsample_nearest", "to its source", ""]
    assert [rows[name][1] for name in ("both", "flatten", "dilated")] == ["to its source"] * 2 + ["winner takes all"]
    assert [rows[name][1] for name in ("pixel", "layer_norm", "group_norm", "gelu", "tanh")] == ["identity"] * 5
    guided = {layer.name: GUIDED_BACKPROP.rule_of(layer) for layer in layers}
    assert (guided["pixel"], guided["gelu"], guided["up"]) == ("gradient", "guided", None)


def test_all_relevance_is_accounted_for(x64):
    check = check_model(model_of(AllKinds()), noise(8), composite="beta1")
    assert {balance.layer for balance in check.balances} == {
        "stem", "smooth", "tall", "up", "bilinear", "twice", "twice@2", "out"
    }  # fmt: skip
    assert all(balance.ok for balance in check.balances)
    lost = sum(balance.bias + balance.stabilizer + balance.zero for balance in check.balances)
    size = max(abs(balance.entered) + abs(balance.left) for balance in check.balances)
    np.testing.assert_allclose(check.end + lost, 1, atol=tolerances.RULE * size)


@pytest.mark.extended
def test_prepared_weights_give_the_same(x64):
    model, images, composite = model_of(AllKinds()), noise(8), "epsilon-gamma-box"
    options = {"target": 1, "sites": True, "maps": ("twice@2",)}
    expected = tffjax.relevance(model, images, composite=composite, **options)
    found = tffjax.relevance(tffjax.prepare(model, composite, size=(8, 8)), images, **options)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerances.F64_PROGRAM * np.abs(b).max())


@pytest.mark.parametrize("kernels", [choice.XLA, choice.CPU, choice.GPU])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_are_the_same_by_all_kernels(kernels, groups, x64, rng):
    x, kernel = draw(rng, (2, 3, 4, 2), (3, 2, 2 // groups, 4))
    x = x.at[0].set(0)  # its outputs must be exactly zero: they are denominators
    options = {"stride": (2, 1), "padding": ((1, 0), (0, 1)), "dilation": (1, 2), "groups": groups}
    linear = ConvTranspose2d(Geometry(**options), kernels=kernels)
    matrix, shape = oracles.transposed_matrix((3, 4), np.asarray(kernel), **options)
    (s,) = draw(rng, (2, *shape))
    expected = (
        (np.reshape(x, (2, -1)) @ matrix.T).reshape(2, *shape),
        (np.reshape(s, (2, -1)) @ matrix).reshape(x.shape),
    )
    found = linear(x, kernel), linear.transposes(s, [kernel], x)[0]
    assert not np.any(found[0][0])
    np.testing.assert_array_equal(linear.values(x, kernel) != 0, found[0] != 0)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerances.F64_CONVOLUTION * np.abs(theirs).max())


@pytest.mark.extended
def test_a_neuron_behind_operations_without_windows_is_explained_in_full(x64):
    model, images = model_of(AllKinds(flat=False)), noise(8)
    found = tffjax.lrp_max(model, images, ["twice@2.#2(T=6)"])
    expected = tffjax.relevance(model, images, target=tffjax.Neuron("twice@2", 2)).input.sum(axis=3)
    expected = np.where(found.values[:, :, None] > 0, expected, 0)
    assert expected.any()
    np.testing.assert_allclose(found.maps[:, 0], expected, atol=tolerances.CROP * np.abs(expected).max())


def test_a_transposed_convolution_and_up_sampling_in_bfloat16():
    """What is stored as bfloat16 is as good as that; `test_precision` has the rest."""

    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
            x = ops.relu(GroupNorm(2, name="norm")(ConvTranspose(4, name="up")(x, ops, tap), ops), "relu")
            smooth = Geometry(padding=((1, 1), (1, 1)))
            x = ops.average_pool(
                ops.upsample_bilinear(x, (1, 2), "bilinear"), (3, 3), "smooth", smooth, count_padding=False
            )
            return Dense(1, name="out")(ops.flatten(ops.concatenate([x, x], "both"), "flatten"), ops)

    model, images = model_of(Decoder(), dtype=jnp.float32), noise(8, dtype=jnp.float32)
    exact, rounded = (
        tffjax.relevance(model, images, composite="epsilon-plus", precision=precision)
        for precision in ("float32", "bfloat16")
    )
    for ours, theirs, tolerance in (
        (rounded.logits, exact.logits, tolerances.BFLOAT16_LOGIT),
        (rounded.input, exact.input, tolerances.BFLOAT16_RELEVANCE),
    ):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


# Layers that are used twice


class Shared(nn.Module):
    """One convolution used on two scales; `apart` gives the second use a name of its own, and so its own weights."""

    apart: bool = False

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        x = ops.relu(Conv(4, 1, name="stem")(x, ops, tap), "relu")
        conv = Conv(4, 3, stride=2, padding="same", name="conv")
        x = conv(x, ops, tap)
        again = Conv(4, 3, stride=2, padding="same", name="again") if self.apart else conv
        x = ops.relu(again(x, ops, tap), "relu.again" if self.apart else "relu")
        return Dense(1, name="out")(ops.mean_pool(x, "pool"), ops)


def shared_and_apart(dtype=jnp.float64) -> tuple[Model, Model]:
    shared = model_of(Shared(), dtype=dtype)
    params = shared.variables["params"]
    return shared, Model(Shared(apart=True), {"params": {**params, "again": params["conv"]}})


NAMES = {"again": "conv@2", "relu.again": "relu@2"}


@pytest.mark.parametrize(
    ("composite", "prepared"), [("beta1", True), ("epsilon-gamma-box", False), ("gradient-x-input", False)]
)
def test_a_layer_used_twice_is_two_layers_with_the_same_weights(composite, prepared, x64):
    # 7 -> 4 -> 2 pixels: the two uses differ in padding and in what is known of their input
    shared, apart = shared_and_apart()
    images = noise(7)
    layers = [layers_of(model, images) for model in (shared, apart)]
    renamed = tuple(layer._replace(name=NAMES.get(layer.name, layer.name)) for layer in layers[1])
    assert layers[0] == renamed
    assert [(x.geometry.padding, x.nonnegative) for x in renamed if "conv" in x.name] == [
        (((1, 1), (1, 1)), True), (((0, 1), (0, 1)), False)
    ]  # fmt: skip
    if prepared:
        shared, apart = (tffjax.prepare(model, composite, size=(7, 7)) for model in (shared, apart))
    found, expected = (tffjax.relevance(model, images, composite=composite, sites=True) for model in (shared, apart))
    np.testing.assert_array_equal(found.input, expected.input)
    assert {NAMES.get(name, name) for name in expected.sites} == set(found.sites)
    for name, sums in expected.sites.items():
        np.testing.assert_array_equal(found.sites[NAMES.get(name, name)], sums)


def test_patterns_cover_all_uses_or_one():
    gamma, flat = rule(rules.gamma), rule(rules.flat)
    layers = {layer.name: layer for layer in layers_of(model_of(Shared(), dtype=jnp.float32), noise(8, 1, jnp.float32))}
    both, second = COMPOSITES["beta0"].at("conv", gamma), COMPOSITES["beta0"].at("conv@2", flat)
    assert [both.rule_of(layers[name]) for name in ("conv", "conv@2")] == [gamma, gamma]
    assert [second.rule_of(layers[name]) for name in ("conv", "conv@2")] == [second.conv, flat]


def test_sites_and_channels_of_each_use(x64):
    shared, _ = shared_and_apart(jnp.float32)
    channels = all_channels(shared)
    assert [channel.site for channel in channels[::4]] == ["stem", "conv", "conv@2"]
    assert parse_key("conv@2.#3(T=4)") == channels[-1]
    record = Record()
    shared(noise(8, dtype=jnp.float32), Plain(), record)
    assert {name: y.shape[1] for name, y in record.outputs.items()} == {"stem": 8, "conv": 4, "conv@2": 2}


@pytest.mark.extended
def test_neurons_of_each_use_are_explained(x64):
    shared, apart = (dataclasses.replace(model) for model in shared_and_apart())
    images = noise(9)
    for name in ("conv", "again"):
        found, expected = (
            tffjax.lrp_max(model, images, [c for c in all_channels(model) if c.site == site])
            for model, site in ((shared, NAMES.get(name, name)), (apart, name))
        )
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_batch_norm_used_twice_takes_in_both_batches(rng):
    ops, twice = Training(), Uses()
    y = [jnp.asarray(rng.normal(size=(2, 3, 3, 1)), jnp.float32) for _ in range(2)]
    ones, zeros = jnp.ones(1), jnp.zeros(1)
    for batch in y:
        dataclasses.replace(ops, uses=twice).batch_norm(batch, ones, zeros, zeros, ones, 1e-5, "bn")
    expected = 0.9 * 0.1 * y[0].mean() + 0.1 * y[1].mean()
    np.testing.assert_allclose(ops.statistics["bn"]["mean"][0], expected, rtol=1e-5)
    assert list(ops.statistics) == ["bn"]


def test_a_convolution_with_two_batch_norms_is_not_folded():
    class Two(nn.Module):
        batch_norm: str = "statistics"
        epsilon: float = 1e-5

        def batch_norm_pairs(self):
            yield from (("conv", "bn1"), ("conv", "bn2"))

    with pytest.raises(InputError, match="the convolution 'conv' has two batch norms"):
        canonize(Model(Two(), {"params": {}, "batch_stats": {}}))


def test_names_that_cannot_be_told_apart_are_an_error():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
            x = ops.relu(ops.relu(ops.relu(x, "relu@2"), "relu"), "relu")
            return Dense(1)(ops.mean_pool(x, "pool"), ops)

    with pytest.raises(ValueError, match="two layers are named 'relu@2'"):
        layers_of(model_of(Twice(), dtype=jnp.float32), noise(8, dtype=jnp.float32))
