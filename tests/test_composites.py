"""Composites: which layer gets which rule, what a network's layers are, and what the backward pass computes."""

import dataclasses
import re
from collections import Counter

import cases
import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import tolerances
from small import noise, small_model

from tffjax.errors import InputError
from tffjax.kernels import choice
from tffjax.kernels.convolution import Geometry
from tffjax.lrp import composites, redistribution, rules
from tffjax.lrp.composites import (
    BETA0,
    COMPOSITES,
    EPSILON,
    GRADIENT_X_INPUT,
    Composite,
    first_layers,
    last_layer,
    rule,
)
from tffjax.lrp.explain import relevance
from tffjax.lrp.operations import LrpOps
from tffjax.nn import Conv, Dense, Model, canonize
from tffjax.nn.graph import Layer, layers_of, trace
from tffjax.nn.ops import Plain, no_tap
from tffjax.nn.sites import Record

CONV, FIRST = Layer("a.conv", "conv", (4, 4, 8)), Layer("stem", "conv", (8, 8, 4), first=True)


NAMES = """
    stem stem.relu pool depthwise depthwise.silu se.pool squeeze se.sigmoid se.gate project sum sum.relu average head
    head.relu global out
""".split()  # noqa: SIM905


# Composites as values


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_composite_is_hashable_and_equal_to_its_copy(name):
    composite = COMPOSITES[name]
    copy = dataclasses.replace(composite)
    assert copy == composite
    assert hash(copy) == hash(composite)
    assert composite.name == name
    assert all(composite != other for key, other in COMPOSITES.items() if key != name)


def test_a_composite_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BETA0.conv = None


def test_rules_are_equal_whatever_the_order_of_their_constants():
    assert rule(rules.z_box, low=-1.0, high=2.0) == rule(rules.z_box, high=2.0, low=-1.0)
    assert hash(rule(rules.z_box, low=-1.0, high=2.0)) == hash(rule(rules.z_box, high=2.0, low=-1.0))
    assert rule(rules.gamma, gamma=0.1) != rule(rules.gamma, gamma=0.2)
    assert str(rule(rules.gamma, gamma=0.1)) == "gamma gamma=0.1"


def test_replace_by_kind():
    gamma = rule(rules.gamma)
    changed = BETA0.replace(conv=gamma)
    assert changed.rule_of(CONV) == gamma
    assert changed.rule_of(FIRST) == BETA0.first
    assert changed.rule_of(Layer("fc", "dense", (1,))) == BETA0.dense
    assert (changed.name, BETA0.replace(name="mine").name) == ("beta0, changed", "mine")
    assert BETA0.rule_of(CONV) == rule(rules.z_plus)  # the preset is left alone


def test_the_first_convolution():
    assert BETA0.rule_of(FIRST).function is rules.z_box
    assert BETA0.replace(first=None).rule_of(FIRST) == BETA0.conv
    assert EPSILON.rule_of(FIRST) == EPSILON.conv


def test_by_name_the_last_match_wins():
    flat, w_square = rule(rules.flat), rule(rules.w_square)
    changed = BETA0.at("layer4.*", flat).at("layer4.[01].conv?", w_square)
    by_name = {
        name: changed.rule_of(Layer(name, "conv", ())) for name in ("layer4.2.conv1", "layer4.1.conv1", "layer3.0")
    }
    assert by_name == {"layer4.2.conv1": flat, "layer4.1.conv1": w_square, "layer3.0": BETA0.conv}
    assert BETA0.at("stem", flat).rule_of(FIRST) == flat  # a name comes before being the first
    assert BETA0.at("fc", flat).rule_of(Layer("fc", "dense", (1,))) == flat


