"""Packed records: the same data set as the files, whatever interrupts packing; damage is named."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import studies
from array_record.python.array_record_module import ArrayRecordReader
from command import done, refused, save_image, tffjax_command
from test_sources import described, listed, tables

from tffjax.data import batches, find_images, fingerprint, of_generator, plan, relative_names
from tffjax.data.augmentations import Augmentation
from tffjax.data.preprocessing import Transform
from tffjax.data.reading import read
from tffjax.data.records import Shards, read_manifest
from tffjax.errors import InputError
from tffjax.nn.card import Normalization
from tffjax.pipeline.packing import Packing, pack, verify
from tffjax.pipeline.reporter import Silent
from tffjax.training.images import TrainingImages

RESIZED = Transform(resize=12)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten images of two sizes, one of which is damaged behind its header, and one of which is none."""
    folder = tmp_path_factory.mktemp("packing") / "data"
    names = [f"{g}/{label}/{i}.png" for g in ("biggan", "progan/cat") for label in ("0_real", "1_fake") for i in (0, 1)]
    for seed, name in enumerate(names):
        save_image(folder / name, seed, 16 + 2 * (seed % 2))
    cut = save_image(folder / "biggan/1_fake/cut.png", 9, 16)
    cut.write_bytes(cut.read_bytes()[:-200])
    (folder / "progan/cat/1_fake/none.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def records(data) -> Path:
    pack(Packing((data,), shard_images=4), data.parent / "records", 2, reporter=Silent())
    return data.parent / "records"


@pytest.fixture(scope="module")
def pixels(data) -> Path:
    pack(Packing((data,), RESIZED, shard_images=4), data.parent / "pixels", 2, reporter=Silent())
    return data.parent / "pixels"


def kept(folder: Path) -> dict[str, bytes]:
    """The files of records, but for the log."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.jsonl")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_records_are_the_files(data, records):
    files, packed = find_images([data]), find_images([records])
    assert described(packed) == described(files)
    assert fingerprint(packed, relative_names(packed)) == fingerprint(files, relative_names(files))
    assert [file.stored.read() for file in packed] == [file.path.read_bytes() for file in files]
    assert [shard["records"] for shard in read_manifest(records).shards] == [4, 4, 2]
    assert verify(records, 2, Silent()) == []


def test_a_record_is_read_as_the_docs_say(data, records):
    record = ArrayRecordReader(str(records / "00000-of-00003.array_record")).read([1])[0]
    end = 4 + int.from_bytes(record[:4], "little")
    header, image = json.loads(record[4:end]), record[end:]
    assert image == (data / "biggan/0_real/1.png").read_bytes()
    assert header == {
        "name": "biggan/0_real/1.png",
        "label": "real",
        "generator": "biggan",
        "category": "",
        "num_bytes": len(image),
        "sha256": hashlib.sha256(image).hexdigest(),
        "height": 18,
        "width": 18,
        "unreadable": None,
    }


def test_a_name_in_records_is_a_path(data, records):
    for below in ("biggan", "biggan/0_real/1.png"):
        assert described(find_images([records / below])) == described(find_images([data / below]))
    assert {file.generator for file in find_images([records / "progan/cat/1_fake"])} == {"progan"}  # files do not know
    for wrong in ("bigg", "biggan/0_real/7.png"):
        with pytest.raises(InputError, match="nor such images among the records"):
            find_images([records / wrong])


def read_all(folder: Path, transform: Transform):
    """Pixels of all images by name, and why others are skipped, without the folder's name."""
    files = find_images([folder])
    work = plan(files, transform, 3)
    found, skipped = {}, dict(work.skipped)
    for batch in batches(work, files, transform, 3):
        skipped |= batch.skipped
        found |= {int(i): x for i, x, w in zip(batch.indices, batch.images, batch.weights, strict=True) if w}
    return found, {index: reason.replace(str(folder), "") for index, reason in skipped.items()}


@pytest.mark.parametrize("transform", [Transform(), RESIZED, Transform(10, 8)])
def test_pixels_from_records_are_those_of_the_files(data, records, transform):
    (ours, skipped), (theirs, other) = read_all(records, transform), read_all(data, transform)
    assert skipped == other
    assert len(skipped) == 2
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[index], theirs[index]) for index in ours)


def test_stored_pixels_are_those_of_the_files(data, pixels):
    (ours, skipped), (theirs, other) = read_all(pixels, RESIZED), read_all(data, RESIZED)
    assert skipped == other
    assert len(ours) == 8
    assert all(np.array_equal(ours[index], theirs[index]) for index in ours)
    assert verify(pixels, 1, Silent()) == []


