"""The one table of what tests parametrize over: networks with random weights, and the golden networks and sizes."""

import functools
import importlib.util
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tffjax.conversion.graphs import assumed
from tffjax.conversion.variables import to_flax

from tffjax.data.preprocessing import center_crop, normalize
from tffjax.nn import Model, module_of
from tffjax.nn.card import Card, Normalization
from tffjax.nn.graph_options import GraphOptions

SHARED = Path(__file__).resolve().parents[2] / "shared"


class Network(NamedTuple):
    """An architecture in one of the conventions in which its weights exist, with the published numbers of its sites."""

    name: str
    architecture: Literal["resnet50", "efficientnet_b0"]
    padding: Literal["symmetric", "same"]
    epsilon: float
    num_sites: int
    num_channels: int
    gain: float  # of random gammas, such that images differ in their logits by some 10 % and no activation explodes

    def card(self, num_outputs: int = 1, high_means: Literal["fake", "real"] = "fake") -> Card:
        return Card(self.architecture, num_outputs, GraphOptions(self.padding, self.epsilon), high_means=high_means)

    @functools.cache  # noqa: B019  there are three networks, all of them constants
    def random_model(self, num_outputs: int = 1, seed: int = 0) -> Model:
        """Random weights; a quarter of the gammas is negative and every seventh zero."""
        card = self.card(num_outputs)
        return Model(module_of(card), random_variables(module_of(card), seed, self.gain), card)


NETWORKS = (
    Network("resnet50", "resnet50", "symmetric", 1e-5, 53, 26_560, gain=1.0),
    Network("b0-same", "efficientnet_b0", "same", 1e-3, 49, 21_008, gain=1.5),
    Network("b0-symmetric", "efficientnet_b0", "symmetric", 1e-5, 49, 21_008, gain=1.5),
)
RESNET50, B0_SAME, B0_SYMMETRIC = NETWORKS


def random_variables(module, seed: int, gain: float = 1.0, size: int = 64) -> dict:
    """Variables of any network made of `tffjax.nn` layers, float32, with activations of ordinary size."""
    with jax.enable_x64(False):
        image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        shapes = jax.eval_shape(module.init, jax.random.key(0), image)
    rng = np.random.default_rng(seed)

    def draw(path, leaf) -> jax.Array:
        match path[-1].key:
            case "kernel":
                values = rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
            case "scale":
                values = gain * rng.uniform(-0.5, 1.5, leaf.shape)
                values[::7] = 0
            case "var":
                values = rng.uniform(0.5, 2, leaf.shape)
            case "bias" | "mean":
                values = 0.2 * rng.standard_normal(leaf.shape)
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


class Golden(NamedTuple):
    """A network whose outputs under the released PyTorch code are stored in the golden folder."""

    folder: str
    seed: int
    network: Network

    def model(self) -> Model:
        return _golden_model(self)

    def load(self, file: str) -> dict[str, np.ndarray]:
        """The arrays of one file of this network."""
        with np.load(SHARED / "golden" / self.folder / file) as archive:
            return dict(archive)


GOLDEN = (Golden("resnet50", 101, RESNET50), Golden("efb0", 201, B0_SAME))
GOLDEN_SIZES = (224, 256, 356)


@functools.cache
def _golden_model(golden: Golden) -> Model:
    folder = SHARED / "golden"
    spec = importlib.util.spec_from_file_location("make_weights", folder / "make_weights.py")
    make_weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_weights)
    with np.load(folder / f"calib_{golden.folder}_{golden.seed}.npz") as calibration:
        state_dict = make_weights.build(golden.folder, golden.seed, dict(calibration))
        assert make_weights.digest(state_dict) == calibration["sha256"].item()
    variables, facts = to_flax(state_dict)
    card = Card(facts.architecture, facts.num_outputs, assumed(facts.architecture, facts.convention))
    return Model(module_of(card), jax.tree.map(jnp.asarray, variables), card)


def golden_images(size: int) -> np.ndarray:
    """The golden images that the golden files of this size hold (four at 224, else two), normalized, float32 NHWC."""
    with np.load(SHARED / "golden" / "images.npz") as archive:
        pixels = archive["u8"][: 4 if size == 224 else 2]
    return normalize(np.stack([center_crop(image, size) for image in pixels]), Normalization())
