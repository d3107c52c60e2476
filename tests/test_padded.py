"""Images of many sizes, filled up to one: every number is that of the image alone."""

import json

import cases
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet
import pytest
import studies
import tolerances
from command import done, refused
from PIL import Image
from small import SmallNet

from tffjax.compile.logits import logits_of
from tffjax.errors import InputError
from tffjax.kernels.convolution import Geometry
from tffjax.nn import Conv, Dense, GraphOptions, Model, checkpoint, module_of
from tffjax.nn.card import Card
from tffjax.nn.ops import Plain, no_tap
from tffjax.nn.padded import check_padding
from tffjax.studies.color.activations import max_activations
from tffjax.studies.dropout.logits import masked_logits
from tffjax.studies.dropout.settings import Setting
from tffjax.studies.rankings import parse_key

pytestmark = pytest.mark.extended

SIZES = ((32, 32), (31, 29), (17, 32), (24, 9), (5, 5), (1, 30))
KEYS = ("stem.#2(T=6)", "depthwise.#1(T=6)", "project.#4(T=6)")


class Net(nn.Module):
    """Strides, a pool, a gate and a residual sum; the biases make zeros of the padding something else."""

    outputs: int = 1

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        x = ops.relu(Conv(6, 7, stride=2, padding=3, name="stem")(x, ops, tap), "stem.relu")
        x = ops.max_pool(x, (3, 3), Geometry((2, 2), ((1, 1), (1, 1))), "pool")
        y = ops.silu(Conv(6, 5, stride=2, padding=2, groups=6, name="depthwise")(x, ops, tap), "depthwise.silu")
        gate = Conv(6, is_site=False, kernel_size=1, name="squeeze")(
            ops.mean_pool(y, "se.pool")[:, None, None], ops, tap
        )
        y = Conv(6, 3, padding=1, name="project")(ops.gate(y, ops.sigmoid(gate, "sigmoid"), "gate"), ops, tap)
        x = Conv(6, 1, stride=2, is_site=False, name="shortcut")(x, ops, tap)
        return Dense(self.outputs, name="out")(ops.mean_pool(ops.add(y, x, "sum"), "global"), ops)


@pytest.fixture
def net(x64) -> Model:
    return Model(Net(), cases.random_variables(Net(), seed=0)).astype(jnp.float64)


def alone() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, height, width, 3)) for height, width in SIZES]


def filled(images: list[np.ndarray], fill: float = 7.0) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """In one batch, with something in the padding, and their sizes."""
    batch = np.full((len(images), 32, 32, 3), fill)
    for row, image in zip(batch, images, strict=True):
        row[: image.shape[1], : image.shape[2]] = image[0]
    return jnp.asarray(batch), tuple(map(jnp.asarray, np.array(SIZES, np.int32).T))


def close(ours, theirs) -> None:
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, atol=tolerances.F64_PROGRAM * scale, rtol=0)


def test_logits_maxima_and_dropout_are_those_of_the_image_alone(net):
    check_padding(net, (32, 32))
    settings = [Setting("none", ()), *(Setting(key, (parse_key(key),)) for key in KEYS)]
    batch, sizes = filled(alone())
    logits, maxima = max_activations(net, batch, KEYS, sizes=sizes)
    dropped = masked_logits(net, batch, settings, sizes=sizes)
    singly = [max_activations(net, jnp.asarray(image), KEYS) for image in alone()]
    close(logits, np.concatenate([a for a, _ in singly]))
    close(logits_of(net, batch, sizes), logits)
    close(maxima, np.concatenate([b for _, b in singly]))
    assert (np.asarray(maxima) < 0).any()  # where zeros of the padding would be the largest
    close(dropped, np.concatenate([masked_logits(net, jnp.asarray(image), settings) for image in alone()]))
    assert np.abs(logits_of(net, batch) - logits).max() > 0.01  # the padding would be seen


B0 = Card("efficientnet_b0", 1, GraphOptions("same", 1e-3))
REFUSED = {
    "padding same": (B0, "the padding of _conv_stem follows from the size"),
    "a pool that rounds up": (
        Card("resnet18", 1, GraphOptions(ceil_mode=True, pool_padding=0)),
        "the padding of maxpool follows from the size",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_windows_that_follow_from_the_size_are_refused(name):
    card, message = REFUSED[name]
    module = module_of(card)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    with pytest.raises(InputError, match=message):
        check_padding(Model(module, shapes), (64, 64))


def test_operations_that_would_see_the_padding_are_refused():
    with pytest.raises(InputError, match="average is a average_pool, which would see the padding"):
        check_padding(Model(SmallNet(), cases.random_variables(SmallNet(), seed=0)), (64, 64))


@pytest.fixture
def pictures(tmp_path):
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for i, size in enumerate(((40, 33), (64, 64))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("command", "table", "column", "options"),
    [
        ("predict", "predictions", "logit", ()),
        studies.slow("dropout", "scores", "top-2", ("--k", 2, "--random", 0)),
        studies.slow("color", "per_image", "logits", ("--k", 3)),
    ],
)
def test_commands_fill_up_and_record_it(command, table, column, options, pictures, tmp_path, monkeypatch):
    model = Model(Net(), cases.random_variables(Net(), seed=0), cases.RESNET50.card())
    monkeypatch.setattr(checkpoint, "load", lambda path: model)
    ranking = () if command == "predict" else ("--ranking", studies.make_ranking(tmp_path / "ranking.csv", KEYS))
    found = []
    for size in (("--pad-to", 32), ()):
        out = tmp_path / f"{len(size)}"
        done(command, "weights", pictures, "--out", out, "--batch-size", 4, *ranking, *options, *size)
        rows = pyarrow.parquet.read_table(out / f"{table}.parquet").sort_by("path")
        found.append(np.array(rows[column].to_pylist()))
        assert json.loads((out / "run.json").read_text())["identity"]["arguments"]["pad_to"] == (32 if size else None)
    np.testing.assert_allclose(*found, atol=tolerances.F32_PROGRAM * np.abs(found[0]).max(), rtol=0)


def test_networks_that_cannot_be_filled_up_are_refused_before_anything(pictures, tmp_path):
    with studies.networks_by_name():
        line = refused("predict", "decisive", pictures, "--out", tmp_path / "run", "--pad-to", 64)
    assert "--pad-to: average is a average_pool" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "graph"),
    [
        ("resnet18", GraphOptions()),
        ("resnet50", GraphOptions(stride_in="1x1")),
        ("efficientnet_b0", GraphOptions(224, 1e-3)),
    ],
)
def test_the_networks(architecture, graph, x64):
    card = Card(architecture, 1, graph)
    model = Model(module_of(card), cases.random_variables(module_of(card), 0, 1.5), card).astype(jnp.float64)
    check_padding(model, (96, 96))
    image = np.random.default_rng(0).standard_normal((1, 75, 90, 3))
    batch = jnp.asarray(np.pad(image, ((0, 0), (0, 21), (0, 6), (0, 0)), constant_values=5.0))
    close(logits_of(model, batch, (jnp.array([75]), jnp.array([90]))), logits_of(model, jnp.asarray(image)))
