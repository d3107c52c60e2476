"""Packs a data set into records (`tffjax.data.records`): several shards at a time, gone on with, checked."""

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from array_record.python.array_record_module import ArrayRecordWriter

from tffjax.data import ImageFile, find, fingerprint, label_warning, relative_names
from tffjax.data.content import Content
from tffjax.data.preprocessing import Transform, UnreadableImage
from tffjax.data.reading import check_stored, in_words, read_known, read_size, stamp_of
from tffjax.data.records import (
    INDEX,
    MANIFEST,
    SCHEMA,
    Manifest,
    Shards,
    header_of,
    pack_record,
    read_index,
    read_manifest,
)
from tffjax.errors import InputError
from tffjax.files import replace_file, sha256_of
from tffjax.pipeline import directory
from tffjax.pipeline.contents import Contents
from tffjax.pipeline.directory import Run
from tffjax.pipeline.passes import resumable
from tffjax.pipeline.provenance import run_record
from tffjax.pipeline.reporter import Lines, Reporter

SHARD_IMAGES = 512
WRITER = "group_size:1,uncompressed,max_parallelism:1"
"""A group a record, so that damage stays in one; images are compressed already."""


@dataclasses.dataclass(frozen=True)
class Packing:
    """What is packed how; the records depend on nothing else.

    Attributes:
        data: images, folders, lists, records, TFDS.
        pixels: store the pixels after this transform; None stores the files' own bytes.
        labels: as of `tffjax.data.find`.
        shard_images: records a shard.
    """

    data: tuple[Path, ...]
    pixels: Transform | None = None
    labels: str | None = None
    shard_images: int = SHARD_IMAGES


def pack(
    packing: Packing, out: Path, workers: int, overwrite: bool = False, reporter: Reporter | None = None
) -> Manifest:
    """Write the records; where `out` holds an interrupted run of the same packing, go on with it.

    Args:
        packing: what and how.
        out: the folder.
        workers: shards that are written at a time.
        overwrite: start anew, whatever `out` holds of tffjax.
        reporter: where words go.

    Raises:
        InputError: as `tffjax.data.find`; a file cannot be read; `out` is not free; no room.
    """
    reporter = reporter or Lines()
    known = (out / directory.RECORD).exists() and not overwrite
    if not known:
        directory.check_free(out, overwrite)
    with reporter.busy("looking for images"):
        found = find(packing.data, packing.labels)
    for warning in (*found.warnings, label_warning(found.files)):
        if warning:
            reporter.warn(warning)
    files, names = found.files, relative_names(found.files)
    check_stored(files, packing.pixels or Transform())
    record = _record(packing, found.kinds, fingerprint(files, names))
    opened = directory.resume(out, record) if known else directory.start(out, record, overwrite=overwrite)
    with opened as run, resumable(run, "the same command", known):
        if run.done:
            reporter.say(f"{out} is done already")
            return read_manifest(out)
        manifest = _write(run, packing, files, names, workers, reporter)
    size = sum(shard["bytes"] for shard in manifest.shards)
    what = f"pixels {in_words(packing.pixels)}" if packing.pixels else "files as they are"
    reporter.say(f"{manifest.images} images, {what}, in {len(manifest.shards)} shards, {size / 1e6:.1f} MB, in {out}")
    return manifest


def verify(folder: Path, workers: int, reporter: Reporter | None = None) -> list[str]:
    """What is damaged in packed records, a line each: shards, and records by name.

    Raises:
        InputError: there are no records, or manifest or index are damaged.
    """
    reporter = reporter or Lines()
    manifest = read_manifest(folder)
    rows = read_index(folder, manifest).to_pylist()
    by_shard: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(manifest.shards))}
    for row in rows:
        by_shard[row["shard"]].append(row)
    damage: list[str] = []
    with reporter.progress("checking", len(rows), "images") as advance, ThreadPoolExecutor(workers) as pool:
        work = ((folder, manifest.shards[number], number, rows) for number, rows in by_shard.items())
        for number, lines in enumerate(pool.map(lambda arguments: _damage(*arguments), work)):
            damage += lines
            advance(len(by_shard[number]))
    return damage


def _record(packing: Packing, kinds: Sequence[str], images: dict[str, Any]) -> dict[str, Any]:
    arguments = {"pixels": packing.pixels and dataclasses.asdict(packing.pixels), "labels": packing.labels,
                 "shard_images": packing.shard_images}  # fmt: skip
    identity = {"images": images, "arguments": arguments}
    return run_record("pack", identity, sources=kinds, computes=False, data=packing.data)


