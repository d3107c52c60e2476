"""Maps of single decisions against derivations by hand, and the pictures' files."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances

import tffjax
from tffjax.errors import InputError
from tffjax.nn import Conv, Dense, Model
from tffjax.nn.ops import Plain, no_tap
from tffjax.results.figures import contact_sheet, overlay, save_figure
from tffjax.studies.heatmaps.maps import grad_cam, guided_grad_cam, lrp_map


class TwoLayers(nn.Module):
    """conv, ReLU, conv, ReLU, mean, dense."""

    @nn.compact
    def __call__(self, x, ops=Plain(), tap=no_tap):
        x = ops.relu(Conv(4, 3, padding=1, name="conv1")(x, ops, tap), "relu1")
        x = ops.relu(Conv(5, 3, padding=1, name="conv2")(x, ops, tap), "relu2")
        return Dense(2, name="head")(ops.mean_pool(x, "mean"), ops)


@pytest.fixture(scope="module")
def images() -> jax.Array:
    return jax.random.normal(jax.random.key(0), (2, 8, 8, 3))


@pytest.fixture(scope="module")
def model(images) -> Model:
    return Model(TwoLayers(), TwoLayers().init(jax.random.key(1), images))


def activations(model, images):
    params = model.variables["params"]
    conv = lambda x, p: jax.lax.conv_general_dilated(  # noqa: E731
        x, p["kernel"], (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    ) + p["bias"]  # fmt: skip
    before1 = conv(images, params["conv1"])
    before2 = conv(jnp.maximum(before1, 0), params["conv2"])
    return before1, before2


def test_grad_cam_of_a_linear_head_by_hand(model, images):
    """Behind the last ReLU f = mean(A) w + b: the gradient is w / (h w) everywhere."""
    _, before2 = activations(model, images)
    weights = model.variables["params"]["head"]["kernel"][:, 1] / 64
    expected = jnp.maximum((jnp.maximum(before2, 0) * weights).sum(axis=3), 0)
    np.testing.assert_allclose(grad_cam(model, images, 1, "relu2"), expected, rtol=1e-4, atol=1e-7)


def test_guided_grad_cam_by_hand(model, images):
    """Guided backpropagation stops negative gradients at both ReLUs; its sum over colors is multiplied by Grad-CAM."""
    before1, before2 = activations(model, images)
    params = model.variables["params"]

    def back(gradient, kernel):
        return jax.lax.conv_transpose(
            gradient,
            kernel,
            (1, 1),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            transpose_kernel=True,
        )

    gradient = jnp.broadcast_to(params["head"]["kernel"][:, 0] / 64, before2.shape)
    gradient = jnp.where((before2 > 0) & (gradient > 0), gradient, 0)
    gradient = back(gradient, params["conv2"]["kernel"])
    gradient = jnp.where((before1 > 0) & (gradient > 0), gradient, 0)
    guided = back(gradient, params["conv1"]["kernel"]).sum(axis=3)
    expected = guided * grad_cam(model, images, 0, "relu2")
    np.testing.assert_allclose(guided_grad_cam(model, images, 0, "relu2").heat, expected, rtol=1e-3, atol=1e-8)


@pytest.mark.extended
def test_lrp_map_is_the_relevance_summed_over_colors(model, images):
    explained = tffjax.relevance(model, images, target=1, composite="epsilon")
    heatmap = lrp_map(model, images, 1, "epsilon")
    np.testing.assert_array_equal(heatmap.heat, explained.input.sum(axis=3))
    for logits in (heatmap.logits, guided_grad_cam(model, images, 1, "relu2").logits):
        np.testing.assert_allclose(logits, model(images), rtol=tolerances.F32_PROGRAM)


def test_grad_cam_needs_a_layer(model, images):
    with pytest.raises(InputError, match="which layer"):
        grad_cam(model, images, 0)
    with pytest.raises(InputError, match="no convolution or activation 'relu9'"):
        grad_cam(model, images, 0, "relu9")


@pytest.mark.extended
def test_figures_are_written_the_same_twice(tmp_path):
    rng = np.random.default_rng(0)
    image, heat = rng.integers(0, 256, (12, 10, 3), np.uint8), rng.normal(size=(12, 10)).astype(np.float32)
    for name in ("a", "b"):
        save_figure(overlay(image, heat, "title", "relevance"), tmp_path / f"one-{name}")
        save_figure(contact_sheet([image, image], [{"LRP": heat}] * 2, ["x", "y"]), tmp_path / f"sheet-{name}")
    for kind in ("one", "sheet"):
        for ending in ("png", "pdf"):
            first = (tmp_path / f"{kind}-a.{ending}").read_bytes()
            assert first == (tmp_path / f"{kind}-b.{ending}").read_bytes()
            assert first.startswith(b"\x89PNG" if ending == "png" else b"%PDF")


def test_one_color_bar_stands_for_all_maps_of_a_contact_sheet():
    image, heat = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32)
    figure = contact_sheet([image] * 3, [{"LRP": heat, "CAM": heat}] * 3, ["x" * 90, "y", "z"])
    assert len(figure.axes) == 3 * 3 + 1
    assert "99.5 percentile" in figure.axes[-1].get_xlabel()
    assert max(map(len, figure.axes[0].get_title().splitlines())) < 90  # long titles are broken


def test_a_heatmap_without_positive_relevance_is_drawn(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    save_figure(overlay(image, -np.ones((4, 4), np.float32), "nothing", "relevance"), tmp_path / "none", ["png"])
    assert (tmp_path / "none.png").stat().st_size > 0
