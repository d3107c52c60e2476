"""One image file to network input, on the host: decode, resize, crop, grayscale, normalize.

Every image between these functions is a uint8 RGB array of shape (height, width, 3); sizes are (height, width). Resize
and crop give the pixels of torchvision's `Resize` and `CenterCrop` on a PIL image, bit for bit.
"""

import contextlib
import dataclasses
import io
import os
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from tffjax.data.content import Content
from tffjax.errors import InputError
from tffjax.files import regular
from tffjax.nn.card import Normalization

MAX_PIXELS = 100_000_000  # 300 MB as RGB: more than cameras deliver, less than what hurts a machine

Resize = int | tuple[int, int]
"""Of images: the length of the shorter side, or height and width, whatever the ratio was."""

_TRANSPOSE = {  # EXIF orientation -> what puts the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(InputError):
    """A file that holds no usable image; the message is one line that names the file."""


def image_size(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, content: bytes | None = None
) -> tuple[int, int]:
    """Height and width that `decode` would return, from the header alone.

    Raises:
        UnreadableImage: as `decode`, but damage behind the header goes unseen.
    """
    with open_image(path, max_pixels, content) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def decode(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, content: bytes | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Read a PNG, JPEG or WebP file as RGB, upright according to its EXIF orientation.

    Grayscale is repeated to three channels, palettes are looked up, an alpha channel is dropped (not blended), of 16
    bits the high byte is kept, and of an animation the first frame. EXIF that stands behind the pixels of a PNG is
    ignored.

    Args:
        path: the file.
        max_pixels: images of more are refused.
        content: the bytes of the file, where they do not lie at `path`, which then only names them.

    Raises:
        UnreadableImage: the file is missing, of another format, truncated or damaged, or its header announces more than
            `max_pixels` pixels (found out before any pixel is decoded).
    """
    with open_image(path, max_pixels, content) as image:
        return _pixels(image)


def decode_known(path: str | os.PathLike[str]) -> tuple[UInt8[np.ndarray, "h w 3"], Content]:
    """As `decode`, and what the file holds, which is read once for both.

    Raises:
        UnreadableImage: as `decode`.
    """
    name = os.fspath(path)
    with _readable(name), open(name, "rb", opener=regular) as file:
        with _header(file, name, MAX_PIXELS) as image:
            pixels = _pixels(image)
        return pixels, Content.of(file)


def content_of(path: str | os.PathLike[str]) -> Content:
    """What a file holds, be it an image or not.

    Raises:
        UnreadableImage: it is missing, or no regular file.
    """
    name = os.fspath(path)
    with _readable(name), open(name, "rb", opener=regular) as file:
        return Content.of(file)


def _pixels(image: ImageFile) -> UInt8[np.ndarray, "h w 3"]:
    orientation = _orientation(image)
    image.load()
    upright: Image.Image = image
    if image.mode == "I;16":  # Pillow's own conversion clips at 255 instead of taking the high byte
        upright = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if upright.mode != "RGB":
        upright.info.pop("transparency", None)  # Pillow warns that it drops a palette's; it never alters RGB
        upright = upright.convert("RGB")
    if orientation in _TRANSPOSE:
        upright = upright.transpose(_TRANSPOSE[orientation])
    return np.asarray(upright)


def as_resize(value: int | list[int] | tuple[int, int] | None) -> Resize | None:
    """A resize as JSON gives it back, where a pair is a list."""
    return tuple(value) if isinstance(value, list) else value


def resized_size(height: int, width: int, size: Resize) -> tuple[int, int]:
    """The size after `resize`: the short side becomes `size`, the long side `int(size * long / short)`; or a given one.

    Raises:
        InputError: an image so elongated that the result would have more than `MAX_PIXELS` pixels.
    """
    if not isinstance(size, int):
        return size
    short, long = sorted((height, width))
    new_long = int(size * long / short)
    if size * new_long > MAX_PIXELS:
        raise InputError(f"a {height}x{width} image is too elongated to resize its short side to {size}")
    return (size, new_long) if height <= width else (new_long, size)


def resize(image: UInt8[np.ndarray, "h w 3"], size: Resize) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resize the shorter side to `size`, bilinear with antialiasing; equals torchvision's `Resize(size)`.

    A pair (height, width) is what the image becomes, its ratio not kept.

    Raises:
        InputError: as `resized_size`.
    """
    height, width = resized_size(*image.shape[:2], size)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def center_crop(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Cut the central square of side `size`; equals torchvision's `CenterCrop(size)`.

    The first row is round((h - size) / 2), halves to even. A side shorter than `size` is first padded with zeros,
    (size - h) // 2 before and the rest after.
    """
    height, width = image.shape[:2]
    if height < size or width < size:
        missing = max(size - height, 0), max(size - width, 0)
        image = np.pad(image, [*((m // 2, m - m // 2) for m in missing), (0, 0)])
        height, width = image.shape[:2]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[top : top + size, left : left + size]


def random_resized_crop(
    image: UInt8[np.ndarray, "h w 3"], size: int, seed: int
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """A random rectangle of 99 to 100 % of the area and an aspect ratio of 0.99 to 1, resized to a square.

    What the released code feeds to its statistic (SPEC 4: torchvision's RandomResizedCrop, scale and ratio 0.99 to 1,
    bilinear). The rectangle depends on the seed and on the pixels, not on when the image is read.
    """
    height, width = image.shape[:2]
    rng = np.random.default_rng([seed, zlib.crc32(image.tobytes())])
    for _ in range(10):
        area = height * width * rng.uniform(0.99, 1)
        ratio = np.exp(rng.uniform(np.log(0.99), 0))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            break
    else:  # as torchvision: the largest central rectangle whose aspect ratio is in the range
        w, h = min(width, round(height * min(max(width / height, 0.99), 1))), height
        if width / height < 0.99:
            h = round(width / 0.99)
        top, left = (height - h) // 2, (width - w) // 2
    box = (left, top, left + w, top + h)
    return np.asarray(Image.fromarray(image).crop(box).resize((size, size), Image.Resampling.BILINEAR))


def grayscale(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """ITU-R 601-2 luma as Pillow's `convert("L")`, repeated to three channels (SPEC 7).

    L = (19595 R + 38470 G + 7471 B + 32768) >> 16.
    """
    luma = np.asarray(Image.fromarray(image).convert("L"))
    return np.repeat(luma[..., None], 3, axis=-1)


def normalize(images: UInt8[np.ndarray, "*batch 3"], normalization: Normalization) -> Float32[np.ndarray, "*batch 3"]:
    """(p / 255 - mean) / std per channel, every step in float32, as torchvision's `ToTensor` and `Normalize`.

    The studies do this on the device, see `tffjax.nn.normalization`.

    Args:
        images: uint8 RGB, channels last.
        normalization: mean, std and the order of the channels, see `tffjax.nn.card.Normalization`.

    Returns:
        float32 of the same shape, within `normalization.bounds`.
    """
    out = np.empty(images.shape, np.float32)
    for channel, name in enumerate(normalization.order):
        np.take(normalization.table[channel], images[..., "rgb".index(name)], out=out[..., channel], mode="clip")
    return out


@dataclasses.dataclass(frozen=True)
class Transform:
    """Resize, then center crop; either may be left out. `Transform()` keeps images as they are (SPEC 6).

    Attributes:
        resize: length of the shorter side, or height and width, see `resize`.
        crop: side of the square that is cut out, see `center_crop`.
        random_crop: a seed; the square is then `random_resized_crop` instead of the central one (SPEC 4).

    Raises:
        InputError: a length below 1, a negative seed; on use, an image too elongated to resize.
    """

    resize: Resize | None = None
    crop: int | None = None
    random_crop: int | None = None

    def __post_init__(self) -> None:
        """Refuse lengths below 1, and a random crop without a size."""
        if self.random_crop is not None and self.crop is None:
            raise InputError("a random crop needs the side of the square, crop")
        if self.random_crop is not None and self.random_crop < 0:
            raise InputError(f"the seed of random crops must be at least 0, got {self.random_crop}")
        lengths = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        for name, length in (*(("resize", length) for length in lengths), ("crop", self.crop)):
            if length is not None and length < 1:
                raise InputError(f"{name} must be at least 1 pixel, got {length}")

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
        """The transformed image, of size `output_size(h, w)`."""
        if self.resize is not None:
            image = resize(image, self.resize)
        if self.crop is None:
            return image
        if self.random_crop is not None:
            return random_resized_crop(image, self.crop, self.random_crop)
        return center_crop(image, self.crop)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the transform."""
        if self.crop is not None:
            return self.crop, self.crop
        return (height, width) if self.resize is None else resized_size(height, width, self.resize)


class _JpegImageFile(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Leave EXIF alone: Pillow would parse it in search of a resolution, and warn where it is damaged."""


def _reader(magic: bytes) -> type[ImageFile] | None:
    if magic.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile
    if magic.startswith(b"\xff\xd8\xff"):
        return _JpegImageFile
    if magic.startswith(b"RIFF") and magic.endswith(b"WEBP"):
        return WebPImageFile
    return None


@contextlib.contextmanager
def open_image(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, content: bytes | None = None
) -> Iterator[ImageFile]:
    """Yield the image with its header read; everything that goes wrong until the end of the block is UnreadableImage.

    The readers are called directly because `Image.open` tries every format that Pillow knows, and announces a large
    image by a warning, which threads cannot silence: warning filters belong to the process.
    """
    name = os.fspath(path)
    with (
        _readable(name),
        # open() is cheaper than Path's
        open(name, "rb", opener=regular) if content is None else io.BytesIO(content) as file,
        _header(file, name, max_pixels) as image,
    ):
        yield image


@contextlib.contextmanager
def _header(file: io.BufferedIOBase, name: str, max_pixels: int) -> Iterator[ImageFile]:
    reader = _reader(file.read(12))
    if reader is None:
        raise UnreadableImage(f"{name}: not a PNG, JPEG or WebP image")
    file.seek(0)
    with reader(file) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise UnreadableImage(f"{name}: {height}x{width} pixels are more than the {max_pixels} that are decoded")
        yield image


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Whatever goes wrong in the block is UnreadableImage."""
    try:
        yield
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:  # WebP's reader has its own limit, because it allocates at once
        raise UnreadableImage(f"{name}: {error}") from None
    except OSError as error:
        raise UnreadableImage(f"{name}: {error.strerror or _damaged(error)}") from None
    except Exception as error:  # on hostile bytes Pillow raises SyntaxError, ValueError, struct.error, zlib.error ...
        raise UnreadableImage(f"{name}: {_damaged(error)}") from None


def _damaged(error: Exception) -> str:
    return f"truncated or damaged ({' '.join(str(error).split()) or type(error).__name__})"


def _orientation(image: ImageFile) -> int:
    """EXIF orientation 1 to 8 of an image whose header is read; 1 if there is none or the EXIF is damaged.

    Pillow's reader warns about damaged EXIF and, for PNG, decodes the pixels first; hence this one, for the one tag.
    """
    exif = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "L", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, _, _, value = struct.unpack_from(order + "HHLH", exif, entry)
            if tag == 0x0112:
                return value if value in _TRANSPOSE else 1
    except struct.error:
        pass
    return 1