def _write(
    run: Run, packing: Packing, files: Sequence[ImageFile], names: Sequence[str], workers: int, reporter: Reporter
) -> Manifest:
    starts = range(0, len(files), packing.shard_images)
    shards = [f"{number:05d}-of-{len(starts):05d}.array_record" for number in range(len(starts))]

    contents, lock = Contents(files), threading.Lock()
    with reporter.busy("looking whether the images are the same"):
        contents.load([run])
        contents.check()

    def write(number: int) -> int:
        start = starts[number]
        part = slice(start, start + packing.shard_images)

        def note(read: Sequence[Content | None]) -> None:
            with lock:
                contents.take({index: content for index, content in enumerate(read, start) if content})
                contents.save(run)

        if not (run.work / shards[number]).exists():
            _write_shard(run.work / shards[number], number, files[part], names[part], packing.pixels, note)
        return len(files[part])

    with reporter.progress("packing", len(files), "images") as advance, ThreadPoolExecutor(workers) as pool:
        try:
            for done in pool.map(write, range(len(shards))):
                advance(done)
        finally:
            pool.shutdown(cancel_futures=True)
    with run.finish() as (folder, results):
        tables = [pyarrow.parquet.read_table(_rows_of(run.work / name)) for name in shards]
        table = pa.concat_tables(tables)
        pyarrow.parquet.write_table(table, folder / INDEX)
        facts = [{"name": name, "records": len(rows), **_size_and_hash(run.work / name)}
                 for name, rows in zip(shards, tables, strict=True)]  # fmt: skip
        index = _size_and_hash(folder / INDEX)["sha256"]
        manifest = Manifest(len(files), packing.pixels, tuple(facts), index)
        manifest.write(folder / MANIFEST)
        for name in shards:
            (run.work / name).rename(folder / name)
        results |= {"images": len(files), "unreadable": table["height"].null_count}
    if results["unreadable"]:
        reporter.warn(f"{results['unreadable']} images are unreadable, and studies will skip them")
    run.log("done", **results)
    return manifest


def _write_shard(
    path: Path,
    number: int,
    files: Sequence[ImageFile],
    names: Sequence[str],
    pixels: Transform | None,
    note: Callable[[Sequence[Content | None]], None],
) -> None:
    """A shard and, before it, the rows of the index for it, both whole or not at all; `note` is told what was read."""
    rows, known = [], []
    with replace_file(path) as temporary:
        with _written(temporary) as writer:
            for record, (file, name) in enumerate(zip(files, names, strict=True)):
                header, content, read = _packed(file, name, pixels)
                known.append(read)
                writer.write(pack_record(header, content))
                rows.append({**header, "shard": number, "record": record})
        with replace_file(_rows_of(path)) as beside:
            pyarrow.parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), beside)
        note(known)


def _rows_of(shard: Path) -> Path:
    return shard.with_suffix(".parquet")


@contextlib.contextmanager
def _written(path: Path) -> Iterator[ArrayRecordWriter]:
    writer = ArrayRecordWriter(str(path), WRITER)
    try:
        yield writer
        writer.close()
    except (RuntimeError, ValueError) as error:  # what the C++ side says
        line = str(error).split(";")[0]
        raise InputError(f"{path}: {line}; when that is mended, go on with the same command") from None


def _packed(file: ImageFile, name: str, pixels: Transform | None) -> tuple[dict[str, Any], bytes, Content | None]:
    """Header and content of an image, and what its file holds; None where it cannot be read."""
    if pixels is not None:
        try:
            image, known = read_known(file, pixels)
        except UnreadableImage as error:
            return header_of(name, file, b"", None, str(error).removeprefix(f"{file.path}: ")), b"", None
        return header_of(name, file, content := image.tobytes(), image.shape[:2], None), content, known
    stamp = stamp_of(file)
    try:
        content = file.path.read_bytes() if file.stored is None else file.stored.read()
    except OSError as error:
        raise InputError(f"{file.path}: {error.strerror}") from None
    try:
        size = read_size(file, Transform())
    except UnreadableImage:  # studies will find the same
        size = None
    header = header_of(name, file, content, size, None)
    return header, content, stamp and Content(bytes.fromhex(header["sha256"]), stamp)


def _size_and_hash(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _damage(folder: Path, shard: dict[str, Any], number: int, rows: Sequence[dict[str, Any]]) -> list[str]:
    path = folder / shard["name"]
    if not path.is_file():
        return [f"{path}: missing, with {len(rows)} records"]
    if _size_and_hash(path) == {name: shard[name] for name in ("bytes", "sha256")}:
        return []
    shards, lines = Shards(folder, [shard]), []
    try:
        for row in rows:
            try:
                header, content = shards.read(0, row["record"])
            except UnreadableImage:
                lines.append(f"{path}: record {row['name']} is damaged")
                continue
            if header != {name: row[name] for name in header} or hashlib.sha256(content).hexdigest() != row["sha256"]:
                lines.append(f"{path}: record {row['name']} is not the one that was packed")
    except InputError:
        return [f"{path}: damaged, and none of its {len(rows)} records can be read"]
    return lines or [f"{path}: damaged outside of its records, all of which can be read"]
