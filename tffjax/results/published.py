"""The paper's own numbers: tables E.1 (dropout) and I.1, I.2 (color) of its supplement."""

import csv
import functools
import importlib.resources
from typing import NamedTuple

from tffjax.errors import InputError
from tffjax.results.generators import plain_name

DETECTORS = ("ResNet-50", "EfficientNet-B0", "CR-ResNet-50", "CR-EfficientNet-B0")
"""Detectors of the paper, by its names; CR- are the color-robust ones, of which E.1 has nothing."""


class Published(NamedTuple):
    """AP, accuracy on real and on fake images, from 0 to 1; at 0.5 for ProGAN, else calibrated."""

    ap: float
    real: float
    fake: float


def dropout_numbers(detector: str | None, setting: str, generator: str) -> Published | None:
    """E.1: a setting is `baseline`, `top-114`, ...; generators are recognized whatever their case and punctuation."""
    return _table("table-e1-dropout.csv", "setting").get((detector, setting, plain_name(generator)))


def grayscale_numbers(detector: str | None, input_: str, generator: str) -> Published | None:
    """I.1 and I.2: the input is `Baseline` or `Grayscale`."""
    return _table("table-i-grayscale.csv", "input").get((detector, input_, plain_name(generator)))


def check_detector(name: str | None) -> None:
    """Raise an InputError unless this is None or a detector of the paper."""
    if name is not None and name not in DETECTORS:
        raise InputError(f"the paper has no detector {name}; it has {', '.join(DETECTORS)}")


@functools.cache
def _table(file: str, kind: str) -> dict[tuple[str, str, str], Published]:
    text = (importlib.resources.files("tffjax.published") / file).read_text(encoding="utf-8")
    return {
        (row["detector"], row[kind], plain_name(row["generator"])): Published(
            *(round(float(row[name]) / 100, 6) for name in ("ap", "acc_real", "acc_fake"))
        )
        for row in csv.DictReader(text.splitlines())
    }