def test_stored_pixels_serve_their_transform_only(pixels, data):
    files = find_images([pixels])
    for other in (Transform(), Transform(12, 8), Transform(13)):
        with pytest.raises(InputError, match="packed with --resize 12, and this run wants them"):
            plan(files, other, 4)
        with pytest.raises(InputError, match="packed with --resize 12"):
            read(files[0], other)
    with pytest.raises(InputError, match="packed with --resize 12"):
        pack(Packing((pixels,)), data.parent / "again", 1, reporter=Silent())


def test_training_sees_the_same_images(data, records, pixels):
    def seen(folder, load_size):
        chosen = [file for file in find_images([folder]) if file.path.stem in "01"]
        augmentation = Augmentation(load_size=load_size, crop=10)
        return [
            batch[0]
            for epoch in (0, 1)
            for batch in TrainingImages(tuple(chosen), augmentation, Normalization(), 4, 3).epoch(epoch)
        ]

    whole = seen(data, 12)
    assert all(np.array_equal(a, b) for a, b in zip(whole, seen(records, 12), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(whole, seen(pixels, 12), strict=True))
    with pytest.raises(InputError, match="packed with --resize 12"):
        seen(pixels, None)


def test_commands_give_the_same_tables(data, records, tmp_path):
    ours, theirs = (
        tables("predict", "decisive", folder, "--out", tmp_path / name)
        for name, folder in (("records", records), ("files", data))
    )
    assert ours == theirs
    assert json.loads((tmp_path / "records" / "run.json").read_text())["paths"]["sources"] == ["records"]


PACK = """
import sys
from pathlib import Path
from tffjax.pipeline.packing import Packing, pack
pack(Packing((Path(sys.argv[1]),), shard_images=1), Path(sys.argv[2]), 1)
"""


def test_killed_in_the_middle_it_ends_with_the_same_bytes(tmp_path):
    for seed in range(60):
        save_image(tmp_path / "data" / f"{seed:02}.png", seed, 64)
    packing = Packing((tmp_path / "data",), shard_images=1)
    pack(packing, tmp_path / "whole", 2, reporter=Silent())
    out, work = tmp_path / "killed", tmp_path / "killed" / "work"
    process = subprocess.Popen([sys.executable, "-c", PACK, tmp_path / "data", out], stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(work.glob("*.array_record"))) < 5:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept_shards = {path.name: path.stat().st_mtime_ns for path in work.glob("*.array_record")}
    assert 5 <= len(kept_shards) < 60
    (work / ".00059-of-00060.array_record.tmp1").write_bytes(b"half a shard")
    with pytest.raises(InputError, match="packed records without a manifest"):
        find_images([out])
    pack(packing, out, 2, reporter=Silent())
    assert kept(out) == kept(tmp_path / "whole")
    assert kept_shards == {name: (out / name).stat().st_mtime_ns for name in kept_shards}


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_a_flipped_bit_names_the_record_or_the_shard(data, records, tmp_path):
    broken = Path(shutil.copytree(records, tmp_path / "records"))
    shard, files = broken / "00001-of-00003.array_record", find_images([data])
    content = shard.read_bytes()
    for file in files[4:8]:
        image = file.path.read_bytes()
        for at in (0, len(image) // 2, len(image) - 1):
            flip(shard, content.index(image) + at)
            (line,) = verify(broken, 1, Silent())
            assert line == f"{shard}: record {relative_names(files)[files.index(file)]} is damaged"
            shard.write_bytes(content)
    last = max(content.index(file.path.read_bytes()) + file.num_bytes for file in files[4:8])
    for at in (last + 50, len(content) - 1, len(content) - 60, len(content) - 65536 + 30):
        flip(shard, at)
        (line,) = verify(broken, 1, Silent())
        assert line.startswith(f"{shard}: ")
        assert "record " not in line
        shard.write_bytes(content)
    assert verify(broken, 1, Silent()) == []


def test_damage_is_an_unreadable_image_or_ends_the_run(data, records, tmp_path):
    broken = Path(shutil.copytree(records, tmp_path / "records"))
    shard, image = broken / "00000-of-00003.array_record", (data / "biggan/0_real/1.png").read_bytes()
    flip(shard, shard.read_bytes().index(image) + 30)
    _, skipped = read_all(broken, Transform(crop=8))
    assert "/biggan/0_real/1.png: record 1 of 00000-of-00003.array_record is damaged" in skipped[1]
    ended = tffjax_command("pack", "--verify", broken)
    assert ended.code == 1
    assert "record biggan/0_real/1.png is damaged" in ended.out
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(InputError, match=r"00000-of-00003.array_record: damaged .*tffjax pack --verify"):
        read_all(broken, Transform(crop=8))
    shard.write_bytes(b"x")
    with pytest.raises(InputError, match=r"00000-of-00003.array_record: has 1 bytes"):
        find_images([broken])
    shard.unlink()
    with pytest.raises(InputError, match=r"00000-of-00003.array_record: missing"):
        find_images([broken])
    assert verify(broken, 1, Silent()) == [f"{shard}: missing, with 4 records"]


def test_a_damaged_index_and_manifest(records, tmp_path):
    broken = Path(shutil.copytree(records, tmp_path / "records"))
    flip(broken / "index.parquet", 100)
    with pytest.raises(InputError, match=r"index.parquet: damaged"):
        find_images([broken])
    for text, line in (("{}", "damaged"), ("[", "damaged"), ('{"format": "tffjax-records-9"}', "tffjax-records-9")):
        (broken / "records.json").write_text(text)
        with pytest.raises(InputError, match=rf"records.json: .*{line}"):
            find_images([broken])


def test_many_shards_are_read_with_few_open(records):
    shards = Shards(records, read_manifest(records).shards)
    names = pyarrow.parquet.read_table(records / "index.parquet")["name"].to_pylist()
    order = np.random.default_rng(0).permutation(10).tolist()
    assert [shards.read(i // 4, i % 4)[0]["name"] for i in order] == [names[i] for i in order]


def test_pack_command(data, tmp_path):
    out = tmp_path / "records"
    ended = done("pack", data, "--out", out, "--shard-images", 6, "--workers", 1)
    assert "10 images, files as they are, in 2 shards" in ended.out
    assert "1 images are unreadable" in ended.err
    assert "is done already" in done("pack", data, "--out", out, "--shard-images", 6).out
    assert "is as it was packed" in done("pack", "--verify", out).out
    assert "arguments.shard_images is 512 here and was 6 there" in refused("pack", data, "--out", out)
    assert "--pixels" in refused("pack", data, "--out", tmp_path / "x", "--crop", 8)
    assert "give DATA and --out" in refused("pack", data)
    assert "holds no packed records" in refused("pack", "--verify", data)
    done("pack", out, "--out", tmp_path / "again", "--pixels", "--resize", 12, "--overwrite")
    with pytest.raises(InputError, match="packed with --resize 12"):
        plan(find_images([tmp_path / "again"]), Transform(), 1)


def test_the_images_of_a_generator(records, data, tmp_path):
    """In folders, among records, in a list: the same images."""
    listed(data, tmp_path / "list.csv", tmp_path)
    found = [of_generator(place, "biggan") for place in (data, records, tmp_path / "list.csv")]
    assert found == [data / "biggan", records / "biggan", tmp_path / "list.csv" / "biggan"]
    files, packed, rows = map(find_images, ([place] for place in found))
    assert described(files) == described(packed) == described(rows)
    for place in (data, records, tmp_path / "list.csv"):
        assert of_generator(place, "stargan") is None
        assert of_generator(place / "biggan", "biggan") == place / "biggan"  # all that it holds
    with pytest.raises(InputError, match="has no rows of stargan"):
        find_images([tmp_path / "list.csv" / "stargan"])


def same_as(folder: Path, other: Path) -> None:
    ours, theirs = (
        {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (folder, other)
    )
    for files in (ours, theirs):
        for name in ("run.json", "log.jsonl"):
            del files[name]
    assert ours == theirs


STUDIES = {
    "rank": ("--confidence", 0, "--own-size"),
    "dropout": ("--random", 1, "--k", 2),
    "color": ("--k", 4),
    "lrpmax": ("--k", 3, "--top", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", STUDIES)
def test_every_study_gives_the_same_bytes(command, shared, tmp_path):
    """On real images, from a folder, a list, records of bytes and of pixels."""
    folder = shared / "data" / "forensynths-mini"
    pack(Packing((folder,), shard_images=64), tmp_path / "records", 2, reporter=Silent())
    pack(Packing((folder,), Transform(), shard_images=64), tmp_path / "pixels", 2, reporter=Silent())
    places = [folder, listed(folder, tmp_path / "list.csv", tmp_path), tmp_path / "records", tmp_path / "pixels"]
    ranking = () if command == "rank" else ("--ranking", studies.make_ranking(tmp_path / "ranking.csv"))
    for number, place in enumerate(places):
        with studies.networks_by_name():
            done(command, "decisive", place, *ranking, *STUDIES[command], "--out", tmp_path / str(number), "--quiet")
        same_as(tmp_path / str(number), tmp_path / "0")
