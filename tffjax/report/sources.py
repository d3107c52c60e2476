"""The folders a report is made from: which there are, and how their tables are read."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tffjax.errors import InputError
from tffjax.files import RECORD
from tffjax.results.record import read_record
from tffjax.results.tables import has_table, read_table

COMMANDS = ("rank", "dropout", "find-k", "lrpmax", "color", "generator")
HEATMAP = "heatmap"


@dataclasses.dataclass(frozen=True)
class Source:
    """A finished run directory, or a folder of `tffjax heatmap`.

    Attributes:
        path: of the folder.
        command: that wrote it.
        record: run.json; empty for a folder of heatmaps that has none.
    """

    path: Path
    command: str
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name or str(self.path)

    @property
    def weights(self) -> dict[str, Any]:
        """The card of the network."""
        return self.record["identity"]["weights"]

    @property
    def arguments(self) -> dict[str, Any]:
        """The options that the result depends on."""
        return self.record["identity"]["arguments"]

    @property
    def results(self) -> dict[str, Any]:
        """What run.json says about the outcome."""
        return self.record["results"]

    def has(self, name: str) -> bool:
        """Whether the run wrote such a table; which ones depends on its options and images."""
        return has_table(self._table(name))

    def file(self, name: str) -> Path:
        """One of its files.

        Raises:
            InputError: a link that leads out of the folder.
        """
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise InputError(f"{path}: a link out of the folder; only its own files are shown")
        return path

    def table(self, name: str) -> pa.Table:
        """One of its tables.

        Raises:
            InputError: it is missing or damaged.
        """
        return read_table(self._table(name))

    def _table(self, name: str) -> Path:
        self.file(f"{name}.parquet")
        return self.path / name


def read_sources(paths: Sequence[Path]) -> list[Source]:
    """The folders in the order given, checked.

    Raises:
        InputError: a folder is not one, is unfinished, of a command that has no place in a report, or given twice; the
            runs are of different networks.
    """
    sources = [_source(path) for path in paths]
    places = [source.path.resolve() for source in sources]
    if len(set(places)) < len(places):
        twice = next(place for i, place in enumerate(places) if place in places[:i])
        raise InputError(f"{twice} is given twice")
    first, *others = [source for source in sources if source.record] or [None]
    for other in others:
        if other.weights["weights_sha256"] != first.weights["weights_sha256"]:
            raise InputError(
                f"{first.path} and {other.path} are runs of different networks ({_network(first)} and "
                f"{_network(other)}); make a report of each"
            )
    return sources


def _source(path: Path) -> Source:
    if not path.is_dir():
        raise InputError(f"{path}: no such run directory")
    if not (path / RECORD).exists() and (path / "contact_sheet_1.png").is_file():
        return Source(path, HEATMAP, {})
    record = read_record(path)
    command = record["command"]
    if command not in (*COMMANDS, HEATMAP):
        raise InputError(f"{path} is a run of tffjax {command}; a report shows {', '.join(COMMANDS)} and {HEATMAP}")
    if "results" not in record:
        raise InputError(f"{path} is not finished; go on with: tffjax {command} --resume {path}")
    return Source(path, command, record)


def _network(source: Source) -> str:
    return source.weights["source"] or source.weights["architecture"]
