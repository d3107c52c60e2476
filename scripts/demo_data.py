"""Photographs with free licenses to crops, split by photograph; and what a trivial classifier sees in the result.

The photographs come from two Debian packages (bookworm) and from scikit-image's wheel:

    apt-get download mate-backgrounds plasma-workspace-wallpapers
    for package in *.deb; do dpkg -x $package photographs; done
    python scripts/train_demo_detector.py --photographs photographs

(gnome-backgrounds 43 and ukui-wallpapers 20.04 hold renderings and drawings only.) Gray photographs are left out: the
slightest tint of a redrawn one would give it away.
"""

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tffjax.data.preprocessing import decode
from tffjax.errors import InputError

CROP = 128
MARGIN = 12
"""Crops are redrawn with so many pixels more on each side, which are then cut off: what a decoder makes of the rim
(its zero padding) would give it away."""

SHORT_SIDES = (256, 384, 512, 768)
"""A photograph is first shrunk to each of these lengths of its short side, as far as it is larger."""

CROPS_PER_PHOTOGRAPH = {"train": 240, "validation": 100, "test": 40}
MIN_DISTANCE = 24
"""Pixels, in either direction, between the corners of any two crops of one scaled photograph."""

MIN_CONTRAST = 12
"""Smallest standard deviation of the luma (0 to 255) of a crop that is kept."""

Split = Literal["train", "validation", "test"]


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph: the end of its path, who made it, its license, and the split that all of its crops belong to."""

    path: str
    author: str
    license: str
    split: Split


_TABLE = """
train;mate/nature/Aqua.jpg;Charles Barbin;GPL-2+
train;mate/nature/Blinds.jpg;Lennart Poettering, Andrea Cimitan;GPL-2+
train;mate/nature/Dune.jpg;Marco Cogoni, Hylke Bons;GPL-2+
train;mate/nature/FreshFlower.jpg;Jens Ansorg;GPL-2+
train;mate/nature/Garden.jpg;Charles Barbin;GPL-2+
train;mate/nature/GreenMeadow.jpg;Timothy Schellhase, Lapo Calamandrei;GPL-2+
train;mate/nature/RainDrops.jpg;blackcombwhistler07;GPL-2+
train;mate/nature/Storm.jpg;Sergey Nazarov;GPL-2+
train;mate/nature/TwoWings.jpg;Charles Barbin, Hylke Bons;GPL-2+
train;mate/nature/YellowFlower.jpg;Charles Barbin;GPL-2+
train;wallpapers/BytheWater/contents/images/2560x1600.jpg;Maciej Wiklo;LGPL-3
train;wallpapers/ColorfulCups/contents/images/2560x1600.jpg;Dmitri Popov;LGPL-3
train;wallpapers/FallenLeaf/contents/images/2560x1600.jpg;Martin Klapetek;LGPL-3
train;wallpapers/OneStandsOut/contents/images/2560x1600.jpg;Risto Saukonpää;LGPL-3
train;wallpapers/summer_1am/contents/images/2560x1600.jpg;Risto Saukonpää;LGPL-3
validation;mate/nature/LadyBird.jpg;Charles Barbin;GPL-2+
validation;mate/nature/Wood.jpg;Jean-François Fortin Tam;GPL-2+
validation;wallpapers/Path/contents/images/2560x1600.jpg;Risto Saukonpää;LGPL-3
test;wallpapers/EveningGlow/contents/images/2560x1600.jpg;Ian Hex;LGPL-3
test;wallpapers/Kite/contents/images/2560x1600.jpg;Risto Saukonpää;LGPL-3
test;skimage/data/astronaut.png;NASA;public domain
test;skimage/data/chelsea.png;Stefan van der Walt;CC0-1.0
test;skimage/data/coffee.png;Rachel Michetti, Pikolo Espresso Bar;CC0-1.0
test;skimage/data/hubble_deep_field.jpg;NASA;public domain
test;skimage/data/retina.jpg;Mikael Häggström;CC0-1.0
test;skimage/data/rocket.jpg;SpaceX;public domain
"""

PHOTOGRAPHS = tuple(
    Photograph(path, author, license, split)
    for split, path, author, license in csv.reader(_TABLE.strip().splitlines(), delimiter=";")
)


@dataclasses.dataclass(frozen=True)
class Crops:
    """Crops of the photographs of one split.

    Attributes:
        images: (n, h, w, 3), uint8 RGB, h = w = CROP + 2 * MARGIN.
        photograph: index into `PHOTOGRAPHS` of each crop.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    photograph: Int[np.ndarray, " n"]


def find_photographs(folders: Iterable[Path]) -> dict[Photograph, Path]:
    """Where each of `PHOTOGRAPHS` lies below the folders.

    Raises:
        InputError: one is missing.
    """
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    found = {
        photograph: path
        for photograph in PHOTOGRAPHS
        for path in reversed(files)
        if path.as_posix().endswith(f"/{photograph.path}")
    }
    missing = [photograph.path for photograph in PHOTOGRAPHS if photograph not in found]
    if missing:
        raise InputError(f"photographs not found: {', '.join(missing)}; unpack the packages named in {__file__}")
    return found


def make_crops(found: dict[Photograph, Path], split: Split, seed: int) -> Crops:
    """Random crops of the photographs of a split, photograph by photograph, from all of its scales."""
    images, owners = [], []
    for index, photograph in enumerate(PHOTOGRAPHS):
        if photograph.split == split:
            rng = np.random.default_rng([seed, index])
            crops = crop_photograph(decode(found[photograph]), CROPS_PER_PHOTOGRAPH[split], rng)
            images += crops
            owners += [index] * len(crops)
    return Crops(np.stack(images), np.array(owners))


