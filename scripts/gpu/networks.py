"""The networks of the GPU visit: the golden ones from their recipe, random ones for timing, small ones to rehearse."""

import functools
import importlib.util
import types
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tffjax.conversion.graphs import assumed
from tffjax.conversion.variables import to_flax

from tffjax.kernels.convolution import Geometry
from tffjax.nn import Model, module_of
from tffjax.nn import ops as operations
from tffjax.nn.card import Card
from tffjax.nn.layers import BatchNorm, Conv, Dense


class Network(NamedTuple):
    """A golden network: its architecture and the seed of its weights."""

    architecture: str
    seed: int
    title: str


NETWORKS = {
    "resnet50": Network("resnet50", 101, "ResNet-50"),
    "efb0": Network("efficientnet_b0", 201, "EfficientNet-B0"),
}


def golden_model(name: str, folder: Path) -> Model:
    """A golden network, float32, batch norms not folded."""
    made = recipe(folder / "make_weights.py")
    seed = NETWORKS[name].seed
    with np.load(folder / f"calib_{name}_{seed}.npz") as calibration:
        state_dict = made.build(name, seed, dict(calibration))
        if made.digest(state_dict) != calibration["sha256"].item():
            raise ValueError(f"the recipe in {folder} gives other weights for {name}")
    variables, facts = to_flax(state_dict)
    card = Card(facts.architecture, facts.num_outputs, assumed(facts.architecture, facts.convention))
    return Model(module_of(card), jax.tree.map(jnp.asarray, variables), card)


class _Small(nn.Module):
    """A few layers of each kind, with a strided and a depthwise convolution."""

    @nn.compact
    def __call__(
        self, x: jax.Array, ops: operations.Plain = operations.Plain(), tap: operations.Tap = operations.no_tap
    ) -> jax.Array:
        x = BatchNorm(name="bn1")(Conv(8, 3, 2, 1, use_bias=False, name="conv1")(x, ops, tap), ops)
        x = ops.relu(x, "relu1")
        x = ops.max_pool(x, (2, 2), Geometry(stride=(2, 2)), "pool")
        y = ops.silu(Conv(8, 3, 1, 1, groups=8, name="depthwise")(x, ops, tap), "silu")
        x = ops.add(x, Conv(8, 1, name="project")(y, ops, tap), "add")
        x = ops.relu(Conv(16, 3, 2, 1, name="head")(x, ops, tap), "relu2")
        return Dense(1, name="out")(ops.mean_pool(x, "mean"), ops)


@functools.cache
def small_model() -> Model:
    """A network that compiles in a second, with a ResNet-50's card, to rehearse the visit on a CPU."""
    module = _Small()
    with jax.enable_x64(False):
        variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    return Model(module, variables, Card("resnet50", 1))


def recipe(path: Path) -> types.ModuleType:
    """The module that makes golden weights from a seed."""
    spec = importlib.util.spec_from_file_location("make_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
