"""Receptive fields: against fractions by hand, and the non-zero pattern of a numerical Jacobian."""

import math

import cases
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SmallNet, small_model

from tffjax.kernels.convolution import Geometry
from tffjax.nn import Conv, Dense, LayerNorm, Model
from tffjax.nn.ops import Plain, no_tap
from tffjax.nn.receptive_field import Axis, receptive_fields
from tffjax.nn.sites import outputs_at, site_outputs, sites_of


class SameNet(nn.Module):
    """What makes windows hard: "same" padding at stride 2, a sum of unequal branches, gates, a valid convolution."""

    outputs: int = 1

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        x = ops.silu(Conv(5, 3, stride=2, padding="same", name="stem")(x, ops, tap), "stem.silu")
        y = ops.silu(Conv(5, 5, stride=2, padding="same", groups=5, name="depthwise")(x, ops, tap), "depthwise.silu")
        gate = Conv(5, 1, is_site=False, name="squeeze")(ops.mean_pool(y, "se.pool")[:, None, None], ops, tap)
        y = ops.gate(y, ops.sigmoid(gate, "se.sigmoid"), "se.gate")
        y = Conv(6, 1, name="project")(y, ops, tap)
        x = Conv(6, 1, stride=2, padding="same", name="shortcut")(x, ops, tap)
        x = ops.relu(ops.add(y, x, "sum"), "sum.relu")
        x = ops.max_pool(x, (2, 2), Geometry((1, 1), ((1, 0), (0, 1))), "pool")
        x = ops.relu(Conv(4, 2, padding=0, name="valid")(x, ops, tap), "valid.relu")
        return Dense(self.outputs, name="out")(ops.mean_pool(x, "global"), ops)


def same_model(dtype=jnp.float64) -> Model:
    return Model(SameNet(), cases.random_variables(SameNet(), seed=0)).astype(dtype)


class OwnNet(nn.Module):
    """What a user's network has beside: concatenation, norms over channels, averages of padding, a layer used twice."""

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        x = ops.leaky_relu(Conv(3, 3, padding=1, name="stem")(x, ops, tap), "leaky")
        smooth = ops.average_pool(x, (3, 2), "smooth", Geometry(padding=((1, 1), (1, 0))), count_padding=True)
        x = LayerNorm(name="norm")(ops.concatenate([ops.pixel_norm(x, "pixel"), smooth], "both"), ops)
        twice = Conv(6, (3, 2), (2, 1), (1, (1, 0)), name="twice")
        x = ops.relu(twice(x, ops, tap), "relu")
        x = ops.gelu(twice(x, ops, tap), "gelu")
        gate = Dense(6, name="gate.dense")(ops.flatten(ops.mean_pool(x, "gate.pool")[:, None, None], "gate.flat"), ops)
        x = ops.gate(x, ops.sigmoid(gate, "sigmoid")[:, None, None], "gate")
        x = ops.max_pool(x, (2, 1), Geometry(dilation=(2, 1)), "dilated")
        return Dense(1, name="out")(ops.mean_pool(Conv(4, 1, name="last")(x, ops, tap), "global"), ops)


def own_model(dtype=jnp.float64) -> Model:
    return Model(OwnNet(), cases.random_variables(OwnNet(), seed=0)).astype(dtype)


class HeldGates(Plain):
    """The network with its gates held at their values."""

    def _gate(self, name, x, gate):
        return super()._gate(name, x, jax.lax.stop_gradient(gate))


def seen(model: Model, images, site: str, row, column):
    """Which pixels change some channel of one neuron's place, for some of the images."""

    def total(images):
        (y,) = outputs_at(model, images, (site,), HeldGates())
        return jnp.tanh(y[:, row, column]).sum()

    return (jax.grad(total)(images) != 0).any(axis=(0, 3))


def assert_field_is_what_is_seen(axes, positions, marked):
    for axis, position, other in zip(axes, positions, (1, 0), strict=True):
        rows = np.flatnonzero(np.asarray(marked).any(axis=other))
        low, high = axis.stride * position + axis.low, axis.stride * position + axis.high
        assert (rows[0], rows[-1] + 1) == (max(low, 0), min(high, marked.shape[1 - other]))


@pytest.mark.extended
@pytest.mark.parametrize("size", [(15, 16), (18, 21)])
@pytest.mark.parametrize("make", [small_model, same_model, own_model])
def test_the_field_is_the_pattern_of_the_jacobian(make, size, rng):
    model = make(jnp.float32)
    images = jnp.asarray(rng.standard_normal((24, *size, 3)), jnp.float32)  # many: a dead ReLU hides pixels
    pattern = jax.jit(jax.vmap(seen, (None, None, None, 0, 0)), static_argnums=2)
    fields = receptive_fields(model, *size)
    for site in sites_of(model, size):
        rows, columns = (a.ravel() for a in np.indices((site.height, site.width)))
        marked = pattern(model, images, site.name, rows, columns)
        for position, mark in zip(zip(rows, columns, strict=True), marked, strict=True):
            assert_field_is_what_is_seen(fields[site.name].window, position, mark)


