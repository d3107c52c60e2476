"""Packed records: images of a data set in a few large files, in their order, without a file open an image.

FOLDER/NNNNN-of-MMMMM.array_record  shards, ArrayRecord (github.com/google/array_record) with one record a group, not
                                    compressed; a record is an image, see `pack_record`
FOLDER/index.parquet                a row a record, as its header, with `shard` and `record`
FOLDER/records.json                 the manifest: names, sizes and SHA-256 of all shards and of the index, and of which
                                    transform the pixels are, or null where the files' own bytes are stored

`tffjax.pipeline.packing` writes them.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from array_record.python.array_record_module import ArrayRecordReader

from tffjax.data.image_file import ImageFile
from tffjax.data.labels import LABELS, label_word
from tffjax.data.preprocessing import Transform, UnreadableImage
from tffjax.errors import InputError
from tffjax.files import from_json, read_text

MANIFEST = "records.json"
INDEX = "index.parquet"
FORMAT = "tffjax-records-1"
OPEN_SHARDS = 64

FIELDS = {
    "name": pa.string(),
    "label": pa.string(),
    "generator": pa.string(),
    "category": pa.string(),
    "num_bytes": pa.int64(),
    "sha256": pa.string(),
    "height": pa.int32(),
    "width": pa.int32(),
    "unreadable": pa.string(),
}
"""Of a record's header. Bytes are those of the image file; the hash is that of what is stored; height and width are of
the image as stored, upright, and null where that cannot be read; `unreadable` says why there are no pixels."""

SCHEMA = pa.schema({**FIELDS, "shard": pa.int32(), "record": pa.int32()})


def pack_record(header: Mapping[str, Any], content: bytes) -> bytes:
    """A record: the length of the header in 4 bytes, little end first, the header as JSON, the content.

    The content is the image file as it is, or the pixels, uint8 (height, width, 3).
    """
    text = json.dumps(header, separators=(",", ":")).encode()
    return len(text).to_bytes(4, "little") + text + content


def unpack_record(record: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and content of a record.

    Raises:
        ValueError: it is not a record.
    """
    end = 4 + int.from_bytes(record[:4], "little")
    return from_json(record[4:end]), record[end:]


def header_of(name: str, file: ImageFile, content: bytes, size: tuple[int, int] | None, unreadable: str | None) -> dict:
    """The header of a record; see `FIELDS`."""
    height, width = size or (None, None)
    label = label_word(file.label)
    digest = hashlib.sha256(content).hexdigest()
    values = (name, label, file.generator, file.category, file.num_bytes, digest, height, width, unreadable)
    return dict(zip(FIELDS, values, strict=True))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `records.json` says.

    Attributes:
        images: how many.
        pixels: the transform of which pixels are stored; None: the files' own bytes.
        shards: of each its `name`, `records`, `bytes` and `sha256`.
        index_sha256: of the index.
    """

    images: int
    pixels: Transform | None
    shards: tuple[dict[str, Any], ...]
    index_sha256: str

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of packed records.

    Raises:
        InputError: there is none, it is damaged or of another version.
    """
    path = folder / MANIFEST
    try:
        values = from_json(read_text(path))
        if (form := values.pop("format")) != FORMAT:
            raise InputError(f"{path}: of format {form}, and this version reads {FORMAT}; pack the images again")
        pixels = values.pop("pixels")
        return Manifest(pixels=pixels and Transform(**pixels), shards=tuple(values.pop("shards")), **values)
    except FileNotFoundError:
        raise InputError(f"{folder} holds no packed records: it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({error}); pack the images again") from None


class Shards:
    """The records of a folder, at random; the last `OPEN_SHARDS` shards are kept open."""

    def __init__(self, folder: Path, shards: Sequence[Mapping[str, Any]]) -> None:
        """`shards` as in the manifest."""
        self.folder, self.shards = folder, tuple(shards)
        self._reader = functools.lru_cache(OPEN_SHARDS)(self._open)

    def _open(self, shard: int) -> ArrayRecordReader:
        path, wanted = self.folder / self.shards[shard]["name"], self.shards[shard]["records"]
        try:
            reader = ArrayRecordReader(
                str(path), "readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=1 << 15
            )
            if reader.num_records() != wanted:
                raise ValueError(f"it holds {reader.num_records()} records, not {wanted}")
        except Exception as error:  # RuntimeError, ValueError: what the C++ side says
            raise InputError(f"{path}: damaged ({_line(error)}); see what is lost with tffjax pack --verify") from None
        return reader

    def read(self, shard: int, record: int) -> tuple[dict[str, Any], bytes]:
        """Header and content of a record.

        Raises:
            UnreadableImage: the record is damaged.
            InputError: the shard is.
        """
        reader = self._reader(shard)
        try:
            return unpack_record(reader.read([record])[0])
        except Exception as error:
            name = self.shards[shard]["name"]
            raise UnreadableImage(f"record {record} of {name} is damaged ({_line(error)})") from None


