import json
import sys
from pathlib import Path
from unittest import mock

import cases
import demo_card
import demo_data
import demo_decoders
import demo_power
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import train_demo_detector
from demo_data import CROP, MARGIN, PHOTOGRAPHS
from PIL import Image
from scipy import stats
from test_training import small_model

from tffjax.errors import InputError

pytestmark = pytest.mark.slow  # trains decoders

SIZE = CROP + 2 * MARGIN


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_every_photograph_is_in_one_split_and_has_an_author_and_a_license():
    assert len({photograph.path for photograph in PHOTOGRAPHS}) == len(PHOTOGRAPHS) == 26
    assert {photograph.split for photograph in PHOTOGRAPHS} == set(demo_data.CROPS_PER_PHOTOGRAPH)
    assert all(photograph.author and photograph.license for photograph in PHOTOGRAPHS)


def test_photographs_are_found_by_the_end_of_their_path(tmp_path):
    for photograph in PHOTOGRAPHS:
        path = tmp_path / "packages" / photograph.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = demo_data.find_photographs([tmp_path])
    assert found == {photograph: tmp_path / "packages" / photograph.path for photograph in PHOTOGRAPHS}
    (tmp_path / "packages" / PHOTOGRAPHS[3].path).unlink()
    with pytest.raises(InputError, match=PHOTOGRAPHS[3].path):
        demo_data.find_photographs([tmp_path])


def test_crops_are_cut_from_the_shrunken_photograph_and_are_neither_flat_nor_near_twins(monkeypatch):
    monkeypatch.setattr(demo_data, "CROP", 12)
    monkeypatch.setattr(demo_data, "MARGIN", 2)
    monkeypatch.setattr(demo_data, "MIN_DISTANCE", 4)
    monkeypatch.setattr(demo_data, "SHORT_SIDES", (32, 64))
    photograph = noise(50, 80)
    photograph[:, 40:] = 90
    crops = demo_data.crop_photograph(photograph, 40, np.random.default_rng(0))
    assert 4 < len(crops) < 40, "there is no room for forty"
    windows = np.lib.stride_tricks.sliding_window_view(demo_data.shrink(photograph, 32), (16, 16, 3))[:, :, 0]
    assert windows.shape[:2] == (32 - 16 + 1, 51 - 16 + 1)
    corners = [np.argwhere((windows == crop).all((-1, -2, -3))) for crop in crops]
    assert [len(corner) for corner in corners] == [1] * len(crops)
    corners = np.concatenate(corners)
    distance = np.abs(corners[:, None] - corners).max(-1) + 1000 * np.eye(len(corners), dtype=int)
    assert distance.min() >= 4
    assert corners[:, 1].max() < 40 * 32 / 50, "the right half is flat"


