"""FF-RS from batch to batch: what `tffjax rank` keeps while images stream by; see `statistic` for the numbers."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from tffjax.data import Batch, ImageFile
from tffjax.errors import InputError
from tffjax.nn.card import Card
from tffjax.pipeline.part import Part
from tffjax.pipeline.parts import PartWriter
from tffjax.studies.ffrs.bootstrap import image_keys
from tffjax.studies.ffrs.statistic import Design, Shares, Totals, is_confident
from tffjax.studies.ffrs.target import Target, explained_outputs
from tffjax.studies.predictions import class_probability, fake_probability


class FFRSSums:
    """Totals and, with a writer, the rows of every image."""

    def __init__(
        self,
        design: Design,
        sites: Sequence[str],
        files: Sequence[ImageFile],
        names: Sequence[str],
        labels: Sequence[int],
        card: Card,
        confidence: float,
        writer: PartWriter | None = None,
        target: Target = None,
        classes: Int[np.ndarray, " files"] | None = None,
    ) -> None:
        """`names` identify the images (`bootstrap`), `labels` are places in `Design.labels`; see `statistic`.

        `classes` are the outputs that the target `label` explains, by file.
        """
        self.design, self.totals = design, Totals.zero(design)
        self._sites, self._files, self._names, self._card = sites, files, names, card
        self._keys, self._labels = image_keys(names), np.array(labels, np.int64)
        self._confidence, self._writer, self._target, self._classes = confidence, writer, target, classes

    def add(self, batch: Batch, outputs: Shares) -> str:
        """Take in a batch; a word on how many images are kept.

        Raises:
            InputError: a logit or a relevance is not finite.
        """
        present = np.flatnonzero(batch.weights > 0)
        indices = batch.indices[present]
        logits, shares, totals = (values[present] for values in outputs)
        files = [self._files[index] for index in indices]
        self._check_finite(files, logits, totals)
        labels = self._labels[indices]
        if self._target is None:
            outputs, probability = np.zeros(len(files), np.int64), fake_probability(logits[:, 0], self._card)
            kept = is_confident(probability, labels == 1, self._confidence)
        else:
            classes = None if self._classes is None else self._classes[indices]
            outputs = explained_outputs(logits, self._target, classes)
            probability = class_probability(logits, outputs)
            kept = probability >= self._confidence
        generators, categories = [file.generator for file in files], [file.category for file in files]
        self.totals.add(shares, totals, self.design.weights(generators, categories, self._keys[indices]), labels, kept)
        if self._writer:
            who = [[self._names[index] for index in indices], generators, categories]
            words = [*who, [self.design.labels[label] for label in labels]]
            lists = pa.FixedSizeListArray.from_arrays(shares.reshape(-1), shares.shape[1])
            logit = logits[np.arange(len(files)), outputs].astype(np.float32)
            chosen = [] if self._target is None else [outputs]
            chosen += [self._card.names_of(outputs)] if chosen and self._card.class_names else []
            columns = [*words, *chosen, logit, probability, kept, lists]
            self._writer.append(pa.table(columns, schema=row_schema(self.design, self._target, self._card)))
        keep, drop = self.totals.images[:, 0].sum(axis=0)
        return f"kept {keep}, dropped {drop}"

    def _check_finite(self, files: Sequence[ImageFile], logits: np.ndarray, totals: np.ndarray) -> None:
        bad = ~(np.isfinite(logits).all(axis=1) & np.isfinite(totals).all(axis=1))
        if bad.any():
            row = int(bad.argmax())
            sites = (site for site, total in zip(self._sites, totals[row], strict=True) if not np.isfinite(total))
            where = next(sites, "the logit")
            raise InputError(f"NaN or infinity at {where} for {files[row].path}; see where it comes from: tffjax check")

    def write_rows(self, folder: Path) -> None:
        """Make a folder of the rows of every image, which are saved."""
        self._writer.publish(folder)

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays."""
        if self._writer:
            self._writer.save()
        return {**vars(self.totals), "rows": np.array(self._writer.count if self._writer else 0)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Be as when `state` was taken."""
        self.totals = _totals(state)
        if self._writer:
            self._writer.truncate(int(state["rows"]))

    def merge(self, parts: Sequence[Part]) -> None:
        """Be the sums of all parts, with their rows in the order of the parts."""
        self.totals = functools.reduce(Totals.merge, (_totals(part.sums) for part in parts))
        if self._writer:
            self._writer.truncate(0)
            for part in parts:
                self._writer.take(part.folder, int(part.sums["rows"]))


def _totals(state: dict[str, np.ndarray]) -> Totals:
    return Totals(**{field.name: state[field.name].copy() for field in dataclasses.fields(Totals)})


def row_schema(design: Design, target: Target, card: Card) -> pa.Schema:
    """Columns of the rows of every image; `shares` has one number a channel, in the order of `statistic`.

    With a target, `output` is the explained output, and `class` its name where the card knows it; `logit` and
    `probability` are its own.
    """
    words = [pa.field(name, pa.string()) for name in ("path", "generator", "category", "label")]
    numbers = [pa.field("logit", pa.float32()), pa.field("probability", pa.float64()), pa.field("kept", pa.bool_())]
    output = [] if target is None else [pa.field("output", pa.int64())]
    output += [pa.field("class", pa.string())] if output and card.class_names else []
    return pa.schema([*words, *output, *numbers, pa.field("shares", pa.list_(pa.float32(), sum(design.site_channels)))])
