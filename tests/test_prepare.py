"""Prepared weights: passes do nothing to weights alone, and give the same numbers with and without."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from small import SmallNet

import tffjax
from tffjax.compile.logits import forward
from tffjax.compile.placement import put, put_model
from tffjax.errors import InputError
from tffjax.kernels import choice
from tffjax.lrp import rules
from tffjax.lrp.composites import COMPOSITES, rule
from tffjax.nn import Model
from tffjax.studies.color.activations import max_activations
from tffjax.studies.dropout.logits import masked_logits
from tffjax.studies.dropout.settings import Setting
from tffjax.studies.ffrs.statistic import relevance_shares
from tffjax.studies.lrpmax.search import maxima
from tffjax.studies.rankings import all_channels

MOVES = {"reshape", "squeeze", "transpose", "slice", "rev", "concatenate", "pad", "broadcast_in_dim", "copy"}
"""Operations that are no arithmetic: numbers are only read in another order."""

RULED = [name for name, composite in COMPOSITES.items() if composite.redistributes]
WITH_BIAS = COMPOSITES["epsilon-alpha2-beta1"].replace(
    name="with bias", conv=rule(rules.alpha_beta, bias=True, epsilon=1e-6), dense=rule(rules.z_plus, bias=True)
)
NETWORKS = (cases.RESNET50, cases.B0_SAME)


def small(outputs: int = 1) -> Model:
    return Model(SmallNet(outputs=outputs), cases.random_variables(SmallNet(outputs=outputs), seed=0))


@pytest.fixture
def images(rng):
    return jnp.asarray(rng.normal(size=(4, 16, 16, 3)), jnp.float32)


def on_weights_alone(jaxpr, of_weights):
    """The operations of a program, and of those in it, whose inputs all come from weights; and which outputs do."""
    known, found = {v for v, is_weight in zip(jaxpr.invars, of_weights, strict=True) if is_weight}, []
    for equation in jaxpr.eqns:
        inputs = [v for v in equation.invars if not isinstance(v, jax.extend.core.Literal)]
        inner = [p for p in equation.params.values() if hasattr(p, "jaxpr")]
        flags = [v in known for v in equation.invars if not isinstance(v, jax.extend.core.Literal)]
        if len(inner) == 1 and len(inner[0].jaxpr.invars) == len(equation.invars):
            flags = [not isinstance(v, jax.extend.core.Literal) and v in known for v in equation.invars]
            more, outputs = on_weights_alone(inner[0].jaxpr, flags)
            found += more
            known.update(v for v, flag in zip(equation.outvars, outputs, strict=True) if flag)
        elif inputs and all(flags):
            known.update(equation.outvars)
            if equation.primitive.name not in MOVES:
                found.append(equation)
    return found, [v in known for v in jaxpr.outvars]


def arithmetic_on_weights(function, model, *arrays):
    """Names of the operations that a pass does on weights alone."""
    program = jax.make_jaxpr(function)(model, *arrays).jaxpr
    count = len(jax.tree.leaves(model))
    found, _ = on_weights_alone(program, [i < count for i in range(len(program.invars))])
    return [equation.primitive.name for equation in found]


def rank(model, images):
    return relevance_shares(model, images, jnp.ones(len(images), jnp.int32), micro_batch=2)


def color(model, images):
    return max_activations(model, images, all_channels(model)[::7], micro_batch=2)


def assert_nothing_is_done_to_weights_alone(model, composite):
    prepared = tffjax.prepare(model, composite)
    # the box of zB, w^2 and flat meet an image of ones, which depends on the size of the images
    assert set(arithmetic_on_weights(rank, prepared, jnp.zeros((4, 32, 32, 3)))) <= {"conv_general_dilated"}


@pytest.mark.parametrize("composite", [*RULED, pytest.param(WITH_BIAS, id="with bias")])
def test_rank_does_nothing_to_weights_alone(composite):
    assert_nothing_is_done_to_weights_alone(small(), composite)


@pytest.mark.extended
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
@pytest.mark.parametrize(
    "composite",
    ["beta0", *(pytest.param(name, marks=pytest.mark.slow) for name in (*RULED, WITH_BIAS) if name != "beta0")],
    ids=str,
)
def test_rank_does_nothing_to_the_weights_of_the_networks_alone(network, composite):
    assert_nothing_is_done_to_weights_alone(network.random_model(), composite)


@pytest.mark.extended
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_color_and_predict_do_nothing_to_kernels_alone(network):
    model, pixels = network.random_model(), jnp.zeros((4, 32, 32, 3))
    prepared = tffjax.prepare(model)
    for function in (color, lambda model, images: forward(model, images, micro_batch=2)):
        # what is left is scale / sqrt(var + epsilon) of the batch norms: as trained, they are not folded
        assert set(arithmetic_on_weights(function, prepared, pixels)) <= {"add", "sqrt", "div"}


def test_a_pass_on_the_model_itself_shows_what_is_looked_for():
    found = arithmetic_on_weights(rank, cases.RESNET50.random_model(), jnp.zeros((4, 32, 32, 3)))
    assert {"max", "sqrt", "div", "mul", "sub"} <= set(found)


@pytest.mark.extended
@pytest.mark.parametrize("composite", COMPOSITES)
def test_explanations_are_the_same(composite, images):
    model = small()
    expected = tffjax.relevance(model, images, composite=composite, sites=True)
    found = tffjax.relevance(tffjax.prepare(model, composite), images, sites=True)
    close(found, expected)


@pytest.mark.extended
def test_other_passes_are_the_same(images):
    model, channels = small(), all_channels(small())
    plain, explaining = tffjax.prepare(model), tffjax.prepare(model, "beta0")
    close(forward(plain, images), forward(model, images))
    close(max_activations(plain, images, channels), max_activations(model, images, channels))
    settings = [Setting("none", ()), Setting("some", channels[:3])]
    close(masked_logits(plain, images, settings), masked_logits(model, images, settings))
    close(maxima(explaining, images, channels[:2]), maxima(model, images, channels[:2]))
    close(tffjax.lrp_max(explaining, images, channels[:2]), tffjax.lrp_max(model, images, channels[:2]))


def close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.F32_PROGRAM * (np.abs(b).max() + 1)),
        found,
        expected,
    )


def test_a_user_s_rule_without_a_declaration(images):
    """It makes what it needs of the kernel itself, prepared or not."""

    def halved(layer, relevance):
        return tffjax.lrp.redistribute(layer, ((jnp.ones_like(layer.x[:1]), 0.5 * layer.kernel**2),), relevance)

    composite = COMPOSITES["beta0"].replace(conv=tffjax.lrp.rule(halved), first=None)
    model = small()
    expected = tffjax.relevance(model, images, composite=composite)
    close(tffjax.relevance(tffjax.prepare(model, composite), images), expected)


@pytest.mark.extended
@pytest.mark.parametrize("placement", ["replicated", "sharded"])
def test_on_two_devices(placement, images, x64):
    """Weights on both devices, or each device with a half of every array that can be halved."""
    model, images = small().astype("float64"), jnp.asarray(images, jnp.float64)
    expected = tffjax.relevance(model, images, sites=True)
    if placement == "replicated":
        prepared = put_model(tffjax.prepare(model, "beta0"), len(images))
        assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(prepared))
    else:
        prepared = jax.tree.map(halves, tffjax.prepare(jax.tree.map(halves, model), "beta0"))
        assert not all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(prepared))
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(prepared)} == {2}
    found = tffjax.relevance(prepared, put(images), sites=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.F64_PROGRAM), found, expected)


def halves(array):
    can_be_halved = array.ndim and array.shape[-1] % 2 == 0
    axes = [*[None] * (array.ndim - 1), "out"] if can_be_halved else []
    return jax.device_put(array, NamedSharding(Mesh(jax.local_devices(), ("out",)), PartitionSpec(*axes)))


def test_what_a_prepared_model_refuses(images):
    prepared, plain = tffjax.prepare(small(), "epsilon"), tffjax.prepare(small())
    with pytest.raises(InputError, match="prepared for epsilon, not for beta0"):
        tffjax.relevance(prepared, images, composite="beta0")
    with pytest.raises(InputError, match="prepared for float32, not for bfloat16"):
        tffjax.relevance(prepared, images, precision="bfloat16")
    with pytest.raises(InputError, match="forward passes only"):
        tffjax.relevance(plain, images)
    with pytest.raises(InputError, match="prepared already"):
        tffjax.prepare(prepared, "epsilon")
    with pytest.raises(InputError, match="first model"):
        prepared.astype("float64")
    assert tffjax.relevance(prepared, images, composite="epsilon", precision="float32").logits.shape == (4, 1)


def test_bfloat16_kernels_are_stored_so():
    weights = tffjax.prepare(small(), "beta0", precision="bfloat16").weights
    kernels = [leaf.dtype for name, leaves in weights.items() for leaf in jax.tree.leaves(leaves) if name != "out"]
    assert jnp.bfloat16 in kernels


@pytest.mark.extended
def test_kernels_are_chosen_in_one_place(images):
    """XLA's own ways and those of a CPU explain the same; no kernel is transformed for the first."""
    model = cases.RESNET50.random_model()
    assert not tffjax.prepare(model, "beta0", kernels=choice.XLA).transformed
    assert tffjax.prepare(model, "beta0").transformed
