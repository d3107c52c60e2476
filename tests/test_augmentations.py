"""What happens to training images: the calls it is made of, ranges, determinism."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest

from tffjax.data import augmentations
from tffjax.data.augmentations import Augmentation, blur, jpeg
from tffjax.data.preprocessing import decode, grayscale, resize
from tffjax.errors import InputError

NOTHING = Augmentation(load_size=None, crop=24, blur=0.0, jpeg=0.0, flip=0.0)


@pytest.fixture
def image(rng) -> np.ndarray:
    return rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)


def augmented(image: np.ndarray, seed: int = 0, **changes) -> np.ndarray:
    return dataclasses.replace(NOTHING, **changes)(image, np.random.default_rng(seed))


@pytest.mark.parametrize("sigma", [0.0, 0.4, 1.7, 3.0])
def test_blur_is_that_of_wang_et_al(image, sigma):
    """Their code filters each channel on its own, in place."""
    theirs = image.copy()
    for channel in range(3):
        gaussian_filter(theirs[:, :, channel], output=theirs[:, :, channel], sigma=sigma)
    np.testing.assert_array_equal(blur(image, sigma), theirs, strict=True)


@pytest.mark.parametrize("quality", [30, 75, 100])
def test_jpeg_is_pillows(image, quality):
    coded = io.BytesIO()
    Image.fromarray(image).save(coded, format="jpeg", quality=quality)
    np.testing.assert_array_equal(jpeg(image, quality), np.array(Image.open(coded)), strict=True)


def test_all_together_in_their_order(image):
    """Every random step for sure: resize, blur, JPEG, crop, flip, grayscale, with the numbers that are drawn."""
    everything = Augmentation(load_size=32, crop=24, blur=1.0, jpeg=1.0, flip=1.0, grayscale=1.0)
    draw = np.random.default_rng(5)
    _, fraction = draw.random(4), draw.random(4)
    step = blur(resize(image, 32), 3 * fraction[0])
    step = jpeg(step, 30 + int(71 * fraction[1]))
    top, left = int(fraction[2] * 9), int(fraction[3] * (44 - 24 + 1))
    step = grayscale(step[top : top + 24, left : left + 24][:, ::-1])
    np.testing.assert_array_equal(everything(image, np.random.default_rng(5)), step, strict=True)


def test_the_same_random_numbers_give_the_same_image_and_others_another(image):
    everything = Augmentation(load_size=32, crop=24)
    images = [everything(image, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()


def test_every_call_takes_the_same_random_numbers(image):
    after = set()
    for changes in ({}, {"blur": 1.0, "jpeg": 1.0, "flip": 1.0, "grayscale": 1.0}):
        rng = np.random.default_rng(3)
        dataclasses.replace(NOTHING, **changes)(image, rng)
        after.add(rng.random())
    assert len(after) == 1


def test_crops_lie_everywhere(image):
    height, width = image.shape[:2]
    index = np.arange(height * width).reshape(height, width)
    places = np.stack([index // 256, index % 256, 0 * index], axis=-1).astype(np.uint8)
    corners = [augmented(places, seed)[0, 0].astype(int) for seed in range(1000)]
    tops, lefts = zip(*(divmod(256 * high + low, width) for high, low, _ in corners), strict=True)
    assert set(tops) == set(range(height - 24 + 1))
    assert set(lefts) == set(range(width - 24 + 1))


def test_sigma_is_uniform_to_3_and_quality_from_30_to_100(image, monkeypatch):
    sigmas, qualities = [], []
    monkeypatch.setattr(augmentations, "blur", lambda image, sigma: sigmas.append(sigma) or image)
    monkeypatch.setattr(augmentations, "jpeg", lambda image, quality: qualities.append(quality) or image)
    for seed in range(4000):
        augmented(image, seed, blur=0.5, jpeg=0.5)
    for count in (len(sigmas), len(qualities)):  # binomial, deviation 32
        assert abs(count - 2000) < 160
    assert kstest(np.array(sigmas) / 3, "uniform").pvalue > 1e-4
    assert set(qualities) == set(range(30, 101))
    assert kstest((np.array(qualities) - 29.5) / 71, "uniform").pvalue > 1e-4


@pytest.mark.parametrize(
    ("what", "changed"),
    [("flip", lambda image: image[:, ::-1]), ("grayscale", grayscale)],
)
def test_flip_and_grayscale_have_their_probabilities(image, what, changed):
    """Of a square that is not cropped."""
    square = image[:24, :24]
    results = [augmented(square, seed, **{what: 0.5}) for seed in range(1000)]
    hits = [np.array_equal(result, changed(square)) for result in results]
    assert all(hit or np.array_equal(result, square) for hit, result in zip(hits, results, strict=True))
    assert abs(sum(hits) - 500) < 80  # binomial, deviation 16


def test_an_image_smaller_than_the_crop_is_refused(image):
    with pytest.raises(InputError, match="a 20x56 image is smaller than the crop of 24"):
        augmented(image[:20])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blur": 1.5}, "blur is a probability"),
        ({"grayscale": -0.1}, "grayscale is a probability"),
        ({"load_size": 20}, "a square of 24 pixels cannot be cut from a side of 20"),
        ({"max_sigma": -1.0}, "sigma"),
        ({"min_quality": 0}, "quality"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(NOTHING, **changes)


def test_jpeg_files_and_arrays_meet(image, tmp_path):
    """`jpeg` gives what saving as a file and decoding it does."""
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=60)
    np.testing.assert_array_equal(jpeg(image, 60), decode(tmp_path / "a.jpg"))
