"""Tables for people and programs: CSV with rounded decimals, Parquet in full precision, the screen."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.markup import escape
from rich.table import Table

from tffjax.errors import InputError
from tffjax.files import printable, replace_file
from tffjax.results.decimals import rounded


def write_table(table: pa.Table, path: Path) -> None:
    """Write `path`.parquet, in full precision for programs, and `path`.csv, rounded for people.

    Each is written whole or not at all. The same table gives the same bytes.
    """
    write_parquet(table, path)
    with replace_file(_file(path, "csv")) as temporary:
        pyarrow.csv.write_csv(rounded(table), temporary)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write `path`.parquet only, of tables that are too large or too nested for people, whole or not at all."""
    with replace_file(_file(path, "parquet")) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def has_table(path: Path) -> bool:
    """Whether there is `path`.parquet."""
    return _file(path, "parquet").is_file()


def read_table(path: Path) -> pa.Table:
    """Read `path`.parquet.

    Raises:
        InputError: it is missing or damaged.
    """
    file = _file(path, "parquet")
    try:
        return pyarrow.parquet.read_table(file)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if file.is_file() else "no such file"
        raise InputError(f"{file}: cannot be read ({reason}); run the command again that wrote it") from None


def screen_table(table: pa.Table, title: str, formats: dict[str, str]) -> Table:
    """A table for the screen with the columns in `formats` (name to format specification); NaN is shown as a dash."""
    screen = Table(title=title, title_justify="left")
    for name in formats:
        number = pa.types.is_floating(table[name].type) or pa.types.is_integer(table[name].type)
        screen.add_column(name.replace("_", " "), justify="right" if number else "left")
    for row in table.select(list(formats)).to_pylist():
        screen.add_row(*(escape(printable(_cell(row[name], spec))) for name, spec in formats.items()))
    return screen


def _file(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")  # names of ablations hold dots


def _cell(value: Any, spec: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return format(value, spec)
