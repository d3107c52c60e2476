"""Ablations: what is taken from an image before the network sees it, on the host.

Every image here is a uint8 RGB array of shape (height, width, 3), and the ablated image has the same shape. An ablation
is written `name` or `name:strength`, e.g. `grayscale` or `jpeg:30`.
"""

import dataclasses
import hashlib
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from matplotlib import colors
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from tffjax.data.preprocessing import grayscale
from tffjax.errors import InputError

ORIGINAL = "original"
"""What tables and figures call the images as they are."""


@dataclasses.dataclass(frozen=True)
class Ablation:
    """One ablation at one strength; call it on an image.

    | name | strength | what it does |
    |---|---|---|
    | `grayscale` | none | Pillow's luma in all three channels (SPEC 7) |
    | `hue` | degrees in [-360, 360] | rotates the hue in HSV |
    | `desaturate` | share in [0, 1] | goes that far towards `grayscale`; 1 is `grayscale` |
    | `blur` | sigma in pixels, [0, 100] | Gaussian blur; the border mirrors the image |
    | `jpeg` | quality, a whole number in [1, 100] | writes and reads a JPEG with Pillow's defaults |
    | `noise` | sigma in gray levels of 255, [0, 255] | adds Gaussian noise, then clips |

    Strength 0 gives the image itself where it is allowed.

    Attributes:
        name: see the table.
        strength: see the table; None for `grayscale`.

    Raises:
        InputError: no such name; a strength that is missing, superfluous or out of its range.
    """

    name: str
    strength: float | int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not in the table."""
        if self.name not in _KINDS:
            raise InputError(f"there is no ablation {self.name!r}; choose one of {', '.join(_KINDS)}")
        kind = _KINDS[self.name]
        if kind is None:
            if self.strength is not None:
                raise InputError(f"{self.name} has no strength, got {self.strength:g}; write {self.name}")
            return
        what = f"{self.name} needs a {kind.what} from {kind.low} to {kind.high}, as in {self.name}:{kind.example}"
        if self.strength is None:
            raise InputError(what)
        if not kind.low <= self.strength <= kind.high or (kind.whole and self.strength != int(self.strength)):
            raise InputError(f"{what}; got {self.strength:g}")

    def __str__(self) -> str:
        return self.name if self.strength is None else f"{self.name}:{self.strength:g}"

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], key: str) -> UInt8[np.ndarray, "h w 3"]:
        """The ablated image.

        Args:
            image: uint8 RGB.
            key: what tells this image from others, such as its path. It alone seeds the noise, so that an image gets
                the same noise in every run, at every place in it, and `sigma` times the same pattern at every strength.
        """
        kind = _KINDS[self.name]
        if kind is None:
            return grayscale(image)
        return image if self.strength == 0 else kind.apply(image, float(self.strength), key)


def parse(text: str) -> Ablation:
    """The ablation that is written `name` or `name:strength`.

    Raises:
        InputError: as `Ablation`, or the strength is no number.
    """
    name, colon, strength = text.strip().partition(":")
    try:
        return Ablation(name, float(strength) if colon else None)
    except InputError:
        raise
    except ValueError:
        raise InputError(f"{strength!r} in {text!r} is not a number; write for example jpeg:30") from None


def parse_list(text: str) -> tuple[Ablation, ...]:
    """The ablations of one name at the strengths of a list: `jpeg:90,60,30` is jpeg:90, jpeg:60 and jpeg:30.

    Raises:
        InputError: as `parse`.
    """
    name, colon, strengths = text.partition(":")
    return tuple(parse(f"{name}{colon}{strength}") for strength in strengths.split(","))


def strongest_last(ablations: tuple[Ablation, ...]) -> tuple[Ablation, ...]:
    """Ablations of one name by what they do to an image, the mildest first: JPEG from high to low quality."""
    sign = -1 if ablations[0].name == "jpeg" else 1
    return tuple(sorted(ablations, key=lambda ablation: sign * abs(ablation.strength or 0)))


def _hue(image: np.ndarray, degrees: float, key: str) -> np.ndarray:
    hsv = colors.rgb_to_hsv(image / 255)
    hsv[..., 0] = (hsv[..., 0] + degrees / 360) % 1
    return np.rint(colors.hsv_to_rgb(hsv) * 255).astype(np.uint8)


def _desaturate(image: np.ndarray, share: float, key: str) -> np.ndarray:
    return np.asarray(ImageEnhance.Color(Image.fromarray(image)).enhance(1 - share))


def _blur(image: np.ndarray, sigma: float, key: str) -> np.ndarray:
    blurred = gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))
    return np.rint(blurred).clip(0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, quality: float, key: str) -> np.ndarray:
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        return np.asarray(Image.open(file).convert("RGB"))


def _noise(image: np.ndarray, sigma: float, key: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16])
    pattern = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    return np.rint(image + sigma * pattern).clip(0, 255).astype(np.uint8)


class _Kind(NamedTuple):
    apply: Callable[[np.ndarray, float, str], np.ndarray]
    what: str
    low: int
    high: int
    example: str
    whole: bool = False


_KINDS = {
    "grayscale": None,
    "hue": _Kind(_hue, "rotation in degrees", -360, 360, "90"),
    "desaturate": _Kind(_desaturate, "share", 0, 1, "0.5"),
    "blur": _Kind(_blur, "sigma in pixels", 0, 100, "2"),
    "jpeg": _Kind(_jpeg, "whole quality", 1, 100, "30", whole=True),
    "noise": _Kind(_noise, "sigma in gray levels", 0, 255, "8"),
}
