"""Tables for people and programs: CSV, Parquet and the screen."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.markup import escape
from rich.table import Table


def write_table(table: pa.Table, path: Path) -> None:
    """Write as CSV or Parquet, by the ending of `path`. The same table gives the same bytes."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        pyarrow.csv.write_csv(table, path)


def screen_table(table: pa.Table, title: str, formats: dict[str, str]) -> Table:
    """A table for the screen with the columns in `formats` (name to format specification); NaN is shown as a dash."""
    screen = Table(title=title, title_justify="left")
    for name in formats:
        number = pa.types.is_floating(table[name].type) or pa.types.is_integer(table[name].type)
        screen.add_column(name.replace("_", " "), justify="right" if number else "left")
    for row in table.select(list(formats)).to_pylist():
        screen.add_row(*(escape(_cell(row[name], spec)) for name, spec in formats.items()))
    return screen


def _cell(value: Any, spec: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return format(value, spec)
