"""Files to batches: plan batches of one shape each, decode them in parallel.

Batches are uint8 RGB, NHWC; the device normalizes them.
"""

import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from tffjax.data.content import Content
from tffjax.data.image_file import ImageFile
from tffjax.data.preprocessing import Transform, UnreadableImage
from tffjax.data.reading import check_stored, read_known, read_size
from tffjax.errors import InputError

THREADS = min(16, os.cpu_count() or 1)

PREFETCH_BYTES = 1 << 30
"""Of images that are decoded ahead, at most (but one image, whatever its size)."""

BATCH_BYTES = 4 << 30
"""Of the pixels of a batch in float32, at most: networks take many times as much beside them."""

Variant = Callable[[np.ndarray, int], np.ndarray]

_HEADERS_PER_TASK = 256  # reading one header costs less than handing it to a thread


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """One batch to come: its shape (height, width), and which files it takes.

    `sizes` are those of the images where they are filled up with zeros to the shape, at the bottom and the right; None
    where all are of that shape.
    """

    shape: tuple[int, int]
    indices: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...] | None = None


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
        contents: index of a file -> what it held when it was read.
        sizes: height and width of every image; less than those of `images` where it is filled up.
    """

    images: UInt8[np.ndarray, "b *variants h w 3"]
    weights: Float32[np.ndarray, " b"]
    indices: Int64[np.ndarray, " b"]
    skipped: dict[int, str]
    contents: dict[int, Content] = dataclasses.field(default_factory=dict)
    sizes: Int32[np.ndarray, "b 2"] | None = None


def plan(
    files: Sequence[ImageFile], transform: Transform, batch_size: int, max_shapes: int = 8, pad_to: int | None = None
) -> Plan:
    """Sort the files into batches of at most `batch_size` whose images have one size after the transform.

    With `pad_to`, heights and widths are rounded up to multiples of it, and images filled up to that.

    Sizes come in the order of their first file, the files of one size in their own order. If the transform crops, the
    size is known; otherwise every file's header is read.

    Raises:
        InputError: more than `max_shapes` different sizes; stored pixels of another transform.
    """
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1, got {batch_size}")
    check_stored(files, transform)
    skipped: dict[int, str] = {}
    buckets: dict[tuple[int, int], list[int]] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for index, size in enumerate(_output_sizes(files, transform)):
        if isinstance(size, str):
            skipped[index] = size
        else:
            sizes[index] = size
            full = size if pad_to is None else (-(-size[0] // pad_to) * pad_to, -(-size[1] // pad_to) * pad_to)
            buckets.setdefault(full, []).append(index)
    if len(buckets) > max_shapes:
        raise InputError(_too_many_shapes(buckets, max_shapes))
    batches = tuple(
        BatchPlan(shape, part, None if pad_to is None else tuple(sizes[index] for index in part))
        for shape, indices in buckets.items()
        for start in range(0, len(indices), batch_size)
        for part in [tuple(indices[start : start + batch_size])]
    )
    return Plan(batches, skipped)


def check_batch(shapes: Sequence[tuple[int, int]], batch_size: int, option: str = "--batch-size") -> None:
    """Refuse batches whose pixels take more than `BATCH_BYTES` in float32, before anything of their size is allocated.

    Args:
        shapes: height and width of the images of each batch.
        batch_size: images a batch.
        option: that sets it.

    Raises:
        InputError: a batch is too large; says which number of images fits.
    """
    height, width = max(shapes, key=math.prod, default=(0, 0))
    image = height * width * 3 * np.dtype(np.float32).itemsize
    if image * batch_size <= BATCH_BYTES:
        return
    fits = BATCH_BYTES // image
    raise InputError(
        f"{batch_size} images of {height}x{width} pixels at once take {image * batch_size / 2**30:.1f} GiB, more than "
        f"the {BATCH_BYTES >> 30} GiB of a batch; give {f'{option} {fits}, or ' if fits else ''}smaller images with "
        "--resize or --crop"
    )


def batches(
    plan: Plan,
    files: Sequence[ImageFile],
    transform: Transform,
    batch_size: int,
    variants: Sequence[Variant] = (),
    threads: int = THREADS,
) -> Iterator[Batch]:
    """Decode the planned batches, in their order, with `threads` threads.

    At most max(batch_size, threads) images and `PREFETCH_BYTES` are decoded ahead, however many there are. A file that
    turns out unreadable (or has changed its size since it was planned) keeps its row, with weight 0, and is named in
    `Batch.skipped`.

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

    def load(row: tuple[int, tuple[int, int], tuple[int, int]]) -> _Row:
        index, shape, size = row
        if index < 0:
            return _Row(index, shape)
        try:
            image, content = read_known(files[index], transform)
        except UnreadableImage as error:  # it would end the whole iteration
            return _Row(index, shape, reason=str(error))
        if image.shape[:2] != size:
            return _Row(index, shape, reason=f"{files[index].path}: has changed its size since it was first read")
        if variants:
            image = np.stack([image, *(variant(image, index) for variant in variants)])
        return _Row(index, shape, image, content)

    rows = [
        (index, batch.shape, size)
        for batch in plan.batches
        for missing in [batch_size - len(batch.indices)]
        for index, size in zip(
            (*batch.indices, *[-1] * missing),
            (*(batch.sizes or [batch.shape] * len(batch.indices)), *[batch.shape] * missing),
            strict=True,
        )
    ]
    ahead = prefetched(plan, batch_size, 1 + len(variants), threads)
    options = grain.ReadOptions(num_threads=min(threads, ahead), prefetch_buffer_size=ahead)
    images = grain.MapDataset.source(rows).map(load).to_iter_dataset(options)
    axes = (1 + len(variants),) if variants else ()
    yield from images.batch(batch_size, batch_fn=functools.partial(_assemble, axes))