SAMPLE = {
    "resnet50": ("layer1.0.downsample.0", "layer1.2.conv2", "layer2.1.conv1"),
    "b0-same": ("_blocks.0._project_conv", "_blocks.3._expand_conv", "_blocks.4._depthwise_conv"),
    "b0-symmetric": ("_conv_stem", "_blocks.3._depthwise_conv"),
}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [96, 107])
def test_the_field_is_the_pattern_of_the_jacobian_of_the_networks(network, size, rng):
    model = network.random_model()
    images = jnp.asarray(rng.standard_normal((2, size, size, 3)), jnp.float32)
    pattern = jax.jit(seen, static_argnums=2)
    fields, sites = receptive_fields(model, size, size), {site.name: site for site in sites_of(model, (size, size))}
    for name in SAMPLE[network.name]:
        h, w = sites[name].height, sites[name].width
        for position in ((0, 0), (h // 2, w // 3), (h - 1, w - 2)):
            marked = pattern(model, images, name, *position)
            assert_field_is_what_is_seen(fields[name].window, position, marked)


def test_fields_by_hand():
    resnet = receptive_fields(cases.RESNET50.random_model(), 224, 224)
    assert resnet["conv1"].window.rows == (2, -3, 4)  # 7 pixels around 2 i
    assert resnet["layer1.0.conv1"].window.columns == (4, -5, 6)  # pool: conv1's rows 2 i - 1 to 2 i + 1
    assert resnet["layer1.0.conv2"].window.rows.length == 11 + 2 * 4
    assert resnet["layer2.1.conv1"].window.rows.length == 35 + 2 * 4
    assert resnet["layer4.2.conv3"].window.rows.length == 427
    # "same" padding of stride 2 and kernel 3: one row after for even sizes, one on each side for odd ones
    even, odd = (receptive_fields(cases.B0_SAME.random_model(), size, 65)["_conv_stem"].window for size in (64, 65))
    assert (even.rows, odd.rows, even.columns) == ((2, 0, 3), (2, -1, 2), (2, -1, 2))


def test_every_site_of_the_networks_has_a_field(network):
    model = network.random_model()
    fields = receptive_fields(model, 75, 96)
    for site in sites_of(model, (75, 96)):
        window = fields[site.name].window
        total = 75 / site.height, 96 / site.width
        assert all(2 ** round(math.log2(ratio)) == axis.stride for ratio, axis in zip(total, window, strict=True))
        assert all(axis.low <= 0 < axis.high for axis in window)
    assert list(fields) == [site.name for site in sites_of(model, (75, 96))]


def test_work_is_counted_in_multiply_adds():
    fields = receptive_fields(small_model(jnp.float32), 16, 32)
    assert (fields["stem"].work, fields["stem"].work_in_full) == (27 * 6, 27 * 6 * 8 * 16)
    # depthwise 3x3 reads 3x3 pixels of the pool, which reads 7x7 of the stem
    assert fields["depthwise"].work == 27 * 6 * 49 + 9 * 6
    assert fields["depthwise"].work_in_full == fields["stem"].work_in_full + 9 * 6 * 4 * 8
    # both branches of the sum read the pool; 2x2 average, 3x3 kernel: 6x6 pixels of it, 8x8 for the depthwise branch
    assert fields["head"].work == 27 * 6 * 17**2 + (9 * 6 + 36) * 36 + 9 * 3 * 8


def test_gates_are_given_or_see_everything():
    model = cases.B0_SAME.random_model()
    held, free = receptive_fields(model, 64, 64), receptive_fields(model, 64, 64, hold_gates=False)
    assert held["_blocks.1._depthwise_conv"].gates == ("_blocks.0._se_gate",)
    assert held["_blocks.1._project_conv"].gates == ("_blocks.0._se_gate", "_blocks.1._se_gate")
    assert free["_blocks.0._depthwise_conv"] == held["_blocks.0._depthwise_conv"]
    assert free["_blocks.0._project_conv"] is None


class Unknown(nn.Module):
    """Operations that nobody announced: the field behind them is unknown."""

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        x = Conv(4, 3, name="before")(x, ops, tap)
        x = Conv(4, 1, name="after")(jnp.roll(x, 5, axis=1), ops, tap)
        return ops.mean_pool(x, "global")


def test_what_is_not_an_operation_of_the_network_sees_everything():
    model = Model(Unknown(), cases.random_variables(Unknown(), seed=0))
    fields = receptive_fields(model, 16, 16)
    assert fields["before"].window.rows == Axis(1, 0, 3)
    assert fields["after"] is None


def test_outputs_at_runs_up_to_the_last_site_only():
    class Stops(SmallNet):
        def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
            def tapped(site, y):
                assert site != "head"
                return tap(site, y)

            return super().__call__(x, ops, tapped)

    model = Model(Stops(), cases.random_variables(SmallNet(), seed=0))
    image = jnp.ones((1, 16, 16, 3))
    project, stem = outputs_at(model, image, ("project", "stem"))
    expected = site_outputs(Model(SmallNet(), model.variables), image)[1]
    np.testing.assert_array_equal(project, expected["project"])
    np.testing.assert_array_equal(stem, expected["stem"])
    with pytest.raises(AssertionError):
        outputs_at(model, image, ("head",))
