"""The scale of the input against what the first batch norm remembers."""

from pathlib import Path
from unittest import mock

import cases
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from command import done, save_image
from small import noise, small_model

from tffjax.data.preprocessing import center_crop, decode, normalize
from tffjax.nn import Conv, Dense, Model, canonize, checkpoint
from tffjax.nn.card import NORMALIZATIONS
from tffjax.nn.conv_bn import conv_bn
from tffjax.nn.input_scale import LIMIT, log_scale, scale_warning
from tffjax.nn.ops import Plain, no_tap


class OneNorm(nn.Module):
    """A convolution with a batch norm behind it, then one without, and a head."""

    batch_norm: str = "statistics"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        x = ops.relu(conv_bn(self, "stem", "norm", x, ops, tap, features=5, kernel_size=3), "relu")
        x = Conv(4, 1, name="second")(x, ops, tap)
        return Dense(1, name="head")(ops.mean_pool(x, "mean"), ops)

    def batch_norm_pairs(self):
        yield "stem", "norm"


def trained_on(images, factor: float = 1.0) -> Model:
    """The network whose batch norm has seen these images, `factor` times as large."""
    variables = cases.random_variables(OneNorm(), seed=0)
    kernel = variables["params"]["stem"]["kernel"]
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(images, np.float64), (3, 3), axis=(1, 2))
    outputs = np.einsum("nhwcij,ijcf->nhwf", windows, np.asarray(kernel, np.float64))
    norm = {**variables["batch_stats"]["norm"], "var": jnp.asarray(factor**2 * outputs.var(axis=(0, 1, 2)), "float32")}
    return Model(OneNorm(), {**variables, "batch_stats": {"norm": norm}}, cases.B0_SAME.card())


@pytest.mark.parametrize("factor", [1.0, 255.0, 1 / 255, 3.0])
def test_a_factor_of_the_input_is_twice_its_logarithm(factor):
    images = noise(16, dtype=jnp.float32)
    assert log_scale(trained_on(images), factor * images) == pytest.approx(2 * np.log(factor), abs=1e-4)
    assert log_scale(trained_on(images, factor), images) == pytest.approx(-2 * np.log(factor), abs=1e-4)


def test_what_is_wrong_by_far_is_said():
    images = noise(16, dtype=jnp.float32)
    model = trained_on(images)
    assert "spread about 255 times larger than in training" in scale_warning(model, 255 * images)
    assert "spread about 255 times smaller than in training" in scale_warning(model, images / 255)
    assert scale_warning(model, 4 * images) is None
    assert scale_warning(model, images / 4) is None


def test_where_nothing_can_be_said():
    images = noise(16, dtype=jnp.float32)
    assert log_scale(small_model(jnp.float32), images) is None
    assert log_scale(canonize(trained_on(images)), images) is None
    assert log_scale(trained_on(images), jnp.zeros_like(images)) is None


@pytest.mark.parametrize(("factor", "said"), [(1.0, 0), (255.0, 1)])
def test_commands_say_it_once(tmp_path, factor, said):
    for seed in range(3):
        save_image(tmp_path / "images" / f"{seed}.png", seed, 16)
    pixels = np.stack([decode(path) for path in sorted((tmp_path / "images").iterdir())])
    model = trained_on(normalize(pixels, cases.B0_SAME.card().normalization), factor)
    with mock.patch.object(checkpoint, "load", return_value=model):
        predicted = done("predict", "weights", tmp_path / "images", "--out", tmp_path / "run", "--batch-size", 2)
        checked = done("check", "weights", tmp_path / "images")
    assert predicted.err.count("the input scale looks wrong") == said
    assert checked.err.count("the input scale looks wrong") == said


WEIGHTS = {
    "resnet50-imagenet-half.pth": ("resnet-v1", "caffe", ("imagenet", "inception", "unit")),
    "efficientnet_b0-whenet.pth": ("efficientnet-pytorch", "imagenet", ("caffe",)),
    "efficientnet_b0-photo_vs_drawing-torchvision.pth": ("torchvision", "imagenet", ("caffe",)),
}


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize("file", WEIGHTS)
def test_real_networks_on_real_images(shared, tmp_path, file):
    """Every set of images, four at once."""
    graph, right, wrong = WEIGHTS[file]
    done("convert", shared / "weights" / file, tmp_path / "network", "--graph", graph, "--normalization", right)
    model = checkpoint.load(tmp_path / "network")
    folders = sorted({path.parents[1] for path in (shared / "data").rglob("*.png")})
    assert len(folders) == 14
    for folder in folders:
        pixels = np.stack([center_crop(decode(path), 224) for path in first_of_each(folder)])
        found = {
            name: log_scale(model, jnp.asarray(normalize(pixels, NORMALIZATIONS[name]))) for name in (right, *wrong)
        }
        assert abs(found[right]) < LIMIT / 2, folder
        assert min(abs(found[name]) for name in wrong) > LIMIT + 1, folder


def first_of_each(folder: Path) -> list[Path]:
    return [path for label in ("0_real", "1_fake") for path in sorted((folder / label).glob("*.png"))[:2]]
