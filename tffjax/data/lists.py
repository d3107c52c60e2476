"""Lists of images: a CSV or Parquet file with columns path, label, generator, category."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from tffjax.data.folders import check_regular
from tffjax.data.image_file import ImageFile
from tffjax.data.labels import LABELS
from tffjax.errors import InputError

LIST_SUFFIXES = (".csv", ".parquet")
COLUMNS = ("path", "label", "generator", "category")


@dataclasses.dataclass(frozen=True)
class ListSource:
    """The images that a table names, a row each.

    | column | |
    |---|---|
    | `path` | of the image file; relative ones start at the folder of the list |
    | `label` | `real` or 0, `fake` or 1, or a name that `--labels` gives; empty: unknown. May be missing |
    | `generator`, `category` | any text. May be missing |

    Other columns are not read, so that predictions.csv is a list, too.

    Attributes:
        path: of the list.
        labels: further names of labels.
        generator: take the rows of this generator only; None takes all.
    """

    path: Path
    labels: Mapping[str, Literal[0, 1]]
    generator: str | None = None
    kind: ClassVar[str] = "list"

    def find(self) -> dict[str, ImageFile]:
        """As `tffjax.data.sources.Source`."""
        found: dict[str, ImageFile] = {}
        base = Path(os.path.abspath(self.path.parent))  # noqa: PTH100  resolve() would follow links
        folders: dict[Path, Path] = {}
        for row, (path, label, generator, category) in enumerate(self._rows(), 1):
            if self.generator not in (None, generator):
                continue
            if not path:
                raise InputError(f"{self.path}: row {row} has no path")
            file = ImageFile(self.path.parent / path, self._label(label, row), generator or "", category or "")
            if not file.path.is_file():
                raise InputError(
                    f"{self.path}: row {row} names {path}, which is no file; paths start at the list, in {base}"
                )
            parent = file.path.parent
            if parent not in folders:
                folders[parent] = parent.resolve()
            key = f"{folders[parent]}/{file.path.name}"
            if found.setdefault(key, file) != file:
                raise InputError(f"{self.path}: row {row} names {path} again, with another label or group")
        if not found:
            raise InputError(f"{self.path}: has no rows{f' of {self.generator}' if self.generator else ''}")
        return found

    def _rows(self) -> Iterator[tuple[str | None, ...]]:
        table = _table(self.path)
        if "path" not in table.column_names:
            raise InputError(
                f"{self.path}: no column path among {', '.join(table.column_names) or 'none'}; a list has the columns "
                f"{', '.join(COLUMNS)}, of which only path must be there"
            )
        columns = [
            pc.cast(table[name], pa.string()).to_pylist() if name in table.column_names else [None] * len(table)
            for name in COLUMNS
        ]
        return zip(*columns, strict=True)

    def _label(self, label: str | None, row: int) -> Literal[0, 1] | None:
        if not label:
            return None
        known = {"real": 0, "fake": 1, "0": 0, "1": 1, **self.labels}
        if label not in known:
            raise InputError(
                f"{self.path}: row {row} has the label {label}; write {' or '.join(LABELS)}, or name it with --labels "
                f"real=NAME,fake=NAME"
            )
        return known[label]


def list_source(path: Path, labels: Mapping[str, Literal[0, 1]]) -> ListSource | None:
    """A list, or the rows of a generator in it, `list.csv/GENERATOR`; None of any other path.

    Raises:
        InputError: a list that is no regular file.
    """
    at = next((place for place in (path, *path.parents) if place.suffix.lower() in LIST_SUFFIXES), None)
    if at is None or at.is_dir() or (at != path and not at.is_file()):
        return None
    check_regular(at)
    return ListSource(at, labels, None if at == path else path.relative_to(at).as_posix())


def _table(path: Path) -> pa.Table:
    """The columns of a list that have a meaning, as text."""
    try:
        if path.suffix.lower() == ".parquet":
            present = pyarrow.parquet.read_schema(path).names
            return pyarrow.parquet.read_table(path, columns=[name for name in COLUMNS if name in present] or None)
        text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=True)
        table = pyarrow.csv.read_csv(path, convert_options=text)
        _ = table.column_names  # of which one that is not UTF-8 is found out only here
        return table
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list ({str(error).splitlines()[0]})") from None
