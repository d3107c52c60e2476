"""The images of a generator as those of a study: each is a number, from which its latent is drawn."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tffjax.data import Batch, BatchPlan, ImageFile, Plan
from tffjax.data.preprocessing import Transform
from tffjax.nn.generator import Generator, draw_latents
from tffjax.pipeline.images import Images, default_batch_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples(Images):
    """Images that are not read, but made.

    Attributes:
        generator: makes them.
        seed: of their latents.
    """

    generator: Generator
    seed: int

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Which generator, and which latents."""
        card = self.generator.card
        return {"count": len(self.files), "seed": self.seed, "generator": card.name, "weights": card.weights_sha256}

    @property
    def read(self) -> Callable[..., Iterator[Batch]]:
        """Batches that hold no pixels: `indices` say which latents."""
        return _batches

    def latents(self, batch: Batch) -> np.ndarray:
        """The latents of a batch; rows of padding have that of image 0."""
        return draw_latents(self.seed, np.maximum(batch.indices, 0), self.generator.card.latent)


def samples_of(generator: Generator, count: int, seed: int, batch_size: int | None) -> Samples:
    """`count` images of a generator, all fake."""
    batch_size = min(batch_size or default_batch_size(), count)
    names = tuple(f"{seed}/{index:06}" for index in range(count))
    files = tuple(ImageFile(Path(f"{name}.png"), 1, generator.card.name) for name in names)
    size = (generator.card.size, generator.card.size)
    parts = (tuple(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size))
    plan = Plan(tuple(BatchPlan(size, part) for part in parts), {})
    return Samples(files, names, Transform(), batch_size, plan, generator=generator, seed=seed)


def _batches(
    plan: Plan, files: Sequence[ImageFile], transform: Transform, batch_size: int, variants: Sequence[Any] = ()
) -> Iterator[Batch]:
    for batch in plan.batches:
        indices = np.full(batch_size, -1, np.int64)
        indices[: len(batch.indices)] = batch.indices
        yield Batch(np.zeros((batch_size, 0, 0, 3), np.uint8), (indices >= 0).astype(np.float32), indices, {})