def test_by_place():
    """The first three layers with weights, and the last one, whatever their kinds; nothing between them counts."""
    flat, w_square, epsilon = rule(rules.flat), rule(rules.w_square), rule(rules.epsilon, epsilon=0.5)
    composite = (
        BETA0.at(first_layers(3), flat).at(last_layer, w_square).at("depth*", epsilon).at(first_layers(1), epsilon)
    )
    layers = layers_of(small_model(jnp.float32), noise(16, dtype=jnp.float32))
    assert [(layer.name, layer.number) for layer in layers if layer.number] == [
        ("stem", 1), ("depthwise", 2), ("squeeze", 3), ("project", 4), ("head", 5), ("out", 6)
    ]  # fmt: skip
    assert [layer.name for layer in layers if layer.last] == ["out"]
    found = {
        layer.name: composite.rule_of(layer) for layer in layers if composite.rule_of(layer) != BETA0.rule_of(layer)
    }
    assert found == {"stem": epsilon, "depthwise": epsilon, "squeeze": flat, "out": w_square}
    lines = composite.table(layers).splitlines()
    assert [line.split(" | ")[2].strip() for line in lines if line.startswith(("squeeze", "out"))] == [
        "flat",
        "w_square",
    ]
    sites_only = BETA0.at(lambda layer: layer.is_site, flat)
    assert sites_only.rule_of(next(layer for layer in layers if layer.name == "squeeze")) == BETA0.conv


def test_a_composite_by_place_is_a_value():
    assert BETA0.at(first_layers(2), rule(rules.flat)) == BETA0.at(first_layers(2), rule(rules.flat))
    assert hash(BETA0.at(last_layer, rule(rules.flat))) == hash(BETA0.at(last_layer, rule(rules.flat)))
    assert str(first_layers(2)) == "FirstLayers(count=2)"


def test_the_paper_s_names():
    """beta0 is z+, beta1 alpha 2 beta 1; the same rules under the names that other tools use."""
    assert BETA0.replace(name="epsilon-plus", first=None) == COMPOSITES["epsilon-plus"]
    assert BETA0.replace(name="epsilon-plus-flat", first=rule(rules.flat)) == COMPOSITES["epsilon-plus-flat"]
    beta1 = COMPOSITES["beta1"]
    assert beta1.replace(name="epsilon-alpha2-beta1", first=None) == COMPOSITES["epsilon-alpha2-beta1"]
    assert dict(beta1.conv.parameters) == {"alpha": 2.0, "beta": 1.0}


def test_what_a_composite_says_of_itself():
    gradients = {"gradient-x-input", "guided-backprop", "deconvnet"}
    assert {name for name, composite in COMPOSITES.items() if not composite.redistributes} == gradients
    assert {name for name, composite in COMPOSITES.items() if not composite.linear} == {"guided-backprop", "deconvnet"}
    assert GRADIENT_X_INPUT.at("*", rule(rules.flat)).redistributes


