"""Facts about image files that have nothing to do with what they show, but may differ between real and fake."""

import dataclasses
import hashlib
import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image, JpegImagePlugin
from PIL.ImageFile import ImageFile as OpenedImage
from scipy.fft import dctn

from tffjax.data.image_file import ImageFile
from tffjax.data.preprocessing import decode, open_image
from tffjax.errors import InputError

_METADATA = {"exif": "EXIF", "icc_profile": "ICC", "dpi": "dpi", "comment": "comment", "xmp": "XMP", "gamma": "gamma",
             "srgb": "sRGB", "XML:com.adobe.xmp": "XMP", "photoshop": "Photoshop", "adobe": "Adobe"}  # fmt: skip
_SAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_LUMINANCE_SUM = 3688
"""Of the quantization table for luminance in the JPEG standard (ITU-T T.81, table K.1), quality 50."""

_GRID_SIDE = 512
_SMOOTH = 2.0
"""Gray levels of standard deviation under which an image has no perceptual hash: all smooth images look the same."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the header of an image file says, and of `pixel_facts` what its pixels say.

    Attributes:
        format: PNG, JPEG or WEBP.
        height, width: in pixels, as stored.
        depth: Pillow's mode, with ` 16 bit` where samples have more than 8.
        metadata: kinds of metadata, joined by `+`.
        quality: of a JPEG, as libjpeg counts it, from the sum of the luminance table; NaN for others.
        sampling: of the chroma of a JPEG, such as 4:2:0, and whether it is progressive; "" for others.
        color: mean R, G and B, 0 to 255.
        grid: how much larger steps between pixels are at the edges of 8x8 blocks than elsewhere, as a logarithm: of
            blocks that begin at the corner, and of those that show most.
        sha256: of the file.
        hash: perceptual, 64 bits: the signs of low frequencies; None for smooth images.
    """

    format: str
    height: int
    width: int
    depth: str
    metadata: str
    quality: float
    sampling: str
    color: tuple[float, float, float] | None = None
    grid: tuple[float, float] | None = None
    sha256: bytes = b""
    hash: int | None = None


def header_facts(file: ImageFile) -> Facts:
    """The facts that the header tells.

    Raises:
        UnreadableImage: as `tffjax.data.preprocessing.decode`.
        InputError: pixels are stored, not the file's bytes.
    """
    return _of_header(file, None if file.stored is None else _bytes_of(file))


def all_facts(file: ImageFile) -> Facts:
    """All facts; reads and decodes the image.

    Raises:
        UnreadableImage, InputError: as `header_facts`.
    """
    content = _bytes_of(file)
    image = decode(file.path, content=content)
    return dataclasses.replace(
        _of_header(file, content),
        color=tuple(image.mean(axis=(0, 1), dtype=np.float64).tolist()),
        grid=block_grid(image),
        sha256=hashlib.sha256(content).digest(),
        hash=perceptual_hash(image),
    )


def block_grid(image: UInt8[np.ndarray, "h w 3"]) -> tuple[float, float]:
    """log(steps at block edges / steps elsewhere), averaged over both directions; see `Facts.grid`.

    A step is |x[i+1] - x[i] - (x[i] - x[i-1] + x[i+2] - x[i+1]) / 2|: what the neighbors' slope does not explain.
    Steps elsewhere are the median of those at the eight possible positions of the edges.
    """
    gray = image[:_GRID_SIDE, :_GRID_SIDE].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    corner, strongest = [], []
    for values in (gray, gray.T):
        slope = np.diff(values, axis=1)
        if slope.shape[1] < 18:  # less than two blocks and a half
            return 0.0, 0.0
        steps = np.abs(slope[:, 1:-1] - (slope[:, :-2] + slope[:, 2:]) / 2).mean(axis=0, dtype=np.float64)
        of_position = [steps[(6 - place) % 8 :: 8].mean() for place in range(8)]  # steps[6] is between pixels 7 and 8
        usual = np.median(of_position) + 1e-3
        corner.append(math.log((of_position[0] + 1e-3) / usual))
        strongest.append(math.log((max(of_position) + 1e-3) / usual))
    return sum(corner) / 2, sum(strongest) / 2


def perceptual_hash(image: UInt8[np.ndarray, "h w 3"]) -> int | None:
    """64 bits that hardly change with size and compression: which of the lowest 8x8 frequencies are above the median.

    Cosine transform of 32x32 gray pixels, as pHash has it (Zauner 2010).
    """
    small = np.asarray(Image.fromarray(image).convert("L").resize((32, 32), Image.Resampling.BILINEAR), np.float64)
    if small.std() < _SMOOTH:
        return None
    low = dctn(small, norm="ortho")[:8, :8].ravel()
    return int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes())


def jpeg_quality(table_sum: int) -> int:
    """The quality at which libjpeg makes a luminance table of this sum, to about a unit from 25 on."""
    scale = 100 * table_sum / _LUMINANCE_SUM
    return round((200 - scale) / 2 if scale <= 100 else 5000 / scale)


def _bytes_of(file: ImageFile) -> bytes:
    if file.stored is None:
        try:
            return file.path.read_bytes()
        except OSError as error:
            raise InputError(f"{file.path}: {error.strerror}") from None
    if file.stored.pixels is not None:
        raise InputError(f"{file.path}: only its pixels are packed, which do not tell what the file was like")
    return file.stored.read()


def _of_header(file: ImageFile, content: bytes | None) -> Facts:
    with open_image(file.path, content=content) as image:
        width, height = image.size
        is_jpeg = image.format == "JPEG"
        tables = image.quantization if is_jpeg else {}
        found = {_METADATA[key] for key in image.info if key in _METADATA}
        if not is_jpeg and any(isinstance(value, str) for value in image.info.values()):
            found.add("text")
        return Facts(
            format=image.format or "",
            height=height,
            width=width,
            depth=image.mode + (" 16 bit" if _is_deep(image) else ""),
            metadata="+".join(sorted(found)),
            quality=float(jpeg_quality(sum(tables[min(tables)]))) if tables else math.nan,
            sampling=_sampling(image) if is_jpeg else "",
        )


def _is_deep(image: OpenedImage) -> bool:
    return any(";16" in str(tile.args) for tile in image.tile)


def _sampling(image: OpenedImage) -> str:
    if len(image.layer) == 1:
        return "gray"
    sampling = _SAMPLINGS.get(JpegImagePlugin.get_sampling(image), "other")
    return f"{sampling} progressive" if image.info.get("progressive") else sampling
