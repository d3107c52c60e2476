"""What happens to a training image before the network sees it (SPEC 8): on the host, uint8 RGB (height, width, 3)."""

import dataclasses
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from tffjax.data.preprocessing import grayscale, resize
from tffjax.errors import InputError


def blur(image: UInt8[np.ndarray, "h w 3"], sigma: float) -> UInt8[np.ndarray, "h w 3"]:
    """Gaussian blur of each channel by `scipy.ndimage.gaussian_filter`, as in Wang et al.; fractions are cut off."""
    return gaussian_filter(image, (sigma, sigma, 0))


def jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """The image after JPEG of this quality, with colors at half the resolution (4:2:0).

    Wang et al. draw the coder from {OpenCV, Pillow}. Both are libjpeg-turbo with the same settings by now: OpenCV 4.10
    and 5.0 give Pillow's pixels bit for bit, at all qualities from 30 to 100. So there is one coder here.
    """
    coded = io.BytesIO()
    Image.fromarray(image).save(coded, "jpeg", quality=quality)
    return np.asarray(Image.open(coded))


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Resize, then at random blur, JPEG, crop, flip and grayscale, in this order.

    Attributes:
        load_size: length of the shorter side after resizing; None leaves the image as it is.
        crop: side of the square that is cut out at random.
        blur: probability of a Gaussian blur, its sigma uniform in [0, `max_sigma`].
        max_sigma: in pixels.
        jpeg: probability of JPEG compression, its quality uniform in {`min_quality`, ..., 100}.
        min_quality: lowest JPEG quality.
        flip: probability of a horizontal flip.
        grayscale: probability of grayscale (`tffjax.data.preprocessing.grayscale`); 0.5 for a color-robust detector.

    Raises:
        InputError: a probability outside of [0, 1], or a size below 1.
    """

    load_size: int | None = 256
    crop: int = 224
    blur: float = 0.5
    max_sigma: float = 3.0
    jpeg: float = 0.5
    min_quality: int = 30
    flip: float = 0.5
    grayscale: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("blur", "jpeg", "flip", "grayscale"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a probability, between 0 and 1, got {getattr(self, name)}")
        if self.crop < 1 or (self.load_size is not None and self.load_size < self.crop):
            raise InputError(f"a square of {self.crop} pixels cannot be cut from a side of {self.load_size}")
        if self.max_sigma < 0 or not 1 <= self.min_quality <= 100:
            raise InputError("sigma must be at least 0, and the JPEG quality between 1 and 100")

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "{self.crop} {self.crop} 3"]:
        """The augmented image. Every call takes the same number of random numbers.

        Raises:
            InputError: the image is smaller than the crop.
        """
        chance, fraction = rng.random(4), rng.random(4)
        if self.load_size is not None:
            image = resize(image, self.load_size)
        room = np.array(image.shape[:2]) - self.crop
        if room.min() < 0:
            height, width = image.shape[:2]
            raise InputError(f"a {height}x{width} image is smaller than the crop of {self.crop}; set a load size")
        if chance[0] < self.blur:
            image = blur(image, fraction[0] * self.max_sigma)
        if chance[1] < self.jpeg:
            image = jpeg(image, self.min_quality + int(fraction[1] * (101 - self.min_quality)))
        top, left = (fraction[2:] * (room + 1)).astype(int)
        image = image[top : top + self.crop, left : left + self.crop]
        if chance[2] < self.flip:
            image = image[:, ::-1]
        if chance[3] < self.grayscale:
            image = grayscale(image)
        return image
