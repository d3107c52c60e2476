"""The account of relevance: every loss has a name, and trouble is named with its layer."""

import dataclasses

import cases
import jax.numpy as jnp
import numpy as np
import pytest
from small import noise, small_model

from tffjax.errors import InputError
from tffjax.lrp import rules
from tffjax.lrp.composites import BETA0, EPSILON, Composite, rule
from tffjax.lrp.conservation import UNEXPLAINED, check_model
from tffjax.lrp.rules import epsilon
from tffjax.nn.graph import layers_of


@pytest.mark.parametrize("composite", ["beta0", "beta1", "epsilon", "epsilon-plus", "epsilon-gamma-box"])
def test_losses_are_explained_and_add_up_to_what_does_not_arrive(composite, x64):
    check = check_model(small_model(), noise(16), composite=composite)
    assert check.ok
    lost = sum(b.bias + b.stabilizer + b.zero for b in check.balances)
    np.testing.assert_allclose(check.end, check.start - lost, atol=1e-10)
    assert check.conserved == check.end


def test_balances_go_from_the_output_to_the_image():
    model, images = small_model(jnp.float32), noise(16, dtype=jnp.float32)
    kinds = ("conv", "dense", "average_pool", "add")
    gate = ("se.pool", "squeeze")  # no relevance reaches what computes a gate
    ruled = [x.name for x in layers_of(model, images) if x.kind in kinds and x.name not in gate]
    assert [balance.layer for balance in check_model(model, images).balances] == ruled[::-1]


def test_the_bias_takes_its_share(x64):
    """One dense layer y = x w + b: the bias keeps b / y."""
    model, images = small_model(), noise(16)
    head = check_model(model, images, composite="epsilon", target=0).balances[0]
    logits = model(images)[:, 0]
    bias = model.variables["params"][head.layer]["bias"][0]
    np.testing.assert_allclose(head.bias, float(jnp.mean(bias / logits)), rtol=1e-4)


def test_an_infinite_weight_is_found_at_its_layer():
    model, images = small_model(jnp.float32), noise(16, dtype=jnp.float32)
    first = next(layer.name for layer in layers_of(model, images) if layer.first)
    params = dict(model.variables["params"])
    params[first] = {**params[first], "kernel": params[first]["kernel"].at[0, 0, 0, 0].set(jnp.inf)}
    check = check_model(dataclasses.replace(model, variables={"params": params}), images)
    assert not check.ok
    assert any(not balance.finite and "NaN" in balance.advice for balance in check.balances)


def test_a_large_epsilon_is_seen_as_a_loss_to_the_stabilizer():
    greedy = EPSILON.replace(dense=rule(epsilon, epsilon=10.0))
    head = check_model(small_model(jnp.float32), noise(16, dtype=jnp.float32), composite=greedy).balances[0]
    assert abs(head.stabilizer) > 0.5
    assert "smaller epsilon" in head.advice
    assert head.unexplained < UNEXPLAINED


def test_dead_units_are_seen_as_a_loss_to_zeros():
    """A convolution whose weights are all negative, on inputs >= 0, has no positive contribution anywhere."""
    model, images = small_model(jnp.float32), noise(16, dtype=jnp.float32)
    dead = next(x.name for x in layers_of(model, images) if x.kind == "conv" and x.nonnegative)
    params = dict(model.variables["params"])
    params[dead] = {**params[dead], "kernel": -jnp.abs(params[dead]["kernel"]), "bias": params[dead]["bias"] + 9}
    check = check_model(dataclasses.replace(model, variables={"params": params}), images, composite="beta0")
    balance = next(b for b in check.balances if b.layer == dead)
    np.testing.assert_allclose(balance.zero, balance.entered, rtol=1e-6)
    assert balance.left == 0


@pytest.mark.parametrize("start", [[1.0, -1.0, 0.0], [0.5, 0.5, 0.0], [0.0, -1.0, 0.0]])
def test_what_arrives_of_any_start_relevance(start, x64):
    check = check_model(small_model(), noise(16), target=np.array(start), composite="epsilon")
    lost = abs(sum(b.bias + b.stabilizer + b.zero for b in check.balances))
    assert check.ok
    assert check.size == np.abs(start).sum()
    np.testing.assert_allclose(abs(1 - check.conserved), lost / check.size, atol=1e-10)


@pytest.mark.extended
def test_kinds_without_a_rule_are_named(x64):
    partial = Composite("partial", conv=rule(epsilon), dense=rule(epsilon))
    check = check_model(small_model(), noise(16), composite=partial)
    assert not check.ok
    assert "no rule for add (sum), whose gradient copies relevance to both summands: add=rule(" in check.trouble
    guided = check_model(small_model(), noise(16), composite=EPSILON.replace(activation="guided"))
    assert 'activation="guided" (stem.relu, depthwise.silu, sum.relu, ...) changes relevance' in guided.trouble


def test_overrides_that_reach_no_layer_are_named(x64):
    model, images = small_model(), noise(16)
    gamma = rule(rules.gamma)
    mine = EPSILON.at("stm", gamma).at("pool", gamma).at("stem", gamma).at(lambda layer: False, gamma)
    stm, pool, never = check_model(model, images, composite=mine).notes
    assert stm == "at('stm', gamma()) reaches no layer: there is stem, sum"
    assert pool == "at('pool', gamma()) reaches no layer: gamma is for conv, dense, not for pool, max_pool"
    assert never.endswith("reaches no layer: it means none of them")
    assert mine.table(layers_of(model, images)).splitlines()[-3:] == [stm, pool, never]


def test_images_that_leave_the_box_are_noted(x64):
    model, images = small_model(), noise(16)
    box = EPSILON.replace(first=rule(rules.z_box, low=-1.0, high=1.0))
    (note,) = check_model(model, images, composite=box).notes
    assert "outside of the box of stem, -1.0 to 1.0: give the composite first=rule(" in note
    assert check_model(model, jnp.clip(images, -1, 1), composite=box).notes == ()


def test_gradients_are_refused():
    with pytest.raises(InputError, match="gradient"):
        check_model(small_model(jnp.float32), noise(16, dtype=jnp.float32), composite="gradient-x-input")


@pytest.mark.parity
def test_resnet_keeps_all_but_the_bias(shared):
    """On ResNet-50 only the last layer's bias and the epsilons take relevance."""
    golden = next(golden for golden in cases.GOLDEN if golden.folder == "resnet50")
    images = jnp.asarray(cases.golden_images(224)[:1])
    check = check_model(golden.model(), images, composite=BETA0)
    head, *others = check.balances
    assert check.ok
    assert abs(1 - head.bias - check.end) < 1e-3
    assert max(abs(b.zero) + abs(b.bias) for b in others) == 0


@pytest.mark.parametrize("target", [3, -1, "typo", "logit"])
def test_a_target_that_is_not_there(target):
    with pytest.raises(InputError):
        check_model(small_model(jnp.float32), noise(16, dtype=jnp.float32), target=target)
