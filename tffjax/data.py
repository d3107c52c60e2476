"""Folders of images to batches: find the files, plan batches of one shape each, decode them in parallel.

Labels are 0 for real and 1 for fake (generated). Batches are uint8 RGB, NHWC; the device normalizes them.
"""

import collections
import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from tffjax.errors import InputError
from tffjax.preprocessing import Transform, UnreadableImage, decode, image_size

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
LABELS = {"0_real": 0, "1_fake": 1}
THREADS = min(16, os.cpu_count() or 1)

Variant = Callable[[np.ndarray, int], np.ndarray]

_HEADERS_PER_TASK = 256  # reading one header costs less than handing it to a thread


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image file and what its place in the folders says about it.

    Attributes:
        path: where it is, below the path that the user gave.
        label: 0 real, 1 fake, None unknown.
        generator: name of the generator, "" if unknown.
        category: object class, "" if there is none.
    """

    path: Path
    label: Literal[0, 1] | None = None
    generator: str = ""
    category: str = ""


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """One batch to come: its shape (height, width), and which files it takes."""

    shape: tuple[int, int]
    indices: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which files go into which batch. Any selection of `batches` is again a plan (`dataclasses.replace`).

    Attributes:
        batches: the batches, those of one shape in a row, each file in exactly one of them.
        skipped: index of a file whose header is unreadable -> why.
    """

    batches: tuple[BatchPlan, ...]
    skipped: dict[int, str]

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The distinct shapes, in the order in which they come; each needs one compile."""
        return tuple(dict.fromkeys(batch.shape for batch in self.batches))


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images of one shape, always with the full number of rows.

    Attributes:
        images: their pixels; zeros in the rows of weight 0. With variants, (b, 1 + variants, h, w, 3).
        weights: 1 for an image; 0 for an unreadable file and for padding at the end of a shape.
        indices: which file each row is; -1 for padding.
        skipped: index of a file that turned out unreadable -> why.
    """

    images: UInt8[np.ndarray, "b *variants h w 3"]
    weights: Float32[np.ndarray, " b"]
    indices: Int64[np.ndarray, " b"]
    skipped: dict[int, str]


def find_images(paths: Iterable[str | os.PathLike[str]]) -> tuple[ImageFile, ...]:
    """The images at and below the given paths, in the order of the paths and then of the names.

    A folder may be laid out like ForenSynths, `<generator>/{0_real,1_fake}/x.png` or
    `<generator>/<class>/{0_real,1_fake}/x.png`, or in any other way; then labels and generators are unknown. A single
    folder between the given one and `0_real` is taken for the generator, not for a class: give the folder that holds
    the generators. If a given folder holds `0_real` and `1_fake` itself, or is one of them, or if a file in one of them
    is given, then the name of the folder around them is the generator.

    Links are followed. Hidden files and folders are left out, and so are other extensions (see `other_extensions`), but
    a file that is given itself is taken whatever its extension. A file that is met twice counts once.

    Raises:
        InputError: a path that does not exist or cannot be listed, or a folder without images.
    """
    found: dict[Path, ImageFile] = {}
    for given in map(Path, paths):
        if given.is_dir():
            root, files = given, [path for path in _walk(given) if path.suffix.lower() in EXTENSIONS]
            if not files:
                raise InputError(_nothing_found(given))
        elif given.exists():
            root, files = given.parent, [given]
        else:
            raise InputError(f"{given}: no such file or folder")
        base = Path(os.path.abspath(root))  # noqa: PTH100  resolve() would follow a link and lose its name
        real = root.resolve()
        for path in files:
            below = path.relative_to(root)
            found.setdefault(real / below, _describe(path, base, below.parts[:-1]))
    return tuple(found.values())


def relative_names(files: Sequence[ImageFile]) -> tuple[str, ...]:
    """Paths below the folder that is common to all, which identify images wherever that folder lies."""
    common = Path(os.path.commonpath([file.path.absolute().parent for file in files]))
    return tuple(file.path.absolute().relative_to(common).as_posix() for file in files)


def fingerprint(files: Sequence[ImageFile], names: Sequence[str]) -> dict[str, Any]:
    """What tells one list of images from another: how many, and a hash of `relative_names` and sizes in bytes."""
    listing = "".join(f"{name}\0{file.path.stat().st_size}\n" for name, file in zip(names, files, strict=True))
    return {"count": len(files), "sha256": hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()}


def other_extensions(paths: Iterable[str | os.PathLike[str]]) -> dict[str, int]:
    """How many files of which other extension `find_images` leaves out below the given folders, most frequent first.

    Raises:
        InputError: a folder that cannot be listed.
    """
    folders = [path for path in map(Path, paths) if path.is_dir()]
    suffixes = (file.suffix.lower() for folder in folders for file in _walk(folder))
    return dict(collections.Counter(suffix for suffix in suffixes if suffix not in EXTENSIONS).most_common())


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


def plan(files: Sequence[ImageFile], transform: Transform, batch_size: int, max_shapes: int = 8) -> Plan:
    """Sort the files into batches of at most `batch_size` whose images have one size after the transform.

    Sizes come in the order of their first file, the files of one size in their own order. If the transform crops, the
    size is known; otherwise every file's header is read.

    Raises:
        InputError: more than `max_shapes` different sizes.
    """
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1, got {batch_size}")
    skipped: dict[int, str] = {}
    buckets: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(_output_sizes(files, transform)):
        if isinstance(size, str):
            skipped[index] = size
        else:
            buckets.setdefault(size, []).append(index)
    if len(buckets) > max_shapes:
        raise InputError(_too_many_shapes(buckets, max_shapes))
    batches = tuple(
        BatchPlan(shape, tuple(indices[start : start + batch_size]))
        for shape, indices in buckets.items()
        for start in range(0, len(indices), batch_size)
    )
    return Plan(batches, skipped)