def crop_photograph(
    photograph: UInt8[np.ndarray, "h w 3"], number: int, rng: np.random.Generator
) -> list[UInt8[np.ndarray, "h2 w2 3"]]:
    """Up to `number` random crops with their margins, without flat ones and near twins; every scale is as likely."""
    size = CROP + 2 * MARGIN
    scaled = [shrink(photograph, side) for side in SHORT_SIDES if side <= min(photograph.shape[:2])]
    corners: list[tuple[int, int, int]] = []
    crops = []
    for _ in range(20 * number):
        scale = int(rng.integers(len(scaled)))
        height, width = scaled[scale].shape[:2]
        top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        if any(s == scale and max(abs(t - top), abs(x - left)) < MIN_DISTANCE for s, t, x in corners):
            continue
        crop = scaled[scale][top : top + size, left : left + size]
        if np.asarray(Image.fromarray(crop).convert("L")).std() < MIN_CONTRAST:
            continue
        corners.append((scale, top, left))
        crops.append(crop)
        if len(crops) == number:
            break
    return crops


def shrink(photograph: UInt8[np.ndarray, "h w 3"], short_side: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The photograph with a short side of `short_side` pixels (Lanczos, antialiased)."""
    height, width = photograph.shape[:2]
    size = round(width * short_side / min(height, width)), round(height * short_side / min(height, width))
    return np.asarray(Image.fromarray(photograph).resize(size, Image.Resampling.LANCZOS))


def cut_margin(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h-2*{MARGIN} w-2*{MARGIN} 3"]:
    """The images without their margins, of `CROP` pixels."""
    return images[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def _and_squares(*numbers: float) -> list[float]:
    return [*numbers, *(number**2 for number in numbers)]


TRIVIAL = {
    "file size": lambda image: _and_squares(len(png(image)) / image.size),
    "mean color": lambda image: _and_squares(*image.mean((0, 1)) / 255),
    "contrast": lambda image: _and_squares(*image.std((0, 1)) / 255),
    "saturation": lambda image: _and_squares(*(f(np.ptp(image, axis=2)) / 255 for f in (np.mean, np.std))),
    "fine detail": lambda image: _and_squares(*(np.abs(np.diff(image / 255, axis=a)).mean() for a in (0, 1))),
    "fine chroma": lambda image: _and_squares(*(np.abs(np.diff(ycc(image), axis=a)).mean() / 255 for a in (0, 1))),
    "JPEG grid": lambda image: grid(ycc(image)[..., 0])[8:],
    "luma grid": lambda image: grid(ycc(image)[..., 0])[:8],
    "chroma grid": lambda image: np.concatenate([grid(plane) for plane in ycc(image)[..., 1:].transpose(2, 0, 1)]),
}
"""Name -> a few numbers of an image. All but the last two, which are the decoders' traces, should not tell a redrawn
crop from its original."""


def ycc(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Y, Cb and Cr (BT.601), 0 to 255, not rounded."""
    y = image @ np.array([0.299, 0.587, 0.114])
    return np.stack([y, 128 + (image[..., 2] - y) / 1.772, 128 + (image[..., 0] - y) / 1.402], axis=-1)


def trivial_accuracy(
    name: str,
    real: UInt8[np.ndarray, "n h w 3"],
    fake: UInt8[np.ndarray, "n h w 3"],
    photograph: Int[np.ndarray, " n"],
) -> float:
    """Share that a logistic regression on `TRIVIAL[name]` gets right on photographs it was not fitted to (0.5: none).

    Five folds of whole photographs; the features are scaled.
    """
    rows = np.array([TRIVIAL[name](image) for image in (*real, *fake)], dtype=float)
    label = np.repeat([0, 1], len(real))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=100, max_iter=1000))
    predicted = cross_val_predict(classifier, rows, label, groups=np.tile(photograph, 2), cv=GroupKFold(5))
    return float(np.mean(predicted == label))


def grid(plane: Float[np.ndarray, "h w"]) -> Float[np.ndarray, " 16"]:
    """What a plane's steps between neighbors have of a period of 4 and, beyond that, of 8 pixels.

    With s(i) the mean absolute step behind column (then row) i, averaged over all i of the same remainder by 8, and
    divided by its mean: s(j) + s(j + 4) for j = 0 ... 3, which a decoder that enlarges by 4 marks, in columns and in
    rows; then s(j) - s(j + 4), which one that enlarges by 8 marks, and in luma the 8x8 blocks of JPEG.
    """
    sums, differences = [], []
    for axis in (1, 0):
        steps = np.abs(np.diff(plane, axis=axis)).mean(1 - axis)
        steps = steps[: len(steps) // 8 * 8].reshape(-1, 8).mean(0)
        steps /= max(steps.mean(), 1e-9)
        sums.append(steps[:4] + steps[4:])
        differences.append(steps[:4] - steps[4:])
    return np.concatenate([*sums, *differences])


def png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The image as a PNG file, the same settings for real and fake."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def write_images(folder: Path, images: Iterable[UInt8[np.ndarray, "h w 3"]], names: Sequence[str]) -> None:
    """Write `folder/<name>.png` for each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for image, name in zip(images, names, strict=True):
        (folder / f"{name}.png").write_bytes(png(image))
