"""Rows of any number of images in Parquet parts of a fixed length: interrupted or not, the files are the same."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
from jaxtyping import Int

from tffjax.data import Batch
from tffjax.errors import InputError
from tffjax.files import replace_file
from tffjax.pipeline.part import Part

ROWS_PER_PART = 1024


class PartWriter:
    """Appends rows to `folder/part-00000.parquet`, `part-00001.parquet`, ...; `save` brings them to the disk.

    The number of rows is the whole state: `truncate` goes back to what was saved then.
    """

    def __init__(self, folder: Path, schema: pa.Schema, rows_per_part: int = ROWS_PER_PART) -> None:
        self._folder, self._schema, self._length = folder, schema, rows_per_part
        self._rows = self._empty()
        self.count = 0
        folder.mkdir(exist_ok=True)
        for leftover in folder.glob(".part-*"):  # of a process that was killed
            leftover.unlink()

    def append(self, rows: pa.Table) -> None:
        """Add rows; full parts are written at once."""
        self._rows = pa.concat_tables([self._rows, rows.cast(self._schema)])
        self.count += len(rows)
        while len(self._rows) >= self._length:
            last = self.count - len(self._rows)
            self._write(last // self._length, self._rows.slice(0, self._length))
            self._rows = self._rows.slice(self._length)

    def save(self) -> None:
        """Write the last, unfinished part."""
        if len(self._rows):
            self._write(self.count // self._length, self._rows)

    def truncate(self, count: int) -> None:
        """Forget the rows behind the first `count`, in memory and on the disk.

        Raises:
            InputError: the last part is missing, damaged or shorter.
        """
        part, rest = divmod(count, self._length)
        self.count = count
        self._rows = self._read(part, rest) if rest else self._empty()
        for path in self._folder.glob("part-*.parquet"):
            if path >= self._path(part + bool(rest)):
                path.unlink()

    def take(self, folder: Path, count: int) -> None:
        """Append the `count` rows that another writer of this schema and length has saved in its folder."""
        if self.count == 0:  # whole files: nothing is decoded
            _link_parts(folder, self._folder)
            self.truncate(count)
            return
        other = PartWriter(folder, self._schema, self._length)
        for part in range(-(-count // self._length)):
            self.append(other._read(part, min(self._length, count - part * self._length)))
        self.save()

    def publish(self, folder: Path) -> None:
        """Make a folder of all parts, which are saved, and nothing else."""
        folder.mkdir()
        _link_parts(self._folder, folder)

    def _read(self, part: int, rows: int) -> pa.Table:
        path = self._path(part)
        try:
            found = pyarrow.parquet.read_table(path, schema=self._schema)
            if len(found) < rows:
                raise ValueError(f"{len(found)} rows of {rows}")
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(f"{path}: missing or damaged ({error}); start this run anew with --overwrite") from None
        return found.slice(0, rows)

    def _empty(self) -> pa.Table:
        return self._schema.empty_table()

    def _path(self, part: int) -> Path:
        return self._folder / f"part-{part:05d}.parquet"

    def _write(self, part: int, rows: pa.Table) -> None:
        with replace_file(self._path(part)) as temporary:
            pyarrow.parquet.write_table(rows.combine_chunks(), temporary)


def _link_parts(source: Path, target: Path) -> None:
    """Parts are never changed in place, so a second name is as good as a copy."""
    for path in sorted(source.glob("part-*.parquet")):
        (target / path.name).unlink(missing_ok=True)
        try:
            os.link(path, target / path.name)
        except OSError:  # a file system without links
            with replace_file(target / path.name) as temporary:
                shutil.copyfile(path, temporary)


class Rows:
    """The sums of a pass that keeps rows only: `make` turns a batch and the outputs of its pass into rows."""

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        make: Callable[[Batch, Any], pa.Table],
        rows_per_part: int = ROWS_PER_PART,
    ) -> None:
        self.folder, self.schema = folder, schema
        self._writer, self._make = PartWriter(folder, schema, rows_per_part), make

    def add(self, batch: Batch, outputs: Any) -> str:
        """Take in a batch."""
        self._writer.append(self._make(batch, outputs))
        return ""

    def state(self) -> dict[str, np.ndarray]:
        """The number of rows, which are on the disk then."""
        self._writer.save()
        return {"rows": np.array(self._writer.count)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Be as when `state` was taken."""
        self._writer.truncate(int(state["rows"]))

    def merge(self, parts: Sequence[Part]) -> None:
        """Be the rows of all parts, in their order."""
        self._writer.truncate(0)
        for part in parts:
            self._writer.take(part.folder, int(part.sums["rows"]))

    def table(self) -> pa.Table:
        """All rows, by the column `index`."""
        return read_parts(self.folder)


def read_parts(folder: Path) -> pa.Table:
    """The rows of all parts, by the column `index`."""
    tables = [pyarrow.parquet.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]
    return pa.concat_tables(tables).sort_by("index")


def map_parts(folder: Path, schema: pa.Schema) -> pa.Table:
    """The rows of all parts, part by part, for rows that are too many for the memory.

    They are copied to one file in the folder, and the table is that file mapped into memory.
    """
    path = folder / "all.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for part in sorted(folder.glob("part-*.parquet")):
            writer.write_table(pyarrow.parquet.read_table(part, schema=schema))
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def rows_in_order(rows: pa.Table, order: Int[np.ndarray, " n"], length: int = 64) -> Iterator[pa.Table]:
    """The rows in this order, `length` at a time: only so many are ever copied."""
    for start in range(0, len(order), length):
        yield pa.concat_tables([rows.slice(i, 1) for i in order[start : start + length].tolist()]).combine_chunks()