def batches(
    plan: Plan,
    files: Sequence[ImageFile],
    transform: Transform,
    batch_size: int,
    variants: Sequence[Variant] = (),
    threads: int = THREADS,
) -> Iterator[Batch]:
    """Decode the planned batches, in their order, with `threads` threads.

    At most max(batch_size, threads) images are decoded ahead, however many there are. A file that turns out unreadable
    (or has changed its size since it was planned) keeps its row, with weight 0, and is named in `Batch.skipped`.

    Args:
        plan: from `plan`, with the same files, transform and batch size, or a selection of its batches.
        files: what the plan's indices point to.
        transform: resize and crop.
        batch_size: number of rows of every batch.
        variants: functions of an image (uint8, after the transform) and the index of its file that return an image of
            the same size; with them, `Batch.images` has an axis more: the image itself, then its variants.
        threads: how many images are decoded at a time.
    """
    import grain  # here, because what only names a Batch, such as the search of LRP-max, needs none of it

    if any(len(batch.indices) > batch_size for batch in plan.batches):
        raise ValueError(f"the plan holds batches larger than {batch_size}")

    def load(row: tuple[int, tuple[int, int]]) -> _Row:
        index, shape = row
        if index < 0:
            return _Row(index, shape)
        image = _attempt(files[index].path, decode, transform)
        if isinstance(image, str):
            return _Row(index, shape, reason=image)
        if image.shape[:2] != shape:
            return _Row(index, shape, reason=f"{files[index].path}: has changed its size since it was first read")
        if variants:
            image = np.stack([image, *(variant(image, index) for variant in variants)])
        return _Row(index, shape, image)

    rows = [
        (index, batch.shape)
        for batch in plan.batches
        for index in (*batch.indices, *[-1] * (batch_size - len(batch.indices)))
    ]
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(batch_size, threads))
    images = grain.MapDataset.source(rows).map(load).to_iter_dataset(options)
    axes = (1 + len(variants),) if variants else ()
    yield from images.batch(batch_size, batch_fn=functools.partial(_assemble, axes))


@dataclasses.dataclass(frozen=True)
class _Row:
    index: int
    shape: tuple[int, int]
    image: np.ndarray | None = None
    reason: str = ""


def _assemble(axes: tuple[int, ...], rows: Sequence[_Row]) -> Batch:
    images = np.zeros((len(rows), *axes, *rows[0].shape, 3), np.uint8)
    for out, row in zip(images, rows, strict=True):
        if row.image is not None:
            out[...] = row.image
    return Batch(
        images=images,
        weights=np.array([row.image is not None for row in rows], np.float32),
        indices=np.array([row.index for row in rows], np.int64),
        skipped={row.index: row.reason for row in rows if row.reason},
    )


def _attempt(path: Path, read: Callable[[Path], Any], then: Callable[[Any], Any]) -> Any:
    """`then(read(path))`, or one line on why it cannot be had: an exception would end the whole iteration."""
    try:
        value = read(path)
    except UnreadableImage as error:
        return str(error)
    try:
        return then(value)
    except InputError as error:
        return f"{path}: {error}"


def _output_sizes(files: Sequence[ImageFile], transform: Transform) -> Iterator[tuple[int, int] | str]:
    """The size of every file after the transform, or why its header is unreadable."""
    if transform.crop is not None:
        yield from itertools.repeat((transform.crop, transform.crop), len(files))
        return

    def sizes(start: int) -> list[tuple[int, int] | str]:
        part = files[start : start + _HEADERS_PER_TASK]
        return [_attempt(file.path, image_size, lambda size: transform.output_size(*size)) for file in part]

    with ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(sizes, range(0, len(files), _HEADERS_PER_TASK)):
            yield from part


def _too_many_shapes(buckets: dict[tuple[int, int], list[int]], max_shapes: int) -> str:
    largest = sorted(buckets.items(), key=lambda bucket: -len(bucket[1]))[:3]
    examples = ", ".join(f"{height}x{width} ({len(indices)} images)" for (height, width), indices in largest)
    return (
        f"the images have {len(buckets)} different sizes (height x width), the most frequent are {examples}; each size "
        f"needs its own compile, and the limit is {max_shapes}: bring the images to one size with --resize and --crop, "
        f"for example --resize 256 --crop 224, or allow more with --max-shapes {len(buckets)}"
    )


def _walk(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All files below a folder that are not hidden, by name; a link back to a folder above it is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as listing:
            entries = sorted((entry.name, entry.is_dir()) for entry in listing if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from None
    for name, is_folder in entries:
        if is_folder:
            yield from _walk(folder / name, (*above, real))
        else:
            yield folder / name


def _describe(path: Path, base: Path, folders: tuple[str, ...]) -> ImageFile:
    """Label, generator and class of a file, from the folders between `base` (absolute) and the file."""
    if not LABELS.keys() & set(folders):
        if base.name not in LABELS:
            return ImageFile(path)
        base, folders = base.parent, (base.name, *folders)
    at = max(i for i, name in enumerate(folders) if name in LABELS)
    names = folders[:at] or (base.name,)
    generator, category = (*names[-2:], "")[:2]
    return ImageFile(path, LABELS[folders[at]], generator, category)


def _nothing_found(folder: Path) -> str:
    others = other_extensions([folder])
    ignored = ", ".join(
        f"{count} {suffix or 'without extension'}" for suffix, count in itertools.islice(others.items(), 5)
    )
    return (
        f"{folder}: no images in it or below; looked for {', '.join(EXTENSIONS)} in any folder (labels are known below "
        f"<generator>/0_real and <generator>/1_fake)" + (f"; left out: {ignored}" if ignored else "")
    )
