"""Maps of single decisions against derivations by hand, and the pictures' files."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import studies
import tolerances

import tffjax
from tffjax.data import ImageFile
from tffjax.data.preprocessing import normalize
from tffjax.errors import InputError
from tffjax.nn import Conv, Dense, Model
from tffjax.nn.card import Card
from tffjax.nn.ops import Plain, no_tap
from tffjax.pipeline.reporter import Silent
from tffjax.results.figures import contact_sheet, overlay, save_figure
from tffjax.results.tables import write_table
from tffjax.studies.heatmaps.maps import grad_cam, guided_grad_cam, lrp_map
from tffjax.studies.heatmaps.run import heatmaps
from tffjax.studies.heatmaps.surest import check_network, surest_fakes
from tffjax.studies.predict import predict


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


def test_the_surest_fakes_of_each_generator(tmp_path):
    places = ["a/1_fake/0", "a/1_fake/1", "a/1_fake/2", "b/1_fake/0", "a/0_real/0"]
    files = [ImageFile(Path(f"{place}.png"), int("fake" in place), place[0]) for place in places]
    names = [f"{place}.png" for place in places]
    scores = [0.5, 3.0, 2.0, -1.0, 9.0]
    write_table(pa.table({"path": names, "score": scores}), tmp_path / "predictions")
    told = Silent()
    told.warn = (said := []).append
    chosen = surest_fakes(files, names, tmp_path / "predictions.csv", 2, told)
    assert [file.path.as_posix() for file in chosen] == [names[1], names[2], names[3]]
    assert said == ["b: the detector takes none of its 1 fake for fake"]
    with pytest.raises(InputError, match=r"of other images: it has none of the fakes, such as x/1_fake/0.png"):
        surest_fakes(files[:1], ["x/1_fake/0.png"], tmp_path / "predictions.csv", 2, told)
    with pytest.raises(InputError, match="no image has the label fake"):
        surest_fakes(files[4:], names[4:], tmp_path / "predictions.csv", 2, told)


def test_predictions_of_another_network_are_refused(tmp_path):
    record = {"command": "predict", "identity": {"weights": {"weights_sha256": "abc"}}, "paths": {}, "results": {}}
    check_network(tmp_path / "predictions.csv", Card("resnet50", 1, weights_sha256="def"))  # nobody knows of which
    (tmp_path / "run.json").write_text(json.dumps(record))
    check_network(tmp_path / "predictions.csv", Card("resnet50", 1, weights_sha256="abc"))
    with pytest.raises(InputError, match="of another network"):
        check_network(tmp_path / "predictions.csv", Card("resnet50", 1, weights_sha256="def"))


@pytest.mark.extended
def test_a_sheet_of_a_detector_beside_a_classifier(tmp_path):
    studies.make_images(tmp_path / "data", generators=("biggan",), count=1)
    with studies.networks_by_name():
        predict("detector", tmp_path / "data", tmp_path / "scores", batch_size=8, reporter=Silent())
        found = heatmaps(
            "detector",
            tmp_path / "data",
            tmp_path / "maps",
            methods=["lrp"],
            beside="classifier",
            surest=tmp_path / "scores" / "predictions.csv",
            reporter=Silent(),
        )
    names = {path.stem for path in found.figures}
    fakes = sorted(name for name in names if "fake" in name)
    assert [name.split("_")[1:3] for name in fakes] == [["biggan", "fake"]] * 2
    assert {name.split("_")[-1] for name in fakes} == {"detector-lrp", "imagenet-network-lrp"}
    assert names == {*fakes, "contact_sheet_1"}
    arrays = np.load(tmp_path / "maps" / "heatmaps.npz")
    one = fakes[0].rsplit("_", 1)[0]
    image = studies.network("classifier").card.normalization
    pixels = jnp.asarray(normalize(arrays[f"{one}/pixels"][None], image))
    expected = lrp_map(studies.network("classifier"), pixels).heat[0]
    np.testing.assert_allclose(arrays[f"{one}/ImageNet network: LRP"], expected, rtol=1e-4, atol=1e-7)
    assert found.record["identity"]["beside"]["num_outputs"] == 1000