@dataclasses.dataclass(frozen=True, slots=True)
class StoredRecord:
    """As `tffjax.data.image_file.Stored`."""

    shards: Shards
    shard: int
    record: int
    name: str
    num_bytes: int
    size: tuple[int, int] | None
    pixels: Transform | None
    sha256: str
    unreadable: str | None

    def read(self) -> bytes | np.ndarray:
        """As `tffjax.data.image_file.Stored`."""
        path = self.shards.folder / self.name
        if self.unreadable is not None:
            raise UnreadableImage(f"{path}: {self.unreadable}")
        try:
            content = self.shards.read(self.shard, self.record)[1]
        except UnreadableImage as error:
            raise UnreadableImage(f"{path}: {error}") from None
        return content if self.pixels is None else np.frombuffer(content, np.uint8).reshape(*self.size, 3)


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """Packed records, or those of them whose names begin with `below`, as if the names were paths in the folder.

    Attributes:
        folder: with the manifest.
        below: a generator's folder or the like, `.` for all.
    """

    folder: Path
    below: PurePosixPath
    kind: ClassVar[str] = "records"

    def find(self) -> dict[str, ImageFile]:
        """As `tffjax.data.sources.Source`."""
        manifest = read_manifest(self.folder)
        _check_shards(self.folder, manifest)
        shards = Shards(self.folder, manifest.shards)
        real, found = self.folder.resolve(), dict[str, ImageFile]()
        below = "" if self.below == PurePosixPath(".") else f"{self.below}/"
        for row in read_index(self.folder, manifest).to_pylist():
            if not f"{row['name']}/".startswith(below):
                continue
            size = None if row["height"] is None else (row["height"], row["width"])
            place = (shards, row["shard"], row["record"], row["name"], row["num_bytes"], size)
            stored = StoredRecord(*place, manifest.pixels, row["sha256"], row["unreadable"])
            label = None if row["label"] is None else LABELS.index(row["label"])
            path = self.folder / row["name"]
            found[f"{real}/{row['name']}"] = ImageFile(path, label, row["generator"], row["category"], stored)
        if not found:
            raise InputError(f"{self.folder / self.below}: no such file or folder, nor such images among the records")
        return found


def record_source(path: Path) -> RecordSource | None:
    """The records of a folder, or those below a name in it; None if the path is something else."""
    if path.is_dir():
        return RecordSource(path, PurePosixPath(".")) if (path / MANIFEST).is_file() else None
    if path.exists():
        return None
    for folder in path.parents:
        if folder.exists():
            is_packed = (folder / MANIFEST).is_file()
            return RecordSource(folder, PurePosixPath(path.relative_to(folder).as_posix())) if is_packed else None
    return None


def read_index(folder: Path, manifest: Manifest) -> pa.Table:
    """The index.

    Raises:
        InputError: it is missing or damaged.
    """
    path = folder / INDEX
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; pack the images again") from None
    if hashlib.sha256(content).hexdigest() != manifest.index_sha256:
        raise InputError(f"{path}: damaged, for its SHA-256 is not that of {MANIFEST}; pack the images again")
    return pyarrow.parquet.read_table(pa.BufferReader(content))


def _check_shards(folder: Path, manifest: Manifest) -> None:
    for shard in manifest.shards:
        path = folder / shard["name"]
        size = path.stat().st_size if path.is_file() else None
        if size != shard["bytes"]:
            state = "missing" if size is None else f"has {size} bytes, not {shard['bytes']}"
            raise InputError(f"{path}: {state}; copy it again, or pack the images again")


def _line(error: Exception) -> str:
    return str(error).split(";")[0].strip() or type(error).__name__