def test_the_rule_of_every_kind():
    epsilon = rule(rules.epsilon)
    by_kind = {
        kind: BETA0.rule_of(Layer("a", kind, ()))
        for kind in ("conv", "dense", "average_pool", "add", "max_pool", "activation", "gate")
    }
    assert by_kind == {
        "conv": rule(rules.z_plus),
        "dense": epsilon,
        "average_pool": epsilon,
        "add": epsilon,
        "max_pool": "winner takes all",
        "activation": "identity",
        "gate": "identity",
    }
    assert GRADIENT_X_INPUT.rule_of(CONV) is None
    assert GRADIENT_X_INPUT.rule_of(Layer("a", "activation", ())) == "gradient"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rule(rules.gamma, gama=0.1), "the rule gamma has no constant 'gama'; it takes gamma, epsilon"),
        (lambda: rule(rules.flat, gamma=0.1), "the rule flat has no constant 'gamma'; it takes epsilon"),
        (lambda: rule(redistribution.positive, gamma=0.1), "the rule positive has no constant 'gamma'; it takes none"),
        (lambda: rule(rules.alpha_beta, alpha=3.0), "alpha_beta needs alpha - beta = 1"),
        (lambda: rule(rules.z_box, low=1.0, high=-1.0), "the box of z_box needs low < high, not 1.0 and -1.0"),
        (lambda: first_layers(0), "first_layers(0) is no layer; count from 1"),
        (lambda: rule(rules.z_box, low=-1.0), "the rule z_box needs 'high'; it takes low, high, epsilon"),
        (
            lambda: rule(rules.z_box, low=[-1.0], high=1.0),
            "low of the rule z_box must be hashable: a tuple, not a list",
        ),
        (
            lambda: BETA0.replace(add=rule(rules.gamma)),
            "beta0, changed: the rule gamma is not for add layers, but for conv, dense; for add there are epsilon",
        ),
        (
            lambda: Composite("mine", average_pool=rule(rules.w_square)),
            "mine: the rule w_square is not for average_pool layers, but for conv, dense; for average_pool there are "
            "epsilon",
        ),
        (
            lambda: Composite("mine", first=rule(rules.sum_epsilon)),
            "mine: the rule sum_epsilon is not for first layers, but for add; for conv there are epsilon, z_plus, "
            "alpha_beta, beta_adaptive, z_box, gamma, w_square, flat",
        ),
        (lambda: Composite("mine", activation="idenity"), "mine: there is no activation 'idenity'; choose one of"),
        (lambda: Composite("mine", gate="guided"), "mine: there is no gate 'guided'; choose one of identity, gradient"),
    ],
)
def test_mistakes_are_refused_when_a_composite_is_made(make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make()


def test_what_is_no_rule_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as at a user's: the tests check every signature
    with pytest.raises(InputError, match=r"is not a rule; make one with rule\(function, constants...\)"):
        Composite("mine", conv=rules.epsilon)
    with pytest.raises(InputError, match=r"'gamma' is not a function .*: rule\(rules.gamma, gamma=0.1\)"):
        rule("gamma")
    with pytest.raises(InputError, match="beta0, changed: an override: 'epsilon' is not a rule"):
        BETA0.at("conv*", "epsilon")
    with pytest.raises(InputError, match=r"beta0, changed: 3 says of no layer whether it is meant; see Composite\.at"):
        BETA0.at(3, rule(rules.flat))


def test_a_rule_of_ones_own_is_for_layers_with_a_kernel_unless_it_says_otherwise():
    def mine(layer, relevance, *, power=1):
        return rules.flat(layer, relevance)

    assert rule(mine, power=2).kinds == ("conv", "dense")
    assert rule(redistribution.for_kinds("average_pool")(mine)).kinds == ("average_pool",)
    assert redistribution.kinds_of(rules.epsilon) == ("conv", "dense", "average_pool", "add")


def test_the_table_of_a_small_network():
    composite = BETA0.replace(first=rule(rules.z_box, low=-1.0, high=2.5)).at("head", rule(rules.gamma, gamma=0.1))
    table = composite.table(layers_of(small_model(jnp.float32), noise(16, dtype=jnp.float32)))
    assert [line.split(" | ") for line in table.splitlines()[:3]] == [
        ["site          ", "layer kind  ", "rule            ", "parameters"],
        ["stem          ", "conv        ", "z_box           ", "high=2.5, low=-1"],
        ["stem.relu     ", "activation  ", "identity        ", ""],
    ]
    cells = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[1:]]
    assert [row[0] for row in cells] == NAMES
    assert ["pool", "max_pool", "winner takes all", ""] in cells
    assert ["depthwise", "conv", "z_plus", ""] in cells
    assert ["project", "conv", "z_plus", ""] in cells
    assert ["sum", "add", "epsilon", ""] in cells
    assert ["se.gate", "gate", "identity", ""] in cells
    assert ["head", "conv", "gamma", "gamma=0.1"] in cells
    assert ["out", "dense", "epsilon", ""] in cells


def test_the_table_shows_the_gradient():
    assert "gradient" in GRADIENT_X_INPUT.table((CONV,))


# The layers of a network


