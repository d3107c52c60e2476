"""All parts of the supplement, in its order."""

import functools
from collections.abc import Callable

from tffjax.errors import InputError
from tffjax.studies.selection import CONDITIONAL, UNCONDITIONAL
from tffjax.supplement.features import features
from tffjax.supplement.part import Part, Scene
from tffjax.supplement.pictures import decisions, generator, medians
from tffjax.supplement.tables import control, dropout, grayscale, ranking

_MAKERS: dict[str, Callable[[Scene], Part]] = {
    "FF-RS ranking beside the released one": ranking,
    "D, H: color-conditional T-FF": functools.partial(features, where=CONDITIONAL),
    "D, H: T-FF that are not color-conditional": functools.partial(features, where=UNCONDITIONAL),
    "E.1: feature-map dropout": dropout,
    "F.1: probabilities of fakes on grayscale images": medians,
    "G: within one model against across models": control,
    "I: detection on color and grayscale images": grayscale,
    "J: heatmaps of single decisions": decisions,
    "M.1: channels of a generator": generator,
}
"""What each is about -> what draws it."""


def parts(scene: Scene) -> list[Part]:
    """All of them, drawn; what cannot be drawn says why."""
    made = []
    for title, make in _MAKERS.items():
        try:
            made.append(make(scene))
        except InputError as error:
            made.append(Part(title, missing=str(error)))
    return made
