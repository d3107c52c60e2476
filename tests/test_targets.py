"""What is explained, in networks that return, read and compute what they like; what is said where LRP cannot follow."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances
from small import noise, small_model

import tffjax
from tffjax.errors import InputError
from tffjax.lrp import Neuron, check_model, integrated_gradients, relevance, smooth_grad
from tffjax.nn import BatchNorm, Conv, Dense, Model, Plain, layers_of, no_tap
from tffjax.nn.graph import outputs_of

EPSILON = tffjax.lrp.COMPOSITES["epsilon"]


def model_of(module, size=8, seed=0):
    images = noise(size, dtype=jnp.float64)
    return Model(module, jax.jit(module.init)(jax.random.key(seed), images)), images


def module(function):
    """A linen module from a function of (x, ops, tap)."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, ops=None, tap=no_tap):
            return function(x, ops or Plain(), tap)

    return Network()


def body(x, ops, tap):
    x = ops.relu(Conv(4, 3, padding=1, name="conv1")(x, ops, tap), "relu1")
    return ops.relu(Conv(5, 3, padding=1, name="conv2")(x, ops, tap), "relu2")


def plain(x, ops, tap):
    return Dense(3, name="head")(ops.mean_pool(body(x, ops, tap), "mean"), ops)


def same(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.F64_PROGRAM * np.abs(b).max())


# Start relevances


@pytest.mark.extended
def test_a_start_relevance_of_one_s_own(x64):
    model, images = model_of(module(plain))
    one = [relevance(model, images, target=i).input for i in range(3)]
    same(relevance(model, images, target=np.array([0.0, 1, -1])).input, one[1] - one[2])
    each = np.eye(3)[np.arange(len(images)) % 3]
    same(relevance(model, images, target=each).input, relevance(model, images, target=np.arange(len(images)) % 3).input)
    same(relevance(model, images, target=np.array([0.0, 2, 0]), sign=-1).input, -2 * one[1])


def test_several_outputs_at_once(x64):
    model, images = model_of(module(plain))
    together = jax.vmap(lambda start: relevance(model, images, target=start).input)(jnp.eye(3))
    for i in range(3):
        same(together[i], relevance(model, images, target=i).input)


def test_any_layer_has_sums_and_maps(x64):
    model, images = model_of(module(plain))
    names = ("conv1", "relu1", "mean", "head")
    found = relevance(model, images, target=0, sites=names, maps=names)
    assert list(found.sites) == list(found.maps) == list(names)
    for name in names:
        axes = tuple(range(1, found.maps[name].ndim - 1))
        same(found.sites[name][:, 0] - found.sites[name][:, 1], found.maps[name].sum(axis=axes))
    same(found.maps["head"], np.tile([1.0, 0, 0], (len(images), 1)))
    same(found.maps["relu1"], found.maps["conv1"])


def test_neurons_of_any_layer(x64):
    model, images = model_of(module(plain))
    same(relevance(model, images, target=Neuron("head", 2)).input, relevance(model, images, target=2).input)
    found = relevance(model, images, target=Neuron("relu2", 1), maps=("relu2",)).maps["relu2"]
    assert (found.sum(axis=(1, 2)) == np.eye(5)[1]).all()


# What a network returns


def test_a_sliced_head(x64):
    model, images = model_of(module(lambda x, ops, tap: plain(x, ops, tap)[:, 1:]))
    whole = Model(module(plain), model.variables)
    assert outputs_of(model, images) == (2,)
    same(relevance(model, images, target=1).input, relevance(whole, images, target=2).input)
    with pytest.raises(InputError, match="no output 2; there are 2"):
        relevance(model, images, target=2)


def test_an_auxiliary_head_after_the_main_one(x64):
    def network(x, ops, tap):
        x = ops.mean_pool(body(x, ops, tap), "mean")
        main = Dense(3, name="head")(x, ops)
        Dense(7, name="auxiliary")(x, ops)
        return main

    model, images = model_of(module(network))
    params = {name: value for name, value in model.variables["params"].items() if name != "auxiliary"}
    alone = Model(module(plain), {"params": params})
    same(relevance(model, images, target=2).input, relevance(alone, images, target=2).input)
    with pytest.raises(InputError, match="no output 3; there are 3"):
        relevance(model, images, target=3)


