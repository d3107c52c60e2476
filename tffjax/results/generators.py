"""Images by generator: the groups of every table, and whose threshold is 0.5."""

import re
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Shaped

from tffjax.results.metrics import HALF
from tffjax.results.style import short_name

ALL = "all"
"""Stands for the images of all generators in tables that have several; no generator may have this name."""

PAPER = ("ProGAN", "StyleGAN2", "StyleGAN", "BigGAN", "CycleGAN", "StarGAN", "GauGAN")
"""The paper's generators, in its order and casing."""

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


def shown_name(generator: str) -> str:
    """How a figure writes a generator: the paper's as the paper does, others in short, no name as `all images`."""
    known = {plain_name(name): name for name in PAPER}
    return short_name(known.get(plain_name(generator), generator)) or "all images"


def in_order(generators: Iterable[str]) -> list[str]:
    """The different names: the paper's in its order (`PAPER`), then others as they come, `ALL` last."""
    places = {plain_name(name): place for place, name in enumerate(PAPER)} | {ALL: len(PAPER) + 1}
    return sorted(dict.fromkeys(generators), key=lambda name: places.get(plain_name(name), len(PAPER)))


def plain_name(generator: str) -> str:
    """A generator's name in lower case without punctuation, one of several where the field has several."""
    name = re.sub(r"[^a-z0-9]", "", generator.lower())
    return _ALIASES.get(name, name)
