"""Images by generator: the groups of every table, and whose threshold is 0.5."""

import re

import numpy as np
from jaxtyping import Bool, Shaped

from tffjax.results.metrics import HALF

ALL = "all"
"""Stands for the images of all generators in tables that have several; no generator may have this name."""

_TRAINING = "progan"
_ALIASES = {"stylegan1": "stylegan", "spade": "gaugan"}


def names_of(generator: Shaped[np.ndarray, " n"]) -> list[str]:
    """The different names, as they come."""
    return [str(name) for name in dict.fromkeys(generator.tolist())]


def by_generator(
    generator: Shaped[np.ndarray, " n"], counted: Bool[np.ndarray, " n"] | None = None
) -> dict[str, Bool[np.ndarray, " n"]]:
    """Generator -> which images are its, as they come; then `ALL` if there are several.

    Args:
        generator: names.
        counted: images that count; None for all. A generator without any has no group.
    """
    counted = np.ones(len(generator), bool) if counted is None else counted
    groups = {name: (generator == name) & counted for name in names_of(generator[counted])}
    return groups | ({ALL: counted} if len(groups) > 1 else {})


def fixed_threshold(generator: str) -> float | None:
    """The paper takes 0.5 for ProGAN, which its detectors were trained on, and a calibrated threshold for all others.

    Returns:
        The score at which p is 0.5 for ProGAN, None for others.
    """
    return HALF if plain_name(generator) == _TRAINING else None


def plain_name(generator: str) -> str:
    """A generator's name in lower case without punctuation, one of several where the field has several."""
    name = re.sub(r"[^a-z0-9]", "", generator.lower())
    return _ALIASES.get(name, name)
