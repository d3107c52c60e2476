"""The results of a finished run, for Python and notebooks."""

import base64
import dataclasses
import html
from pathlib import Path
from typing import Any

import pyarrow as pa

from tffjax.errors import InputError
from tffjax.results.record import read_record
from tffjax.results.tables import has_table, read_table

_SHOWN_ROWS, _SHOWN_FIGURES = 5, 4


@dataclasses.dataclass(frozen=True, repr=False)
class RunResult:
    """A run directory: its tables as Arrow tables (`.to_pandas()` where pandas is installed), figures as PNG files.

    Attributes:
        folder: the run directory.
    """

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says: what was asked of which weights and images, versions, results."""
        return read_record(self.folder)

    @property
    def summary(self) -> dict[str, Any]:
        """The study's numbers for the whole run."""
        return self.record["results"]

    @property
    def tables(self) -> tuple[str, ...]:
        """Names for `table`."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.parquet")))

    @property
    def figures(self) -> tuple[Path, ...]:
        """The PNG files."""
        return tuple(sorted(self.folder.glob("*.png")))

    def table(self, name: str) -> pa.Table:
        """A table in full precision, by the name of its file without ending.

        Raises:
            InputError: there is none of this name, or it is damaged.
        """
        if not self.has(name):
            raise InputError(f"{self.folder} has no table {name!r}; there are {', '.join(self.tables) or 'none'}")
        return read_table(self.folder / name)

    def has(self, name: str) -> bool:
        """Whether the run wrote such a table; which ones depends on its options and images."""
        return has_table(self.folder / name)

    def __repr__(self) -> str:
        return f"RunResult({self.record['command']}, {str(self.folder)!r}, tables={self.tables})"

    def _repr_html_(self) -> str:
        """The run in a notebook: its numbers, first rows of its tables, first figures."""
        parts = [f"<h4>tffjax {self.record['command']}: {html.escape(str(self.folder))}</h4>"]
        parts.append(_html_table([{"": name, "value": value} for name, value in self.summary.items()]))
        for name in self.tables:
            table = self.table(name)
            narrow = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
            parts.append(f"<h5>{html.escape(name)}: {len(table)} rows</h5>")
            parts.append(_html_table(table.select(narrow).slice(0, _SHOWN_ROWS).to_pylist()))
        for path in self.figures[:_SHOWN_FIGURES]:
            code = base64.b64encode(path.read_bytes()).decode()
            parts.append(f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{code}" width="600">')
        return "\n".join(parts)


def _html_table(rows: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in (rows[0] if rows else ()))
    body = ("".join(f"<td>{html.escape(_cell(value))}</td>" for value in row.values()) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table>"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