def test_the_same_seed_cuts_the_same_crops():
    first, second, other = (demo_data.crop_photograph(noise(300, 400), 5, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_grid_tells_a_period_of_8_pixels_from_one_of_4():
    plane, columns = np.zeros((64, 66)), np.arange(66)
    plane[:, columns // 4 % 2 == 1] = 40  # a step behind every column 3, 7, 11, ...
    np.testing.assert_allclose(demo_data.grid(plane), [0, 0, 0, 8] + [0] * 12)
    plane[:] = 0
    plane[:, columns // 8 % 2 == 1] = 40  # a step behind every column 7, 15, ...
    np.testing.assert_allclose(demo_data.grid(plane.T), [0] * 4 + [0, 0, 0, 8] + [0] * 4 + [0, 0, 0, -8])


def test_luma_and_chroma_are_those_of_jpeg():
    wanted = np.asarray(Image.fromarray(noise(8, 8)).convert("YCbCr"), float)
    np.testing.assert_allclose(demo_data.ycc(noise(8, 8)), wanted, atol=1)  # Pillow rounds
    images = jnp.asarray(noise(8, 8)[None], jnp.float32) / 255
    planes = demo_decoders.to_planes(images)
    np.testing.assert_allclose(255 * planes[0] + 127.5, wanted, atol=1.5)
    np.testing.assert_allclose(demo_decoders.to_images(planes), images, atol=1e-6)


def test_a_trivial_classifier_sees_a_tint_and_nothing_in_equal_images():
    real = np.stack([noise(16, 16, seed) // 2 for seed in range(30)])
    photograph = np.arange(30) // 3
    assert demo_data.trivial_accuracy("mean color", real, real + np.uint8(30), photograph) > 0.95
    assert demo_data.trivial_accuracy("mean color", real, real, photograph) <= 0.5


def test_margins_are_cut_off_on_all_sides():
    image = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    image[:, MARGIN : MARGIN + CROP, MARGIN : MARGIN + CROP] = 1
    assert demo_data.cut_margin(image).shape == (1, CROP, CROP, 3)
    assert demo_data.cut_margin(image).all()


def test_images_are_written_losslessly(tmp_path):
    demo_data.write_images(tmp_path, noise(8, 8)[None], ["a"])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), noise(8, 8))


@pytest.mark.parametrize("kind", demo_decoders.KINDS)
def test_every_kind_doubles_the_size(kind):
    up = demo_decoders.Up(kind, 5)
    x = jnp.ones((2, 4, 6, 3))
    assert up.apply(up.init(jax.random.key(0), x), x).shape == (2, 8, 12, 5)


def test_transposed_is_the_transposed_convolution_of_stride_2():
    up, x = demo_decoders.Up("transposed", 4), jax.random.normal(jax.random.key(1), (1, 5, 6, 3))
    variables = up.init(jax.random.key(0), x)
    kernel = variables["params"]["Conv_0"]["kernel"]
    # Output position 2i + k - 1 takes pixel i through tap k of the flipped kernel; what falls outside is dropped.
    expected = np.zeros((10 + 4, 12 + 4, 4))
    for i, j, k, m in np.ndindex(5, 6, 4, 4):
        expected[2 * i + k, 2 * j + m] += np.asarray(x)[0, i, j] @ np.asarray(kernel)[3 - k, 3 - m]
    np.testing.assert_allclose(up.apply(variables, x)[0], expected[2:12, 2:14], atol=1e-6)


def test_pixel_shuffle_undoes_space_to_depth():
    x = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
    assert np.array_equal(demo_decoders.depth_to_space(demo_decoders.space_to_depth(x, 4), 4), x)


def test_detail_is_zero_for_a_flat_image_and_twice_as_large_for_twice_the_contrast():
    x = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
    with jax.numpy_dtype_promotion("standard"):  # Flax mixes types where it counts the pixels of a window
        flat, once, twice = map(demo_decoders.detail, (jnp.ones_like(x), x, 2 * x))
    np.testing.assert_allclose(flat, 0, atol=1e-6)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


@pytest.mark.parametrize("kind", demo_decoders.KINDS)
def test_a_fake_is_drawn_from_its_code_and_keeps_most_of_the_luma(kind):
    crops = np.stack([noise(16, 24, seed) for seed in range(3)])
    variables = demo_decoders.Autoencoder(kind).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    code = demo_decoders.codes(kind, variables, crops)
    assert [part.shape for part in code] == [(3, 8, 10, 12), (3, 4, 5, 12), (3, 32, 40, 1)]
    assert np.array_equal(demo_decoders.draw(kind, variables, code), demo_decoders.redraw(kind, variables, crops))
    images = jnp.asarray(crops, jnp.float32) / 255
    network = demo_decoders.Autoencoder(kind).bind(variables)
    luma, redrawn = (demo_decoders.to_planes(of)[..., :1] for of in (images, network(images)))
    own = network.luma.decode(network.luma.encode(luma))
    np.testing.assert_allclose(redrawn, demo_decoders.SKIP * luma + (1 - demo_decoders.SKIP) * own, atol=1e-5)


@jax.numpy_dtype_promotion("standard")
def test_training_a_decoder_lowers_its_loss_and_is_reproducible(monkeypatch):
    monkeypatch.setattr(demo_decoders, "PATCH", 16)
    monkeypatch.setattr(demo_decoders, "BATCH", 2)
    crops = np.stack([np.array(Image.fromarray(noise(2, 2, seed)).resize((16, 16))) for seed in range(4)])
    runs = [demo_decoders.train("nearest", crops, 40, 0, lambda step, loss: None) for _ in range(2)]
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *runs)))
    images = jnp.asarray(crops, jnp.float32) / 255
    untrained = demo_decoders.Autoencoder("nearest").init(jax.random.key(0), images)
    before, after = (
        np.abs(demo_decoders.redraw("nearest", variables, crops).astype(int) - crops).mean()
        for variables in (untrained, runs[0])
    )
    assert after < 0.7 * before


def test_a_turned_stem_sees_chroma_where_it_saw_color(rng):
    model = cases.B0_SAME.random_model()
    model = train_demo_detector.Model(model.module, model.variables, cases.B0_SAME.card())
    turned = train_demo_detector.turned(model)
    color = rng.random(3)  # of a flat image
    planes = demo_decoders.TO_PLANES @ (color - 0.5)
    seen = np.array(train_demo_detector.TURNED) @ planes + 0.5

    def centered(model, color):
        """What the first batch norm scales, of a flat image, away from its rim."""
        of = model.card.normalization
        kernel = np.asarray(model.variables["params"]["_conv_stem"]["kernel"]).sum((0, 1))
        mean = np.asarray(model.variables["batch_stats"]["_bn0"]["mean"])
        return (color - of.mean) / np.array(of.std) @ kernel - mean

    np.testing.assert_allclose(centered(turned, color), centered(model, seen), atol=1e-4)


def test_the_credits_name_every_photograph_and_author():
    text = demo_card.credits(PHOTOGRAPHS)
    assert all(photograph.path in text and photograph.author in text for photograph in PHOTOGRAPHS)


# The script as a whole, with a small network and hardly any steps


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for seed, photograph in enumerate(PHOTOGRAPHS):
        path = folder / photograph.path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(5, 7, seed)).resize((400, 300)).save(path)
    return folder


