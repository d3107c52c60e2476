"""Images are known by what they hold: others in their place are refused, in a run, at --resume and at merge."""

import contextlib
import os
import shutil
from unittest import mock

import numpy as np
import pytest
from command import save_image
from fake_study import FakeStudy
from test_pipeline import READING, Stop, files

import tffjax.pipeline.contents
from tffjax.data import find_images
from tffjax.data.content import Content, Stamp
from tffjax.errors import InputError
from tffjax.pipeline.contents import Contents
from tffjax.pipeline.directory import Run
from tffjax.pipeline.packing import Packing, pack
from tffjax.pipeline.reporter import Silent
from tffjax.pipeline.request import Request, Shard
from tffjax.pipeline.run import run
from tffjax.pipeline.shards import merge

COUNT = 12


@pytest.fixture
def data(tmp_path):
    """Images of noise, which all have the same number of bytes."""
    folder = tmp_path / "data"
    for seed in range(COUNT):
        save_image(folder / f"g/{('0_real', '1_fake')[seed % 2]}/{seed:02}.png", seed, 8)
    assert len({file.num_bytes for file in find_images([folder])}) == 1
    return folder


def replace(image, keep_times: bool = False) -> None:
    """Another image of the same size in bytes."""
    before = image.stat()
    save_image(image, 99, 8)
    assert image.stat().st_size == before.st_size
    if keep_times:
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut_off(data, out, batches: int, shard=None) -> None:
    with contextlib.suppress(InputError):
        run(FakeStudy(), Request((data,), out, READING, shard=shard), Silent(), 0.0, Stop(batches, KeyboardInterrupt()))


def resume(data, out) -> None:
    run(FakeStudy(), Request((data,), out, READING, resume=True), Silent())


@pytest.mark.parametrize("keep_times", [False, True])
def test_an_image_that_was_read_is_not_replaced(data, tmp_path, keep_times):
    out, image = tmp_path / "run", data / "g/0_real/00.png"
    cut_off(data, out, 2)
    before, kept = files(out), image.read_bytes()
    replace(image, keep_times)
    with pytest.raises(InputError, match=r"00.png: no longer the image that this run has read; put it back, or start"):
        resume(data, out)
    assert files(out) == before
    image.write_bytes(kept)  # with another time, so that it is read
    resume(data, out)
    run(FakeStudy(), Request((data,), tmp_path / "whole", READING), Silent())
    assert files(out) == files(tmp_path / "whole")


def test_an_image_that_was_not_read_yet_may_be_replaced(data, tmp_path):
    cut_off(data, tmp_path / "run", 1)
    replace(data / "g/1_fake/11.png")
    resume(data, tmp_path / "run")


def test_images_of_the_same_stamp_are_not_read(data, tmp_path):
    cut_off(data, tmp_path / "run", 2)
    with mock.patch.object(tffjax.pipeline.contents, "known_content", side_effect=AssertionError):
        resume(data, tmp_path / "run")


def test_a_copy_elsewhere_is_the_same(data, tmp_path):
    cut_off(data, tmp_path / "run", 2)
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(data)
    resume(tmp_path / "copy", tmp_path / "run")


def test_an_image_that_is_replaced_between_two_passes_of_one_run(data, tmp_path):
    class Replacing(Stop):
        def __call__(self, *arguments):
            if self.left < COUNT // 4:
                replace(data / "g/0_real/04.png")
            yield from super().__call__(*arguments)

    stream = Replacing(COUNT // 4 + 1, KeyboardInterrupt())
    with pytest.raises(InputError, match=r"04.png: no longer the image"):
        run(FakeStudy(), Request((data,), tmp_path / "run", READING), Silent(), stream=stream)


def test_shards_agree(data, tmp_path):
    """One of the first shard's images is replaced before the second begins, and between the passes."""
    out, image = tmp_path / "run", data / "g/0_real/00.png"
    shards = [Request((data,), out, READING, shard=Shard(index, 2)) for index in range(2)]
    kept = image.read_bytes()
    run(FakeStudy(), shards[0], Silent())
    replace(image)
    run(FakeStudy(), shards[1], Silent())
    with pytest.raises(InputError, match=r"00.png: no longer the image"):
        merge(FakeStudy(), out, Silent())
    image.write_bytes(kept)
    assert not merge(FakeStudy(), out, Silent())
    replace(image)
    for shard in shards:
        with pytest.raises(InputError, match=r"00.png: no longer the image"):
            run(FakeStudy(), shard, Silent())


def test_two_shards_that_read_different_bytes(data, tmp_path):
    runs, found = [], find_images([data])
    for byte in (b"a", b"b"):
        runs.append(Run(tmp_path / byte.decode()))
        runs[-1].path.mkdir()
        contents = Contents(found)
        contents.take({0: Content(byte * 32, Stamp(1, 2, 3))})
        contents.save(runs[-1])
    with pytest.raises(InputError, match=r"00.png: no longer the image"):
        Contents(found).load(runs)


def test_packing_goes_on_with_the_same_images_only(data, tmp_path):
    packing = Packing((data,), shard_images=4)
    with (
        mock.patch.object(tffjax.pipeline.packing.Run, "finish", side_effect=KeyboardInterrupt),
        pytest.raises(InputError, match="interrupted"),
    ):
        pack(packing, tmp_path / "records", 1, reporter=Silent())
    replace(data / "g/0_real/00.png")
    with pytest.raises(InputError, match=r"00.png: no longer the image"):
        pack(packing, tmp_path / "records", 1, reporter=Silent())


def test_records_in_the_place_of_others(data, tmp_path):
    """The index says what a record holds."""
    out, records = tmp_path / "run", tmp_path / "records"
    pack(Packing((data,)), records, 1, reporter=Silent())
    cut_off(records, out, 2)
    resume_from = tmp_path / "other"
    replace(data / "g/0_real/00.png")
    pack(Packing((data,)), resume_from, 1, reporter=Silent())
    with pytest.raises(InputError, match=r"00.png: no longer the image"):
        resume(resume_from, out)
    resume(records, out)


@pytest.mark.parametrize("damage", [b"", b"PK", "shape"])
def test_what_is_damaged_is_said(data, tmp_path, damage):
    cut_off(data, tmp_path / "run", 2)
    path = tmp_path / "run/work/contents.npz"
    if damage == "shape":
        np.savez(path, sha256=np.zeros((3, 32), np.uint8), stamps=np.zeros((3, 3), np.int64))
    else:
        path.write_bytes(damage)
    with pytest.raises(InputError, match=r"contents.npz: "):
        resume(data, tmp_path / "run")


def test_all_images_are_read_before_training(data, tmp_path):
    (data / "g/0_real/00.png").write_bytes(b"no image")  # which has a content all the same
    contents = Contents(find_images([data]))
    contents.read_all()
    contents.check()
    replace(data / "g/1_fake/01.png")
    with pytest.raises(InputError, match=r"01.png: no longer the image that this run has read"):
        contents.check()
    (data / "g/0_real/02.png").unlink()
    with pytest.raises(InputError, match=r"02.png \(and 1 more\)"):
        contents.check()
