"""What a color run has found for each image: logits and maximal activations before and after ablations."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int, Shaped

from tffjax.data.ablations import ORIGINAL, parse_list
from tffjax.errors import InputError
from tffjax.results.record import identity_of
from tffjax.results.tables import read_table
from tffjax.studies.color.statistics import density_table
from tffjax.studies.predictions import scored


class Samples(NamedTuple):
    """What was found for all images, in their order.

    Attributes:
        names: of the variants: the original, then the ablations.
        generator: of each image.
        label: 1 is fake, 0 real, -1 unknown.
        logits, activations: of each variant and image.
    """

    names: list[str]
    generator: Shaped[np.ndarray, " n"]
    label: Int[np.ndarray, " n"]
    logits: Float[np.ndarray, "v n outputs"]
    activations: Float[np.ndarray, "v n channels"]

    @property
    def asked(self) -> Bool[np.ndarray, " n"]:
        """The images that channels are tested on: fakes, whose features are asked about; all where none is known."""
        fake = self.label == 1
        return fake if fake.any() else np.ones(len(fake), bool)


def samples_of(table: pa.Table, ablations: Sequence[str]) -> Samples:
    """The samples in a run's table per_image, with the names of its ablations."""

    def arrays(column: str) -> np.ndarray:
        flat = table[column].combine_chunks().flatten().to_numpy()
        return np.moveaxis(flat.reshape(len(table), 1 + len(ablations), -1), 1, 0)

    return Samples([ORIGINAL, *ablations], *scored(table), arrays("logits"), arrays("activations"))


def density_panels(
    keys: Sequence[str],
    tests: pa.Table,
    generator: Shaped[np.ndarray, " n"],
    before: Float[np.ndarray, "n channels"],
    after: Float[np.ndarray, "n channels"],
    wanted: Collection[str],
) -> dict[tuple[str, str], tuple[dict[str, Any], pa.Table]]:
    """(key, generator) -> its row of the tests and its densities, for `tffjax.studies.color.figures.density_grid`.

    Args:
        keys: of the channels.
        tests: from `tffjax.studies.color.statistics.channel_table`, of one ablation.
        generator: of each image.
        before, after: maximal activations.
        wanted: keys of the channels that are drawn.
    """
    panels = {}
    for row in tests.to_pylist():
        if row["key"] not in wanted:
            continue
        own, at = generator == row["generator"], keys.index(row["key"])
        panels[row["key"], row["generator"]] = row, density_table(before[own, at], after[own, at])
    return panels


def density_data(panels: dict[tuple[str, str], tuple[dict[str, Any], pa.Table]]) -> pa.Table:
    """All densities in one table, with the columns `key` and `generator` before theirs."""
    parts = []
    for (key, generator), (_, table) in panels.items():
        words = (("key", key), ("generator", generator))
        for place, (name, word) in enumerate(words):
            table = table.add_column(place, name, [[word] * len(table)])
        parts.append(table)
    return pa.concat_tables(parts)


def read_samples(run: str | os.PathLike[str]) -> tuple[Samples, list[str]]:
    """The samples of a finished run of `tffjax color`, and the keys of its channels.

    Raises:
        InputError: it is not one.
    """
    folder = Path(run)
    identity = identity_of(folder, "color")
    ablations = [str(ablation) for text in identity["arguments"]["ablations"] for ablation in parse_list(text)]
    return samples_of(read_table(folder / "per_image"), ablations), identity["channels"]


def place_of(ablation: str, samples: Samples, run: str | os.PathLike[str]) -> int:
    """Which of the variants of a run an ablation is.

    Raises:
        InputError: the run does not have it.
    """
    if ablation not in samples.names[1:]:
        raise InputError(f"{run} has no ablation {ablation}; it has {', '.join(samples.names[1:])}")
    return samples.names.index(ablation, 1)