def test_layers_of_a_small_network():
    layers = layers_of(small_model(jnp.float32), noise(16, dtype=jnp.float32))
    assert [layer.name for layer in layers] == NAMES
    by_name = {layer.name: layer for layer in layers}
    assert [name for name in NAMES if by_name[name].first] == ["stem"]
    assert [name for name in NAMES if by_name[name].is_site] == ["stem", "depthwise", "project", "head"]
    nonnegative = ["pool", "depthwise", "average", "head", "global", "out"]
    assert [name for name in NAMES if by_name[name].nonnegative] == nonnegative
    pool = by_name["pool"]
    assert pool[:6] == Layer("pool", "max_pool", (4, 4, 6), nonnegative=True)[:6]
    assert (pool.window, pool.geometry, pool.multiply_adds) == ((3, 3), Geometry((2, 2), ((1, 1), (1, 1))), 0)
    everything = trace(small_model(jnp.float32), noise(16, dtype=jnp.float32))
    numbers = {layer.name: number for number, layer in enumerate(everything, 1)}
    assert by_name["stem"].inputs == (0,)
    assert pool.inputs == (numbers["stem.relu"],)
    assert by_name["sum"].inputs == (numbers["project"], numbers["pool"])
    assert by_name["squeeze"].inputs == (-1,)  # the network added axes to the pool's output by itself
    assert by_name["se.gate"].held
    assert by_name["depthwise"].multiply_adds == 4 * 4 * 6 * 9
    assert by_name["out"].multiply_adds == 8 * 3
    assert by_name["head"].shape == (2, 2, 8)
    assert by_name["out"].shape == (3,)


def test_layers_of_the_networks(model, network):
    layers = layers_of(model, jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32))
    by_name = {layer.name: layer for layer in layers}
    sites = [layer for layer in layers if layer.is_site]
    convs = [layer for layer in layers if layer.kind == "conv"]
    assert len(sites) == network.num_sites
    assert [layer.name for layer in layers if layer.first] == [convs[0].name]
    assert (layers[0], layers[-1].kind) == (convs[0], "dense")
    kinds = Counter(layer.kind for layer in layers)
    if network.architecture == "resnet50":
        assert kinds == {"conv": 53, "activation": 49, "max_pool": 1, "add": 16, "average_pool": 1, "dense": 1}
        assert convs[0].name == "conv1"
        # everything behind a ReLU: all convolutions but the first, the pools and the dense layer, no residual sum
        assert [conv.name for conv in convs if not conv.nonnegative] == ["conv1"]
        assert all(by_name[name].nonnegative for name in ("maxpool", "avgpool", "fc"))
        assert not any(layer.nonnegative for layer in layers if layer.kind == "add")
        assert by_name["layer4.2.conv3"].shape == (2, 2, 2048)
    else:
        # 49 sites and 2 convolutions in each of the 16 squeeze-excites; SiLU makes negative inputs everywhere
        assert kinds == {"conv": 81, "activation": 65, "gate": 16, "add": 9, "average_pool": 17, "dense": 1}
        assert not any(layer.nonnegative for layer in layers)
        assert convs[0].name == "_conv_stem"


# Forward values


@pytest.mark.parametrize("composite", COMPOSITES.values(), ids=lambda composite: composite.name)
def test_forward_values_are_those_of_plain_operations_bit_for_bit(composite):
    model, images = small_model(jnp.float32), noise(16, dtype=jnp.float32)
    layers = layers_of(model, images)

    def run(ops):
        def outputs(images):
            record = Record()
            return model(images, ops, record), record.outputs

        return jax.jit(outputs)(images)

    jax.tree.map(np.testing.assert_array_equal, run(LrpOps(composite=composite, layers=layers)), run(Plain()))


# What the backward pass computes


def explained(model, images, composite, **options):
    """Explained outputs as a function of variables and images."""
    ops = LrpOps(composite=composite, layers=layers_of(model, images), **options)
    return lambda variables, images: dataclasses.replace(model, variables=variables)(images, ops)[:, 0]


RULED = [composite for composite in COMPOSITES.values() if composite.redistributes]


@pytest.mark.parametrize("composite", RULED, ids=lambda composite: composite.name)
def test_weights_get_no_cotangent(composite):
    model, images = small_model(jnp.float32), noise(16, dtype=jnp.float32)
    gradient = jax.jit(jax.grad(lambda v, x: explained(model, images, composite)(v, x).sum(), (0, 1)))
    to_weights, to_images = gradient(model.variables, images)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(to_weights))
    assert np.any(to_images)


