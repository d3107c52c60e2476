"""Labels of images: numbers in arrays, words in tables."""

import enum
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int


class Label(enum.IntEnum):
    """What an image is: taken by a camera, or made by a generator."""

    REAL = 0
    FAKE = 1

    @property
    def word(self) -> str:
        """As tables and options have it."""
        return self.name.lower()


LABELS = tuple(label.word for label in Label)
"""The words, by number."""

UNKNOWN = -1
"""Stands in arrays for images without a label."""


def label_word(label: int | None) -> str | None:
    """The word of a label, None of none."""
    return None if label is None else LABELS[label]


def label_numbers(words: Iterable[str | None]) -> Int[np.ndarray, " n"]:
    """0 for real, 1 for fake, `UNKNOWN` for None."""
    return np.array([UNKNOWN if word is None else LABELS.index(word) for word in words], np.int64)
