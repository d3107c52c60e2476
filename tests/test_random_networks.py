"""Random small networks: every layer, every rule, both signs, against explicit matrices (`random_networks`)."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rule_oracles
import tolerances
from random_networks import Drawn, Step, explained

from tffjax.kernels.convolution import Geometry
from tffjax.lrp import rules
from tffjax.lrp.composites import Composite, rule
from tffjax.lrp.operations import LrpOps
from tffjax.nn import Conv, ConvTranspose, Dense, GroupNorm, LayerNorm, Model, functions, layers_of
from tffjax.nn.ops import Plain, no_tap

FAST, ALL = 6, 200

CONSTANTS = {
    "epsilon": ({"epsilon": 1e-6}, {"epsilon": 0.25}),
    "z_plus": ({}, {"bias": True, "epsilon": 0.1}),
    "alpha_beta": ({}, {"alpha": 1.5, "beta": 0.5}, {"bias": True, "epsilon": 0.1}),
    "beta_adaptive": ({}, {"beta_max": 1.5}),
    "gamma": ({}, {"gamma": 1.0, "epsilon": 0.1}),
    "w_square": ({}, {"bias": True, "epsilon": 0.1}),
    "flat": ({}, {"epsilon": 0.1}),
}
ACTIVATIONS = {
    "relu": functions.relu,
    "leaky_relu": functools.partial(functions.leaky_relu, slope=0.2),
    "silu": functions.silu,
    "tanh": jnp.tanh,
}
BOX = {"low": -4.0, "high": 5.0}


class Network(nn.Module):
    """A drawn network in the product's language."""

    steps: tuple[Step, ...]

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        arrays, layers = [x], {}
        for step in self.steps:
            inputs, options = [arrays[i] for i in step.inputs], dict(step.options)
            arrays.append(self.compute(step, inputs, options, layers, ops, tap))
        return arrays[-1]

    def compute(self, step: Step, inputs: list, options: dict[str, Any], layers: dict, ops: Plain, tap) -> jax.Array:
        kind, name, x = step.kind, step.layer, inputs[0]
        if kind in ("conv", "conv_transpose"):
            if name not in layers:
                layers[name] = (Conv if kind == "conv" else ConvTranspose)(**options, name=name)
            return layers[name](x, ops, tap)
        if kind == "dense":
            return Dense(**options, name=name)(x, ops)
        if kind == "activation":
            return ops.activation(x, ACTIVATIONS[options["function"]], "one name for all")
        if kind in ("average_pool", "max_pool"):
            window, *counted = (options.pop(key) for key in ("window", "count_padding") if key in options)
            if window is None:
                return ops.mean_pool(x, name)
            pool = functools.partial(ops.average_pool, count_padding=counted[0]) if counted else ops.max_pool
            return pool(x, window, name=name, geometry=Geometry(**options))
        if kind == "layer_norm":
            return LayerNorm(1e-3, name=name)(x, ops)
        if kind == "group_norm":
            return GroupNorm(options["groups"], 1e-3, name=name)(x, ops)
        if kind == "concatenate":
            return ops.concatenate(inputs, name)
        return getattr(ops, kind)(*inputs, name=name, **options)


def drawn(seed: int) -> tuple[Composite, Drawn]:
    """A composite of rules drawn at random, and a network with the same rules as oracles."""
    rng = np.random.default_rng([seed, 1])

    def one(*names: str) -> tuple[Any, Any]:
        name = names[rng.integers(len(names))]
        constants = BOX if name == "z_box" else CONSTANTS[name][rng.integers(len(CONSTANTS[name]))]
        return rule(getattr(rules, name), **constants), functools.partial(getattr(rule_oracles, name), **constants)

    conv = one(*CONSTANTS)
    pairs = {
        "conv": conv,
        "dense": one(*CONSTANTS),
        "first": conv if rng.integers(2) else one("z_box", "flat", "w_square"),
    }
    pairs |= {field: one("epsilon") for field in ("average_pool", "add")}
    composite = Composite("drawn", **{field: ours for field, (ours, _) in pairs.items()})
    return composite, Drawn(seed, {field: oracle for field, (_, oracle) in pairs.items()})


WITHOUT_OPTIMIZATIONS = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SEEDS = [pytest.param(seed, marks=[] if seed < FAST else pytest.mark.slow) for seed in range(ALL)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_network_is_explained_as_by_its_matrices(seed, x64):
    composite, net = drawn(seed)
    params = jax.tree.map(jnp.asarray, net.params)
    model, images = Model(Network(tuple(net.steps)), {"params": params}), jnp.asarray(net.arrays[0])
    layers, output = layers_of(model, images), seed % 2
    zeros = {layer.name: jnp.zeros((len(images), 5)) for layer in layers}

    def explain(model, images, zeros):
        ops = LrpOps(composite=composite, layers=layers)
        logits, pullback = jax.vjp(lambda x, zeros: model(x, dataclasses.replace(ops, ledgers=zeros)), images, zeros)
        return logits, *pullback(jnp.zeros_like(logits).at[:, output].set(1.0))

    logits, received, ledgers = jax.jit(explain, compiler_options=WITHOUT_OPTIMIZATIONS)(model, images, zeros)
    size = max(np.abs(array).max() for array in net.arrays)
    np.testing.assert_allclose(logits, net.last, rtol=0, atol=tolerances.F64_IDENTITY * size)
    relevance = explained(net, output)
    atol = tolerances.RANDOM_NETWORK * max(np.abs(array).max() for array in relevance)
    np.testing.assert_allclose(received, relevance[0], rtol=0, atol=atol)
    # what arrives is what starts and what every layer adds or takes
    changes = sum(np.asarray(entered - left) for entered, left, *_ in (book.T for book in ledgers.values()))
    np.testing.assert_allclose(np.sum(received, axis=(1, 2, 3)), 1 - changes, rtol=0, atol=atol * received[0].size)