def prefetched(plan: Plan, batch_size: int, versions: int, threads: int) -> int:
    """How many rows of a plan are decoded ahead; a row is an image with its variants, `versions` in all."""
    largest = max((height * width * 3 * versions for height, width in plan.shapes), default=1)
    return max(1, min(max(batch_size, threads), PREFETCH_BYTES // max(largest, 1)))


@dataclasses.dataclass(frozen=True)
class _Row:
    index: int
    shape: tuple[int, int]
    image: np.ndarray | None = None
    content: Content | None = None
    reason: str = ""


def _assemble(axes: tuple[int, ...], rows: Sequence[_Row]) -> Batch:
    images = np.zeros((len(rows), *axes, *rows[0].shape, 3), np.uint8)
    sizes = np.array([row.shape if row.image is None else row.image.shape[-3:-1] for row in rows], np.int32)
    for out, row, (height, width) in zip(images, rows, sizes, strict=True):
        if row.image is not None:
            out[..., :height, :width, :] = row.image
    return Batch(
        images=images,
        weights=np.array([row.image is not None for row in rows], np.float32),
        indices=np.array([row.index for row in rows], np.int64),
        skipped={row.index: row.reason for row in rows if row.reason},
        contents={row.index: row.content for row in rows if row.content},
        sizes=sizes,
    )


def _output_sizes(files: Sequence[ImageFile], transform: Transform) -> Iterator[tuple[int, int] | str]:
    """The size of every file after the transform, or why its header is unreadable."""
    if transform.crop is not None:
        yield from itertools.repeat((transform.crop, transform.crop), len(files))
        return

    def sizes(start: int) -> list[tuple[int, int] | str]:
        return [_size(file, transform) for file in files[start : start + _HEADERS_PER_TASK]]

    with ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(sizes, range(0, len(files), _HEADERS_PER_TASK)):
            yield from part


def _size(file: ImageFile, transform: Transform) -> tuple[int, int] | str:
    try:
        return read_size(file, transform)
    except UnreadableImage as error:
        return str(error)


def _too_many_shapes(buckets: dict[tuple[int, int], list[int]], max_shapes: int) -> str:
    largest = sorted(buckets.items(), key=lambda bucket: -len(bucket[1]))[:3]
    examples = ", ".join(f"{height}x{width} ({len(indices)} images)" for (height, width), indices in largest)
    return (
        f"the images have {len(buckets)} different sizes (height x width), the most frequent are {examples}; each size "
        f"needs its own compile, and the limit is {max_shapes}: bring the images to one size with --resize and --crop, "
        f"for example --resize 256 --crop 224, or allow more with --max-shapes {len(buckets)}; predict, "
        "dropout and color also take --pad-to PIXELS"
    )