@pytest.mark.parametrize("target", ["logit", "top", 0, np.array([1.0, 1.0])])
def test_one_output_without_an_axis(target, x64):
    model, images = model_of(module(lambda x, ops, tap: plain(x, ops, tap)[:, 1]))
    whole = Model(module(plain), model.variables)
    assert outputs_of(model, images) == ()
    same(relevance(model, images, target=target).input, relevance(whole, images, target=1).input)
    with pytest.raises(InputError, match="no output 1; there are 1"):
        relevance(model, images, target=1)


@pytest.mark.parametrize("target", [np.array([1, -1, 0]), np.array([1, -1])])
def test_whole_numbers_are_no_start_relevance(target, x64):
    model, images = model_of(module(plain))
    with pytest.raises(InputError, match="whole numbers are output indices, a start relevance is floats"):
        relevance(model, images, target=target)


def test_two_heads_are_refused(x64):
    model, images = model_of(module(lambda x, ops, tap: (plain(x, ops, tap), x)))
    with pytest.raises(InputError, match="returns a tuple of 2 arrays"):
        relevance(model, images, target=0)


def test_a_convolutional_head(x64):
    model, images = model_of(module(body))
    assert outputs_of(model, images) == (8, 8, 5)
    with pytest.raises(InputError, match="give a start relevance of that shape"):
        relevance(model, images, target=0)
    start = np.zeros((8, 8, 5))
    start[3, 4, 1] = 1
    expected = relevance(model, images, target=Neuron("relu2", 1, (3, 4))).input
    same(relevance(model, images, target=start).input, expected)


# What a network reads


CHANGED = {"normalized": lambda x: (x - 0.1) / 0.3, "padded": lambda x: jnp.pad(x, ((0, 0), (1, 1), (2, 2), (0, 0)))}


@pytest.mark.parametrize("how", CHANGED)
def test_the_first_convolution_of_a_network_that_changes_its_input(how, x64):
    model, images = model_of(module(lambda x, ops, tap: plain(CHANGED[how](x), ops, tap)))
    layers = {layer.name: layer for layer in layers_of(model, images)}
    assert layers["conv1"].first
    assert not layers["conv2"].first
    check = check_model(model, images, composite="epsilon")
    assert check.ok == (how == "padded")
    assert "conv1 reads what the network makes of the image" in check.notes[0]


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((2, 3, 8, 8), "float32", r"channels are last; these look like \(n, c, h, w\)"),
        ((8, 8, 3), "float32", r"images are \(n, h, w, c\)"),
        ((2, 8, 8, 3), "uint8", "the images are uint8; normalize pixels first"),
        ((2, 8, 8, 4), "float32", r"does not take images of shape \(2, 8, 8, 4\)"),
    ],
)
def test_images_that_do_not_fit(shape, dtype, words):
    model = small_model(jnp.float32)
    with pytest.raises(InputError, match=words):
        layers_of(model, jax.ShapeDtypeStruct(shape, dtype))


@pytest.mark.parametrize("channels", [2, 8])
def test_signals_of_several_channels(channels, x64):
    def network(x, ops, tap):
        x = ops.relu(Conv(4, (1, 5), padding=(0, 2), name="conv")(x, ops, tap), "relu")
        return Dense(2, name="head")(ops.mean_pool(x, "mean"), ops)

    signals = jnp.asarray(np.random.default_rng(0).standard_normal((3, 1, 20, channels)))
    model = Model(module(network), module(network).init(jax.random.key(0), signals))
    assert relevance(model, signals, target=0, composite=EPSILON).input.shape == signals.shape


def test_an_empty_batch(x64):
    model, images = model_of(module(plain))
    for call in (relevance, check_model):
        with pytest.raises(InputError, match="there are no images"):
            call(model, images[:0], target=0)


# What no operation does


def outside(how):
    def network(x, ops, tap):
        a = ops.relu(Conv(4, 3, padding=1, name="a")(x, ops, tap), "a.relu")
        b = ops.relu(Conv(4, 3, padding=1, name="b")(x, ops, tap), "b.relu")
        y = ops.relu(how(a, b), "relu")
        return Dense(2, name="head")(ops.mean_pool(y, "mean"), ops)

    return module(network)


OUTSIDE = {"sum": lambda a, b: a + b, "product": lambda a, b: a * b, "3a - b": lambda a, b: 3 * a - b}


