"""Ablations against Pillow, SciPy, loops and hand-made pixels."""

import colorsys
import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from tffjax.data.ablations import Ablation, parse, parse_list, strongest_last
from tffjax.data.preprocessing import center_crop
from tffjax.errors import InputError

ALL = ("grayscale", "hue:90", "desaturate:0.5", "blur:1.5", "jpeg:30", "noise:8")


@pytest.fixture
def image(rng) -> np.ndarray:
    """Smooth colors with some noise, sides that are no multiple of eight."""
    y, x = np.mgrid[:37, :29]
    waves = np.stack([np.sin(x / 5), np.cos(y / 7), np.sin((x + y) / 9)], axis=2)
    return (127 + 100 * waves + rng.normal(0, 8, waves.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("text", ALL)
def test_an_ablation_is_written_as_it_is_read(text):
    assert str(parse(text)) == text
    assert parse(str(parse(text))) == parse(text)


def test_a_list_of_strengths():
    assert parse_list("jpeg:90,60, 30") == (Ablation("jpeg", 90), Ablation("jpeg", 60), Ablation("jpeg", 30))
    assert parse_list("grayscale") == (Ablation("grayscale"),)


def test_the_mildest_comes_first():
    assert [str(a) for a in strongest_last(parse_list("jpeg:30,90,60"))] == ["jpeg:90", "jpeg:60", "jpeg:30"]
    assert [str(a) for a in strongest_last(parse_list("hue:180,-90,30"))] == ["hue:30", "hue:-90", "hue:180"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sepia", "no ablation 'sepia'; choose one of grayscale, hue"),
        ("grayscale:1", "grayscale has no strength"),
        ("jpeg", "jpeg needs a whole quality from 1 to 100, as in jpeg:30"),
        ("jpeg:0", "from 1 to 100.*got 0"),
        ("jpeg:30.5", "whole quality.*got 30.5"),
        ("jpeg:x", "'x' in 'jpeg:x' is not a number"),
        ("jpeg:", "is not a number"),
        ("hue:361", "from -360 to 360"),
        ("desaturate:1.5", "share from 0 to 1"),
        ("blur:-1", "from 0 to 100"),
        ("noise:nan", "got nan"),
        ("blur:inf", "got inf"),
    ],
)
def test_what_makes_no_sense_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


@pytest.mark.parametrize("text", ALL)
def test_an_ablation_changes_the_image_and_nothing_else(text, image):
    before = image.copy()
    ablated = parse(text)(image, "a")
    assert (ablated.shape, ablated.dtype) == (image.shape, np.uint8)
    assert not np.array_equal(ablated, before)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(parse(text)(image, "a"), ablated)


@pytest.mark.parametrize("text", ["hue:0", "hue:360", "hue:-360", "desaturate:0", "blur:0", "noise:0"])
def test_identities(text, image):
    np.testing.assert_array_equal(parse(text)(image, "a"), image)


def test_a_full_turn_of_the_hue_is_exact_for_many_colors():
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(52, -1, 3)
    np.testing.assert_array_equal(Ablation("hue", 360)(colors, ""), colors)
    there = Ablation("hue", 120)(colors, "")
    np.testing.assert_array_equal(Ablation("hue", -120)(there, ""), colors)


def test_grayscale_is_pillows_to_the_bit(shared):
    with np.load(shared / "golden" / "images.npz") as archive:
        pixels, gray = archive["u8"], archive["gray224"]
    for image, expected in zip(pixels, gray, strict=True):
        image = center_crop(image, 224)
        ablated = Ablation("grayscale")(image, "")
        for channel in range(3):
            np.testing.assert_array_equal(ablated[..., channel], expected)
        np.testing.assert_array_equal(ablated[..., 0], (image.astype(int) @ [19595, 38470, 7471] + 32768) >> 16)


def test_grayscale_is_the_integer_formula(rng):
    colors = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    luma = (colors.astype(int) @ [19595, 38470, 7471] + 32768) >> 16
    np.testing.assert_array_equal(Ablation("grayscale")(colors, ""), np.stack([luma] * 3, axis=2))


def test_hue_against_the_standard_library(image):
    rotated = Ablation("hue", 75)(image, "")
    for y, x in np.ndindex(8, 8):
        h, s, v = colorsys.rgb_to_hsv(*(image[y, x] / 255))
        expected = colorsys.hsv_to_rgb((h + 75 / 360) % 1, s, v)
        np.testing.assert_allclose(rotated[y, x] / 255, expected, atol=0.5 / 255 + 1e-9)


def test_a_third_of_a_turn_moves_red_to_green_to_blue():
    red, green, blue, gray = np.uint8([[[200, 0, 0]]]), np.uint8([[[0, 200, 0]]]), np.uint8([[[0, 0, 200]]]), 90
    np.testing.assert_array_equal(Ablation("hue", 120)(red, ""), green)
    np.testing.assert_array_equal(Ablation("hue", 120)(green, ""), blue)
    np.testing.assert_array_equal(Ablation("hue", 50)(np.full_like(red, gray), ""), np.full_like(red, gray))


def test_desaturation_ends_at_grayscale(image):
    gray = Ablation("grayscale")(image, "")
    np.testing.assert_array_equal(Ablation("desaturate", 1)(image, ""), gray)
    half = Ablation("desaturate", 0.5)(image, "").astype(int)
    assert np.abs(half - (image.astype(int) + gray) / 2).max() < 1


def test_blur_is_separable_and_keeps_colors_apart(image):
    expected = image.astype(float)
    for axis in (0, 1):
        expected = gaussian_filter1d(expected, 1.5, axis=axis)
    blurred = Ablation("blur", 1.5)(image, "")
    np.testing.assert_allclose(blurred, expected, atol=0.5 + 1e-3)
    constant = np.full((9, 9, 3), (10, 200, 255), np.uint8)
    np.testing.assert_array_equal(Ablation("blur", 3)(constant, ""), constant)


@pytest.mark.parametrize("quality", [1, 30, 90, 100])
def test_jpeg_is_pillows(quality, image):
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        expected = np.asarray(Image.open(file))
    np.testing.assert_array_equal(Ablation("jpeg", quality)(image, ""), expected)


def test_noise_depends_on_the_key_and_on_nothing_else():
    image = np.full((64, 64, 3), 128, np.uint8)
    noise = Ablation("noise", 10)
    first = noise(image, "a/1.png")
    other = noise(image, "a/2.png")
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(noise(image, "a/1.png"), first)
    assert first.ravel()[:4].tolist() == NOISE  # the same in every process and version
    values = first.astype(int) - 128
    count = values.size
    assert abs(values.mean()) < 4 * 10 / math.sqrt(count)
    assert abs(values.std() - 10) < 4 * 10 / math.sqrt(2 * count)
    assert abs(np.corrcoef(values.ravel(), (other.astype(int) - 128).ravel())[0, 1]) < 4 / math.sqrt(count)


def test_stronger_noise_is_the_same_pattern():
    image = np.full((16, 16, 3), 128, np.uint8)
    weak, strong = (Ablation("noise", sigma)(image, "a").astype(int) - 128 for sigma in (10, 20))
    assert np.abs(strong - 2 * weak).max() <= 1


def test_noise_is_clipped():
    assert set(np.unique(Ablation("noise", 255)(np.full((32, 32, 3), 255, np.uint8), "a"))) >= {0, 255}


NOISE = [143, 129, 143, 148]
