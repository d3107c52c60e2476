"""The sums of the study's first pass: FF-RS of the generator's channels, and a row for every image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tffjax.data import Batch
from tffjax.nn.card import Card
from tffjax.pipeline.part import Part
from tffjax.pipeline.parts import Rows
from tffjax.studies.ffrs.statistic import Design
from tffjax.studies.ffrs.sums import FFRSSums
from tffjax.studies.generator.passes import Explained
from tffjax.studies.generator.samples import Samples

_NUMBERS = ("logit", "logit_unclamped", "logit_saved", "clamped")


class RankingSums:
    """FF-RS over all images, whatever the detector says of them, and the rows."""

    def __init__(self, design: Design, images: Samples, card: Card, folder: Path) -> None:
        """`card` is the detector's."""
        sites = [site.name for site in images.generator.sites]
        labels = [1] * len(images.files)
        self.ffrs = FFRSSums(design, sites, images.files, images.names, labels, card, confidence=0.0)
        numbers = [(name, pa.float32()) for name in _NUMBERS]
        schema = pa.schema([("index", pa.int64()), *numbers, ("net", pa.list_(pa.float32(), len(sites)))])
        self.rows = Rows(folder, schema, _rows)

    def add(self, batch: Batch, outputs: Explained) -> str:
        """Take in a batch."""
        self.ffrs.add(batch, outputs.shares)
        return self.rows.add(batch, outputs)

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays."""
        ours = {f"rows_{name}": array for name, array in self.rows.state().items()}
        return {**self.ffrs.state(), **ours}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Be as when `state` was taken."""
        self.ffrs.restore(state)
        self.rows.restore(_of_rows(state))

    def merge(self, parts: Sequence[Part]) -> None:
        """Be the sums of all parts."""
        self.ffrs.merge(parts)
        self.rows.merge([Part(_of_rows(part.sums), part.folder) for part in parts])


def _of_rows(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix("rows_"): array for name, array in state.items() if name.startswith("rows_")}


def _rows(batch: Batch, found: Explained) -> pa.Table:
    present = np.flatnonzero(batch.weights > 0)
    numbers = (found.shares.logits[:, 0], found.unclamped, found.saved, found.clamped)
    columns = {name: values[present] for name, values in zip(_NUMBERS, numbers, strict=True)}
    net = pa.FixedSizeListArray.from_arrays(found.net[present].reshape(-1), found.net.shape[1])
    return pa.table({"index": batch.indices[present], **columns, "net": net})
