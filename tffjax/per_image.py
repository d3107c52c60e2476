"""Rows of any number of images in Parquet parts of a fixed length: interrupted or not, the files are the same."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from tffjax.files import replace_file

ROWS_PER_PART = 1024


class PartWriter:
    """Appends rows to `folder/part-P-00000.parquet`, `part-P-00001.parquet`, ...; `save` brings them to the disk.

    The number of rows is the whole state: `truncate` goes back to what was saved then.
    """

    def __init__(self, folder: Path, process: int, schema: pa.Schema, rows_per_part: int = ROWS_PER_PART) -> None:
        self._folder, self._process, self._schema, self._length = folder, process, schema, rows_per_part
        self._rows = self._empty()
        self.count = 0
        folder.mkdir(exist_ok=True)

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
        """Forget the rows behind the first `count`, in memory and on the disk."""
        part, rest = divmod(count, self._length)
        self.count = count
        self._rows = pyarrow.parquet.read_table(self._path(part)).slice(0, rest) if rest else self._empty()
        for path in self._folder.glob(f"part-{self._process}-*.parquet"):
            if path >= self._path(part + bool(rest)):
                path.unlink()

    def _empty(self) -> pa.Table:
        return self._schema.empty_table()

    def _path(self, part: int) -> Path:
        return self._folder / f"part-{self._process}-{part:05d}.parquet"

    def _write(self, part: int, rows: pa.Table) -> None:
        with replace_file(self._path(part)) as temporary:
            pyarrow.parquet.write_table(rows.combine_chunks(), temporary)
