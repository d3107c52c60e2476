"""What the pipeline asks of a study."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from tffjax.data import Batch, Variant
from tffjax.pipeline.images import Images
from tffjax.pipeline.part import Part
from tffjax.pipeline.reporter import Reporter


@runtime_checkable
class Sums(Protocol):
    """What a pass keeps from batch to batch."""

    def add(self, batch: Batch, outputs: Any) -> str:
        """Take in a batch; returns a word on how it goes, for the progress bar."""

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays; files are on the disk then."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Be as when `state` was taken."""

    def merge(self, parts: Sequence[Part]) -> None:
        """Be the sums of all parts, which come in the order of their batches. However the batches were dealt out to
        the parts, the result is the same."""


@dataclasses.dataclass(frozen=True)
class Pass:
    """One way through the images.

    Attributes:
        title: for the progress bar.
        sums: makes the sums, with nothing in them; the folder is for files that they keep.
        start: called before the first batch, once the pass is known to have one left: compiles, and returns what turns
            a batch into outputs.
        only: indices of the images to go through; None is all.
        variants: as in `tffjax.data.batches`.
    """

    title: str
    sums: Callable[[Path], Sums]
    start: Callable[[Reporter], Callable[[Batch], Any]]
    only: Collection[int] | None = None
    variants: Sequence[Variant] = ()


class Ended(NamedTuple):
    """A pass that has been through all images: its sums, and why files were skipped, by their index."""

    sums: Any
    skipped: dict[int, str]


@runtime_checkable
class Study(Protocol):
    """A study over many images, for `tffjax.pipeline.run`.

    Attributes:
        name: of its command.
    """

    name: str

    def identity(self) -> dict[str, Any]:
        """What the result depends on, besides the images and how they are read: `arguments`, a dictionary from which
        the study can be made again, and what else there is, such as hashes of weights. Must go through JSON."""

    def plan(self, images: Images) -> str:
        """What would be done, in a line.

        Raises:
            InputError: it cannot be done on these images.
        """

    def next_pass(self, images: Images, ended: Sequence[Ended]) -> Pass | None:
        """The pass that comes after those that have ended; None if there is none. It depends on nothing else."""

    def finish(self, images: Images, ended: Sequence[Ended], folder: Path) -> dict[str, Any]:
        """Write tables and figures into a folder; returns the results for run.json."""

    def say(self, images: Images, results: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        """Tell what was found, from the results and the tables in the run directory."""