@pytest.fixture
def small_script(monkeypatch, photographs):
    """`run(out)` is the script, all parts of it small."""
    monkeypatch.setattr(demo_data, "CROPS_PER_PHOTOGRAPH", dict.fromkeys(demo_data.CROPS_PER_PHOTOGRAPH, 2))
    monkeypatch.setattr(train_demo_detector, "SAMPLES", 2)
    monkeypatch.setattr(train_demo_detector, "SAVE_EVERY", 2)
    monkeypatch.setattr(train_demo_detector, "WARM_UP", 1)
    model = small_model()
    model = train_demo_detector.Model(model.module, model.variables, cases.B0_SAME.card())
    monkeypatch.setattr(train_demo_detector, "from_scratch", lambda architecture, seed: model)
    monkeypatch.setattr(train_demo_detector.checkpoint, "save", lambda model, path, overwrite: path.mkdir())
    steps = ("--steps", 3, "--degraded-steps", 3, "--decoder-steps", 2, "--batch-size", 4)

    def run(out: Path, *more: object) -> None:
        arguments = ["train_demo_detector.py", "--photographs", photographs, "--out", out, *steps, *more]
        with mock.patch.object(sys, "argv", list(map(str, arguments))), jax.numpy_dtype_promotion("standard"):
            train_demo_detector.main()

    return run


def test_the_script_killed_and_run_again_is_not_killed(small_script, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    small_script(whole)
    with (
        mock.patch.object(train_demo_detector.Progress, "__call__", side_effect=[None] * 6 + [KeyboardInterrupt]),
        pytest.raises(KeyboardInterrupt),
    ):
        small_script(part)
    assert (part / "work" / "detector.npz").exists()
    assert not (part / "detector").exists()
    small_script(part)
    first, second = (dict(np.load(out / "work" / "detector.npz")) for out in (whole, part))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    figures = [json.loads((out / "figures.json").read_text()) for out in (whole, part)]
    assert figures[0]["held_out"].keys() == set(demo_decoders.KINDS)
    assert figures[0]["held_out"] == figures[1]["held_out"]
    assert figures[0]["trivial"] == figures[1]["trivial"]
    shipped = sorted(path.relative_to(whole / "images").as_posix() for path in whole.glob("images/*/*/*.png"))
    assert len(shipped) == len(demo_decoders.KINDS) * 2 * 2
    for kind in demo_decoders.KINDS:
        names = [{path.name for path in (whole / "images" / kind / label).iterdir()} for label in ("0_real", "1_fake")]
        assert names[0] == names[1], "a fake is shipped with what it was made of"
    kind = demo_decoders.KINDS[0]
    with np.load(whole / "codes" / f"{kind}.npz") as codes:
        drawn = demo_decoders.draw(kind, weights(kind, whole / "decoders"), demo_decoders.Code(*map(codes.get, FIELDS)))
        for crop, fake in zip(codes["crop"], demo_data.cut_margin(drawn), strict=True):
            shipped = np.asarray(Image.open(whole / "images" / kind / "1_fake" / f"{crop:04d}.png"))
            assert np.array_equal(fake, shipped)
    assert "Not measured." in (whole / "MODEL_CARD.md").read_text()


FIELDS = demo_decoders.Code._fields


def weights(kind: str, folder: Path) -> dict:
    shapes = jax.eval_shape(demo_decoders.Autoencoder(kind).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return train_demo_detector.load_named(folder / f"{kind}.npz", shapes)


def test_the_power_is_that_of_scipys_test(rng):
    for n in (24, 25):
        before, after = rng.standard_normal((2, 60, n)) + np.array([0.8, 0])[:, None, None]
        wanted = [stats.median_test(*pair)[1] <= 0.05 for pair in zip(before, after, strict=True)]
        assert 0 < sum(wanted) < 60
        assert demo_power.found(before, after).tolist() == wanted
    assert demo_power.power(24, 0) < 0.05
    assert demo_power.power(24, 1.1) > demo_power.POWER > demo_power.power(24, 0.9)
