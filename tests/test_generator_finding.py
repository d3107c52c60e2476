"""The finding of the study of a generator."""

import pytest

from tffjax.whole.findings import UNSAID
from tffjax.whole.generator import generator_finding, verdict


@pytest.mark.parametrize(
    ("base", "top", "random", "word"),
    [
        (1.0, 0.5, 0.75, "yes"),
        (1.0, 0.51, 0.75, "no"),
        (1.0, 0.51, 0.77, "partly"),
        (0.8, 0.1, 0.5, "partly"),
        (0.8, 0.1, 0.1, "no"),
        (0.8, 0.8, 0.1, "no"),
        (0.49, 0.0, 0.49, UNSAID),
    ],
)
def test_the_verdict_follows_from_the_shares(base, top, random, word):
    assert verdict(base, top, random) == word


def test_the_words_have_the_numbers():
    numbers = {
        "median": 0.9,
        "median_low": 0.8,
        "median_high": 0.95,
        "psnr": 30.0,
        "color": 2.0,
        "detail": 0.7,
        "draws": 3,
    }
    rows = [
        {"setting": "baseline", **numbers, "detected": 0.96},
        {"setting": "top-5", **numbers, "detected": 0.25, "psnr": 21.5},
        {"setting": "random-5", **numbers, "detected": 0.9},
    ]
    results = {"k": 5, "images": 40, "channels": 100, "generator": "gan", "threshold": 0.5}
    found = generator_finding(rows, results)
    assert found.verdict == "yes"
    for words in ("Of 40 images of gan, 96.0% are found", "25.0% without the top 5 of 100 channels", "90.0% without 5",
                  "21.5 dB (random: 30.0 dB)", "in 3 draws medians of 80.0% to 95.0%", "figure M.1"):  # fmt: skip
        assert words in found.text, words
