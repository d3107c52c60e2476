"""The pixels of one image of a data set, after a transform, wherever its bytes are."""

import os
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8

from tffjax.data.content import Content, Stamp
from tffjax.data.image_file import ImageFile, Stored
from tffjax.data.preprocessing import Transform, UnreadableImage, content_of, decode, decode_known, image_size
from tffjax.errors import InputError


def read(file: ImageFile, transform: Transform) -> UInt8[np.ndarray, "h w 3"]:
    """The image after the transform.

    Raises:
        UnreadableImage: as `tffjax.data.preprocessing.decode`; the image cannot be transformed.
        InputError: pixels are stored, but of another transform.
    """
    return read_known(file, transform)[0]


def read_known(file: ImageFile, transform: Transform) -> tuple[UInt8[np.ndarray, "h w 3"], Content]:
    """As `read`, and what the file holds; of packed records and TFDS, what their index says of that.

    Raises:
        UnreadableImage, InputError: as `read`.
    """
    stored = file.stored
    if stored is None:
        image, content = decode_known(file.path)
        return _apply(file, transform, image), content
    if stored.pixels is None:
        return _apply(file, transform, decode(file.path, content=stored.read())), _stored_content(stored)
    check_stored([file], transform)
    return stored.read(), _stored_content(stored)


def known_content(file: ImageFile) -> Content:
    """What a file holds, or what the index of packed records says of that.

    Raises:
        UnreadableImage: there is no such file any more.
    """
    return content_of(file.path) if file.stored is None else _stored_content(file.stored)


def stamp_of(file: ImageFile) -> Stamp | None:
    """The stamp of an image's file; None if there is no such file any more."""
    if file.stored is not None:
        return Stamp(file.stored.num_bytes)
    try:
        return Stamp.of(os.stat(file.path))  # noqa: PTH116  a third of the cost of Path's
    except OSError:
        return None


def read_size(file: ImageFile, transform: Transform) -> tuple[int, int]:
    """Height and width of what `read` returns, from the header alone.

    Raises:
        UnreadableImage: as `read`, but damage behind the header goes unseen.
    """
    stored = file.stored
    if stored is None:
        size = image_size(file.path)
    elif stored.size is None:
        size = image_size(file.path, content=stored.read())
    else:
        size = stored.size
        if stored.pixels is not None:
            return size
    try:
        return transform.output_size(*size)
    except InputError as error:
        raise UnreadableImage(f"{file.path}: {error}") from None


def check_stored(files: Iterable[ImageFile], transform: Transform) -> None:
    """Refuse pixels that were stored of another transform.

    Raises:
        InputError: there are such.
    """
    for file in files:
        if file.stored is not None and file.stored.pixels not in (None, transform):
            raise InputError(
                f"{file.path}: its pixels were packed {in_words(file.stored.pixels)}, and this run wants them "
                f"{in_words(transform)}; give the same options, or pack again, without --pixels for any"
            )


def in_words(transform: Transform) -> str:
    """A transform as options."""
    values = {"--resize": transform.resize, "--crop": transform.crop, "--random-crop": transform.random_crop}
    given = [f"{option} {value}" for option, value in values.items() if value is not None]
    return f"with {' '.join(given)}" if given else "at their own size"


def _stored_content(stored: Stored) -> Content:
    return Content(bytes.fromhex(stored.sha256), Stamp(stored.num_bytes))


def _apply(file: ImageFile, transform: Transform, image: np.ndarray) -> np.ndarray:
    try:
        return transform(image)
    except InputError as error:
        raise UnreadableImage(f"{file.path}: {error}") from None
