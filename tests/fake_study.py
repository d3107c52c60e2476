"""A study in NumPy, to try the pipeline: two passes, sums, rows, and no network."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tffjax.data import Batch
from tffjax.errors import InputError
from tffjax.pipeline.images import Images
from tffjax.pipeline.part import Part
from tffjax.pipeline.parts import Rows
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.study import Ended, Pass
from tffjax.results.tables import write_table

SCHEMA = pa.schema([("index", pa.int64()), ("mean", pa.float64())])


class Total:
    """The sum of all pixels and their number, in whole numbers."""

    def __init__(self) -> None:
        self.numbers = np.zeros(2, np.int64)

    def add(self, batch: Batch, outputs: np.ndarray) -> str:
        present = batch.weights > 0
        self.numbers += [outputs[present].sum(), present.sum()]
        return f"{self.numbers[1]} images"

    def state(self) -> dict[str, np.ndarray]:
        return {"numbers": self.numbers.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.numbers = state["numbers"].copy()

    def merge(self, parts: Sequence[Part]) -> None:
        self.numbers = np.sum([part.sums["numbers"] for part in parts], axis=0)


@dataclasses.dataclass(frozen=True)
class FakeStudy:
    """The mean brightness of all images, then how far each image of label `label` is from it."""

    label: int | None = None
    scale: float = 1.0
    weights: str = "abc"
    name: str = "fake"

    def identity(self) -> dict[str, Any]:
        return {"arguments": {"label": self.label, "scale": self.scale}, "weights": self.weights}

    def plan(self, images: Images) -> str:
        if not self._chosen(images):
            raise InputError(f"no image has the label {self.label}")
        return f"measure {images.total} images"

    def _chosen(self, images: Images) -> list[int]:
        return [i for i, file in enumerate(images.files) if self.label is None or file.label == self.label]

    def next_pass(self, images: Images, ended: Sequence[Ended]) -> Pass | None:
        if not ended:
            return Pass("summing", lambda folder: Total(), lambda reporter: self._brightness)
        if len(ended) > 1:
            return None
        total, count = ended[0].sums.numbers

        def rows(batch: Batch, outputs: np.ndarray) -> pa.Table:
            present, who = images.rows(batch)
            means = self.scale * (outputs[present] / batch.images[0].size - total / count / batch.images[0].size)
            return pa.table([who["index"], means], schema=SCHEMA)

        return Pass(
            "comparing",
            lambda folder: Rows(folder, SCHEMA, rows, rows_per_part=3),
            lambda reporter: self._brightness,
            only=set(self._chosen(images)),
        )

    @staticmethod
    def _brightness(batch: Batch) -> np.ndarray:
        return batch.images.astype(np.int64).sum(axis=(1, 2, 3))

    def finish(self, images: Images, ended: Sequence[Ended], folder: Path) -> dict[str, Any]:
        table = ended[1].sums.table()
        write_table(table, folder / "means")
        return {"images": len(table), "total": int(ended[0].sums.numbers[0])}

    def say(self, images: Images, results: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        reporter.say(f"{results['images']} images; results in {folder}")
