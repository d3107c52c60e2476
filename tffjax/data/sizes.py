"""What resizing and cropping do to the images of a data set, in lines that save a study."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tffjax.data.image_file import ImageFile
from tffjax.data.preprocessing import Resize, Transform, UnreadableImage, resized_size
from tffjax.data.reading import read_size

SAMPLE = 500
"""Headers looked at, at most, spread over the list."""


def size_warnings(files: Sequence[ImageFile], transform: Transform) -> list[str]:
    """A line where the transform enlarges images, and one where it fills them up with zeros.

    Enlarging makes traces of its own, which a detector of generated images may see; zeros are no part of a picture.
    Looks at the headers of `SAMPLE` images at most. Stored pixels do not count: they were transformed before.
    """
    if transform.resize is None and transform.crop is None:
        return []
    known = [file for file in files if not (file.stored and file.stored.pixels)]
    with ThreadPoolExecutor(8) as pool:
        sizes = [size for size in pool.map(_size, known[:: -(-len(known) // SAMPLE) or 1]) if size]
    enlarged = [size for size in sizes if transform.resize and _enlarges(size, transform.resize)]
    padded = [] if transform.random_crop is not None else [size for size in sizes if _is_padded(size, transform)]
    lines = []
    if enlarged:
        lines.append(
            f"resizing enlarges {_share(enlarged, sizes)}: that makes traces of its own, which a detector may see"
        )
    if padded:
        lines.append(
            f"images are smaller than the crop of {transform.crop}, {_share(padded, sizes)}, and are filled up with "
            "zeros: give a smaller --crop, or --resize"
        )
    return lines


def _enlarges(size: tuple[int, int], resize: Resize) -> bool:
    after = resized_size(*size, resize)
    return after[0] > size[0] or after[1] > size[1]


def _is_padded(size: tuple[int, int], transform: Transform) -> bool:
    if transform.crop is None:
        return False
    return min(resized_size(*size, transform.resize) if transform.resize else size) < transform.crop


def _share(some: list[tuple[int, int]], sizes: list[tuple[int, int]]) -> str:
    height, width = min(some, key=lambda size: size[0] * size[1])
    return f"{len(some)} of {len(sizes)} looked at, the smallest one {height}x{width}"


def _size(file: ImageFile) -> tuple[int, int] | None:
    try:
        return read_size(file, Transform())
    except UnreadableImage:
        return None