@pytest.mark.parametrize("how", OUTSIDE.values(), ids=OUTSIDE)
def test_what_no_operation_does_is_found_and_named(how, x64):
    model, images = model_of(outside(how))
    check = check_model(model, images, target=0, composite=EPSILON)
    assert not check.ok
    assert check.outside > 0.05
    assert "relu reads what no operation made (of a.relu, b.relu, perhaps)" in check.trouble
    assert "ops.add" in check.trouble


HEADS = {
    "dense": lambda x, ops: nn.Dense(3, param_dtype=x.dtype)(x),
    "softmax": lambda x, ops: jax.nn.softmax(Dense(3, name="head")(x, ops)),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_that_is_no_operation_is_named(head, x64):
    model, images = model_of(module(lambda x, ops, tap: head(ops.mean_pool(body(x, ops, tap), "mean"), ops)))
    check = check_model(model, images, target=0, composite=EPSILON)
    assert not check.ok
    assert "no operation made what the network returns" in check.trouble
    assert "tffjax.nn.Dense" in check.trouble


def test_what_passes_relevance_as_it_is_is_only_noted(x64):
    model, images = model_of(outside(lambda a, b: jnp.concatenate([a, b], axis=3)[..., ::-1]))
    check = check_model(model, images, target=0, composite=EPSILON)
    assert check.ok
    assert len(check.notes) == 1


def test_the_same_as_operations_is_accounted_for(x64):
    def network(x, ops, tap):
        a = ops.relu(Conv(4, 3, padding=1, name="a")(x, ops, tap), "a.relu")
        b = ops.relu(Conv(4, 3, padding=1, name="b")(x, ops, tap), "b.relu")
        return Dense(2, name="head")(ops.mean_pool(ops.add(a, b, "sum"), "mean"), ops)

    model, images = model_of(module(network))
    check = check_model(model, images, target=0, composite=EPSILON)
    assert check.ok
    assert check.notes == ()


def test_batch_norms_that_nobody_folds_are_named(x64):
    def network(x, ops, tap):
        x = BatchNorm(name="bn")(Conv(4, 3, padding=1, name="conv")(x, ops, tap), ops)
        return Dense(2, name="head")(ops.mean_pool(ops.relu(x, "relu"), "mean"), ops)

    model, images = model_of(module(network))
    check = check_model(model, images, target=0, composite=EPSILON)
    assert not check.ok
    assert "1 batch norms, first bn, are not folded" in check.trouble
    assert check.notes == (check.trouble,)


# Gradients, and the surface


def linear(x, ops, tap):
    return Dense(3, name="head")(ops.mean_pool(Conv(4, 3, padding=1, name="conv")(x, ops, tap), "mean"), ops)


def test_gradients_of_a_linear_network_are_its_weights(x64):
    model, images = model_of(module(linear))
    gradient = jax.grad(lambda x: model(x)[:, 1].sum())(images)
    same(smooth_grad(model, images, 1, samples=3), gradient)
    same(integrated_gradients(model, images, 1, steps=3), gradient * images)


def test_integrated_gradients_add_up(x64):
    model, images = model_of(module(plain))
    found = integrated_gradients(model, images, 0, baseline=0.25, steps=256)
    change = model(images)[:, 0] - model(jnp.full_like(images, 0.25))[:, 0]
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), change, rtol=0, atol=1e-3 * np.abs(change).max())


def test_gradients_refuse_what_has_no_meaning(x64):
    model, images = model_of(module(plain))
    with pytest.raises(InputError, match="may change on the way"):
        integrated_gradients(model, images, "top")
    with pytest.raises(InputError, match="at least 1 sample"):
        smooth_grad(model, images, 0, samples=0)


def test_reprs_are_a_few_lines():
    model = small_model(jnp.float32)
    images = noise(16, dtype=jnp.float32)
    for thing in (model, tffjax.prepare(model, "beta0"), relevance(model, images, target=0, sites=True), EPSILON):
        assert len(repr(thing)) < 600


def test_a_model_is_one_compiled_program():
    model, images = small_model(jnp.float32), noise(16, dtype=jnp.float32)
    (equation,) = jax.make_jaxpr(lambda images: model(images))(images).eqns
    assert equation.primitive.name in ("pjit", "jit")
    np.testing.assert_allclose(model(images), model(images, Plain()), rtol=tolerances.F32_PROGRAM, atol=1e-6)