def equations(jaxpr):
    """All equations of a program, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


MACS = ("conv_general_dilated", "dot_general")


def multiplications(program):
    """The convolutions and dots of a program."""
    return [equation for equation in equations(program.jaxpr) if equation.primitive.name in MACS]


def backward_program(model, images, composite, **options):
    function = explained(model, images, composite, **options)

    def run(images):
        value, pullback = jax.vjp(lambda images: function(model.variables, images), images)
        return pullback(jnp.ones_like(value))

    return jax.make_jaxpr(run)(images)


@pytest.mark.parametrize("architecture", [cases.RESNET50, cases.B0_SAME], ids=lambda network: network.name)
def test_the_backward_pass_has_no_weight_gradient(architecture):
    # Where XLA's own convolutions are used, each is one equation, so that they can be counted.
    model = canonize(architecture.random_model())
    images = noise(32, count=11, dtype=jnp.float32)  # 11: no kernel, no map and no channel count has this size
    composite = composites.BETA0.replace(first=None) if architecture is cases.B0_SAME else composites.BETA0
    layers = layers_of(model, images)
    program = backward_program(model, images, composite, kernels=choice.XLA)

    expected = Counter()
    for layer in layers:
        if layer.kind == "conv" and (layer.is_site or layer.first):
            # forward, denominator and transposed: the last two once for each pair of input and weights of the rule
            # ... but for the two transposes of a strided convolution of few channels, which are one
            pairs = 1 if layer.nonnegative else 2
            expected["conv_general_dilated"] += 1 + pairs + (1 if layer.first else pairs)
        elif layer.kind == "conv":
            expected["conv_general_dilated"] += 1  # the gate gets no relevance, so its convolutions run forward only
        elif layer.kind == "dense":
            expected["dot_general"] += 2  # the denominator of the epsilon rule is the output itself
    assert Counter(equation.primitive.name for equation in multiplications(program)) == expected

    # Every convolution and dot has the weights as one operand; a weight gradient has two activations.
    for equation in multiplications(program):
        assert sum(11 in variable.aval.shape for variable in equation.invars) <= 1, equation


def test_the_scan_finds_a_weight_gradient_where_there_is_one():
    model, images = small_model(jnp.float32), noise(16, count=11, dtype=jnp.float32)
    program = jax.make_jaxpr(jax.grad(lambda variables: dataclasses.replace(model, variables=variables)(images).sum()))(
        model.variables
    )
    found = [eqn for eqn in multiplications(program) if sum(11 in var.aval.shape for var in eqn.invars) == 2]
    assert len(found) >= 3


# A user's network


@pytest.mark.parametrize("composite", [composite.name for composite in RULED])
def test_relevance_of_a_small_network_is_conserved(composite, x64):
    """Whatever enters a layer leaves it or is accounted for, and what leaves the layers arrives at the image."""
    model, images = small_model(), noise(16)
    layers = layers_of(model, images)
    ruled = [layer.name for layer in layers if layer.kind in ("conv", "dense", "average_pool", "add")]
    ledgers = {name: jnp.zeros((2, 5)) for name in ruled}

    @jax.jit
    def account(images, ledgers):
        def value(images, ledgers):
            return model(images, LrpOps(composite=COMPOSITES[composite], layers=layers, ledgers=ledgers))[:, 1]

        value, pullback = jax.vjp(value, images, ledgers)
        return pullback(jnp.ones_like(value))

    at_input, books = account(images, ledgers)
    books = {name: np.asarray(book) for name, book in books.items()}
    scale = max(np.abs(book).max() for book in books.values())
    for name, (entered, left, *lost) in ((name, book.T) for name, book in books.items()):
        np.testing.assert_allclose(entered, left + sum(lost), atol=tolerances.RULE * scale, err_msg=name)
    np.testing.assert_allclose(books["out"][:, 0], 1, rtol=1e-15)
    lost = sum(book[:, 2:].sum(axis=1) for name, book in books.items())
    np.testing.assert_allclose(np.sum(at_input, axis=(1, 2, 3)), 1 - lost, atol=tolerances.RULE * scale)
    # the gate gets nothing
    assert not books["squeeze"].any()
    assert not books["se.pool"].any()


def test_without_biases_beta0_hands_everything_on(x64):
    # Also the stabilizer of dense layer, pools and sum takes next to nothing.
    model = small_model()
    params = model.variables["params"]
    without = {
        name: {key: a if key == "kernel" else 0 * a for key, a in layer.items()} for name, layer in params.items()
    }
    found = relevance(dataclasses.replace(model, variables={"params": without}), noise(32), target=1, sites=True)
    np.testing.assert_allclose(found.input.sum(axis=(1, 2, 3)), 1, atol=1e-4)
    for name in ("stem", "head"):  # the two that all relevance passes
        np.testing.assert_allclose((found.sites[name][:, 0] - found.sites[name][:, 1]).sum(axis=1), 1, atol=1e-4)


def test_gradient_x_input_is_that(x64):
    model, images = small_model(), noise(16)
    found = relevance(model, images, target=2, composite="gradient-x-input")
    gradient = jax.jit(jax.grad(lambda images: model(images)[:, 2].sum()))(images)
    np.testing.assert_allclose(found.input, gradient * images, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("composite", "expected"),
    [
        # half the weight where the weight and the input are positive
        ("guided-backprop", [[[4, 0, 0]], [[0, 0, 1]]]),
        # half the weight where it is positive
        ("deconvnet", [[[4, 0, 1]], [[4, 0, 1]]]),
    ],
)
def test_gradients_of_activations_by_hand(composite, expected):
    class Chain(nn.Module):
        @nn.compact
        def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
            return Dense(1, name="out")(ops.mean_pool(ops.relu(x, "relu"), "pool"), ops)

    params = {"out": {"kernel": jnp.array([[8.0], [-4.0], [2.0]]), "bias": jnp.zeros(1)}}
    images = jnp.array([[[[1.0, 1, -1]], [[-1.0, 2, 3]]]])
    found = relevance(Model(Chain(), {"params": params}), images, composite=composite)
    assert found.input[0].tolist() == expected


@pytest.mark.extended
def test_epsilon_is_gradient_x_input_over_the_output_on_a_relu_network(x64):
    class Relus(nn.Module):
        @nn.compact
        def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
            x = ops.relu(Conv(5, 3, stride=2, name="one")(x, ops, tap), "one.relu")
            x = ops.relu(Conv(5, 3, padding=1, name="two")(x, ops, tap), "two.relu")
            return Dense(1, name="out")(ops.mean_pool(x, "pool"), ops)

    model = Model(Relus(), cases.random_variables(Relus(), seed=0)).astype(jnp.float64)
    images = noise(12)
    tiny = {"epsilon": 1e-15}
    composite = EPSILON.replace(**{kind: rule(rules.epsilon, **tiny) for kind in ("conv", "dense", "average_pool")})
    found = relevance(model, images, composite=composite)
    gradient = jax.jit(jax.grad(lambda images: model(images).sum()))(images)
    expected = gradient * images / found.logits[:, :, None, None]
    np.testing.assert_allclose(found.input, expected, atol=1e-8 * np.abs(expected).max())


def test_a_pattern_may_cover_sums_and_pools_too():
    """The module's own example: an epsilon rule for whatever matches, residual sums included."""
    everywhere = composites.BETA0.at("*", rule(rules.epsilon, epsilon=1e-3))
    model, images = small_model(jnp.float32), noise(16, dtype=jnp.float32)
    table = everywhere.table(layers_of(model, images))
    assert "sum            | add          | epsilon          | epsilon=0.001" in table
    assert jnp.isfinite(relevance(model, images, target=0, composite=everywhere).input).all()
    # a rule of kernels leaves layers without one as they were
    kernels = composites.BETA0.at("*", rule(rules.gamma, gamma=0.5))
    by_name = {layer.name: kernels.rule_of(layer) for layer in layers_of(model, images)}
    assert by_name["sum"] == composites.BETA0.add
    assert by_name["stem"].function is rules.gamma


def test_composites_print_in_a_line():
    mine = COMPOSITES["epsilon-plus"].at("conv3", rule(rules.gamma, gamma=0.25))
    assert repr(mine) == (
        "Composite('epsilon-plus, changed', conv=z_plus(), dense=epsilon(), average_pool=epsilon(), add=epsilon(), "
        "overrides=(('conv3', gamma(gamma=0.25)),))"
    )
    assert "at 0x" not in "".join(map(repr, COMPOSITES.values()))
