"""Training images in batches, the same ones for the same seed, epoch and batch; and which images are left to validate.

Batch b of epoch e depends on the files, the seed, e and b only, so an interrupted training goes on with what it would
have seen.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import grain
import numpy as np
from jaxtyping import Float32

from tffjax.data.augmentations import Augmentation
from tffjax.data.image_file import ImageFile
from tffjax.data.loading import THREADS
from tffjax.data.preprocessing import Transform, UnreadableImage, normalize
from tffjax.data.reading import check_stored, read
from tffjax.errors import InputError
from tffjax.nn.card import Normalization

_ORDER, _AUGMENTATION = 0, 1  # keep the two kinds of random numbers apart

TrainingBatch = tuple[Float32[np.ndarray, "n h w 3"], Float32[np.ndarray, " n"]]


@dataclasses.dataclass(frozen=True)
class TrainingImages:
    """Labeled images, shuffled and augmented anew in every epoch.

    The images that do not fill a batch at the end of an epoch are left out of that epoch. An unreadable file is
    replaced by the next readable one in the list.

    Attributes:
        files: all of them labeled.
        augmentation: of each image.
        normalization: of the network.
        batch_size: images a batch.
        seed: of order and augmentations.
        workers: images prepared at a time.

    Raises:
        InputError: images without a label, only one label, fewer images than a batch takes, or stored pixels that were
            not resized as the augmentation does.
    """

    files: tuple[ImageFile, ...]
    augmentation: Augmentation
    normalization: Normalization
    batch_size: int
    seed: int
    workers: int = THREADS

    def __post_init__(self) -> None:
        """Refuse what cannot be trained on."""
        check_labels(self.files, "training")
        check_stored(self.files, Transform(self.augmentation.load_size))
        if len(self.files) < self.batch_size:
            raise InputError(
                f"{len(self.files)} training images do not fill a batch of {self.batch_size}; take a smaller "
                "--batch-size"
            )

    @property
    def batches(self) -> int:
        """Number of batches of an epoch."""
        return len(self.files) // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:
        """Normalized images (n, crop, crop, 3) and labels (n,), 1 for fake, of the batches from `start` on.

        While one batch is used the next is prepared, by `workers` threads.

        Raises:
            InputError: an image is smaller than the crop, or all are unreadable.
        """
        order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(len(self.files))
        rows = order[start * self.batch_size : self.batches * self.batch_size].tolist()
        options = grain.ReadOptions(num_threads=self.workers, prefetch_buffer_size=max(self.batch_size, self.workers))
        images = grain.MapDataset.source(rows).map(lambda index: self.image(epoch, index)).to_iter_dataset(options)
        yield from images.batch(self.batch_size)

    def image(self, epoch: int, index: int) -> tuple[Float32[np.ndarray, "h w 3"], np.float32]:
        """One image as this epoch sees it, and its label."""
        rng = np.random.default_rng([self.seed, _AUGMENTATION, epoch, index])
        reason = ""
        for other in range(len(self.files)):
            file = self.files[(index + other) % len(self.files)]
            try:
                pixels = read(file, Transform(self.augmentation.load_size))
            except UnreadableImage as error:
                reason = reason or str(error)
                continue
            try:
                return normalize(self.augmentation(pixels, rng), self.normalization), np.float32(file.label)
            except InputError as error:
                raise InputError(f"{file.path}: {error}") from None
        raise InputError(f"none of the training images can be read: {reason}")


def split(
    files: Sequence[ImageFile], share: float, seed: int = 0
) -> tuple[tuple[ImageFile, ...], tuple[ImageFile, ...]]:
    """Training and validation files: of each label of each generator the given share, drawn at random, validates.

    Of two images or more, one at least validates and one at least is trained on; a single one is trained on.
    Images that belong together (one photograph, one video) may come apart; keep those in folders of their own.

    Raises:
        InputError: a share outside of (0, 1); there are too few images of a label to validate on one.
    """
    if not 0 < share < 1:
        raise InputError(f"the share of validation images must be between 0 and 1, got {share}")
    groups: dict[tuple[str, int | None], list[int]] = {}
    for index, file in enumerate(files):
        groups.setdefault((file.generator, file.label), []).append(index)
    chosen: set[int] = set()
    for number, members in enumerate(groups.values()):
        order = np.random.default_rng([seed, number]).permutation(len(members))
        count = min(max(1, round(share * len(members))), len(members) - 1)
        chosen.update(members[i] for i in order[:count])
    if {files[index].label for index in chosen} != {file.label for file in files}:
        raise InputError(
            f"{len(files)} images are too few to train on some and validate on others: take more of each label, or "
            "give others with --validation DIR"
        )
    parts: tuple[list[ImageFile], list[ImageFile]] = ([], [])
    for index, file in enumerate(files):
        parts[index in chosen].append(file)
    return tuple(parts[0]), tuple(parts[1])


def check_labels(files: Sequence[ImageFile], what: str) -> None:
    """Raise an InputError unless every file is labeled and both labels occur."""
    labels = [file.label for file in files]
    if None in labels:
        raise InputError(
            f"{labels.count(None)} of {len(labels)} {what} images have no label (no folder 0_real or 1_fake above "
            f"them), the first is {files[labels.index(None)].path}"
        )
    for label, name in ((0, "real"), (1, "fake")):
        if label not in labels:
            raise InputError(f"there is no {name} image among the {len(labels)} {what} images")
