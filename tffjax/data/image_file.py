"""One image of a data set: what it is called, what it shows, where its bytes are.

Labels are 0 for real and 1 for fake (generated).
"""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from tffjax.data.preprocessing import Transform
from tffjax.files import utf8


@runtime_checkable
class Stored(Protocol):
    """What there is of an image that is not a file of its own.

    Attributes:
        num_bytes: of the image file that was stored.
        size: height and width of the image, upright; None if nobody looked.
        pixels: None if the file's bytes are stored as they were; else the transform of which the pixels are stored.
        sha256: of what is stored, hexadecimal.
    """

    num_bytes: int
    size: tuple[int, int] | None
    pixels: Transform | None
    sha256: str

    def read(self) -> bytes | np.ndarray:
        """The file's bytes, or the pixels (height, width, 3).

        Raises:
            tffjax.data.preprocessing.UnreadableImage: they are damaged, or no image.
        """


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image and what its data set says about it.

    Attributes:
        path: where it is, below the path that the user gave; its name where it is stored in another way.
        label: 0 real, 1 fake, None unknown.
        generator: name of the generator in UTF-8, "" if unknown.
        category: object class in UTF-8, "" if there is none.
        stored: where its bytes are if there is no file at `path`.
    """

    path: Path
    label: Literal[0, 1] | None = None
    generator: str = ""
    category: str = ""
    stored: Stored | None = None

    @property
    def num_bytes(self) -> int:
        """Size of the image file."""
        return self.path.stat().st_size if self.stored is None else self.stored.num_bytes


def relative_names(files: Sequence[ImageFile]) -> tuple[str, ...]:
    """Paths below the folder that is common to all, in UTF-8, which identify images wherever that folder lies."""
    here = Path.cwd()
    paths = [os.path.join(here, file.path) for file in files]  # noqa: PTH118  a tenth of the cost of Path's, which counts
    common = os.path.commonpath({os.path.dirname(path) for path in paths})  # noqa: PTH120
    return tuple(utf8(path[len(common.rstrip("/")) + 1 :]) for path in paths)


def fingerprint(files: Sequence[ImageFile], names: Sequence[str]) -> dict[str, Any]:
    """What tells one list of images from another: how many, and a hash of `relative_names`, sizes in bytes and labels.

    It is the same for the same images in a folder, in a list, in packed records and in TFDS.
    """
    listing = "".join(
        f"{name}\0{file.num_bytes}\0{file.label}\0{file.generator}\0{file.category}\n"
        for name, file in zip(names, files, strict=True)
    )
    return {"count": len(files), "sha256": hashlib.sha256(listing.encode()).hexdigest()}


def by_name(file: ImageFile) -> tuple[str, ...]:
    """Sorts images as a walk through their folders would meet them."""
    return file.path.parts


def label_warning(files: Sequence[ImageFile]) -> str | None:
    """One line on what cannot be computed because a label is missing; None if there are real and fake images."""
    counts = collections.Counter(file.label for file in files)
    if counts[0] and counts[1]:
        return None
    if not counts[0] and not counts[1]:
        return (
            f"none of the {len(files)} images has a label (no folder 0_real or 1_fake above it): "
            "AP, accuracies and the calibrated threshold cannot be computed, only probabilities"
        )
    present, missing = ("real", "fake") if counts[0] else ("fake", "real")
    return (
        f"all {counts[0] + counts[1]} labeled images are {present}: "
        f"AP, the calibrated threshold and the accuracy on {missing} images cannot be computed"
    )
