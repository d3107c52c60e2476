"""The detector, generator and images of `tffjax demo`; MODEL_CARD.md and CREDITS.md beside them say what they are."""

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class Embedded(NamedTuple):
    """A detector with images to study it on.

    Attributes:
        detector: a checkpoint.
        images: a folder of generators, each with 0_real and 1_fake.
        generator: the checkpoint of a small ProGAN.
        seen: the generator that the detector was trained on; it has never seen fakes of the others.
    """

    detector: Path
    images: Path
    generator: Path
    seen: str


EMBEDDED = Embedded(FOLDER / "detector", FOLDER / "images", FOLDER / "generator", "nearest")
