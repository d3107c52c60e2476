"""Rows in Parquet parts: the same files whatever happens on the way."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tffjax.errors import InputError
from tffjax.pipeline.parts import PartWriter

SCHEMA = pa.schema([("name", pa.string()), ("value", pa.float32())])
LENGTH = 4


def rows(start: int, stop: int) -> pa.Table:
    return pa.table({"name": [f"image {i}" for i in range(start, stop)], "value": [i / 2 for i in range(start, stop)]})


def writer(folder: Path) -> PartWriter:
    return PartWriter(folder, SCHEMA, LENGTH)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def at_once(folder: Path, count: int) -> dict[str, bytes]:
    parts = writer(folder)
    parts.append(rows(0, count))
    parts.save()
    return contents(folder)


def test_parts_have_a_fixed_length_and_all_rows(tmp_path):
    assert at_once(tmp_path, 10).keys() == {f"part-0000{i}.parquet" for i in range(3)}
    parts = [pyarrow.parquet.read_table(path) for path in sorted(tmp_path.iterdir())]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert pa.concat_tables(parts).equals(rows(0, 10).cast(SCHEMA))


def test_no_rows_make_no_files(tmp_path):
    assert at_once(tmp_path, 0) == {}


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_batches_and_interruptions_give_the_same_files(data, tmp_path_factory):
    """Append in any portions, save at any time, be killed at any time and go on from the last save."""
    count = data.draw(st.integers(0, 13))
    folder = tmp_path_factory.mktemp("parts")
    parts, done, saved = writer(folder), 0, None
    for _ in range(data.draw(st.integers(0, 8))):
        match data.draw(st.sampled_from(["append", "save", "kill"])):
            case "append":
                stop = data.draw(st.integers(done, count))
                parts.append(rows(done, stop))
                done = stop
            case "save":
                parts.save()
                saved = done
            case "kill":
                (folder / ".part-00001.parquet.tmp9").write_bytes(b"half")
                parts, done = writer(folder), saved or 0
                if saved is not None:
                    parts.truncate(saved)
    parts.append(rows(done, count))
    parts.save()
    (folder / ".part-00001.parquet.tmp9").unlink(missing_ok=True)
    assert contents(folder) == at_once(tmp_path_factory.mktemp("whole"), count)


def test_leftovers_and_rows_behind_the_saved_ones_go_away(tmp_path):
    at_once(tmp_path, 10)
    (tmp_path / ".part-00002.parquet.tmp9").write_bytes(b"half")
    writer(tmp_path).truncate(5)
    assert contents(tmp_path).keys() == {"part-00000.parquet", "part-00001.parquet"}


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_the_rows_of_any_writers_are_those_of_one(counts, tmp_path_factory):
    whole = writer(tmp_path_factory.mktemp("taken"))
    stops = np.cumsum(counts).tolist()
    for start, stop in zip([0, *stops], stops, strict=False):
        part = writer(tmp_path_factory.mktemp("part"))
        part.append(rows(start, stop))
        part.save()
        whole.take(part._folder, stop - start)
    whole.save()
    assert contents(whole._folder) == at_once(tmp_path_factory.mktemp("whole"), stops[-1])
    whole.publish(tmp_path_factory.mktemp("published") / "rows")


@pytest.mark.parametrize("damage", ["missing", "damaged", "short"])
def test_a_part_that_cannot_be_gone_on_with_is_named(tmp_path, damage):
    at_once(tmp_path, 7)
    part = tmp_path / "part-00001.parquet"
    match damage:
        case "missing":
            part.unlink()
        case "damaged":
            part.write_bytes(part.read_bytes()[:50])
        case "short":
            pyarrow.parquet.write_table(rows(4, 5).cast(SCHEMA), part)
    with pytest.raises(InputError, match=r"part-00001\.parquet: missing or damaged \(.*\); start this run anew"):
        writer(tmp_path).truncate(7)


def test_memory_holds_one_part_only(tmp_path):
    parts = PartWriter(tmp_path, SCHEMA, 10)
    before = pa.total_allocated_bytes()
    for _ in range(100):
        parts.append(pa.table({"name": ["x" * 1000] * 5, "value": [0.0] * 5}))
    assert pa.total_allocated_bytes() - before < 50_000  # of 500,000
