"""Folders that hold more than images: nothing hangs, nothing is scored that is no image, and all of it is named."""

import os
import socket
import struct
import zlib

import pytest
from command import save_image

from tffjax.data import ImageFile, find, find_images
from tffjax.data.loading import check_batch
from tffjax.data.preprocessing import Transform, UnreadableImage, decode, image_size
from tffjax.errors import InputError
from tffjax.files import MARKER, RECORD
from tffjax.pipeline.groups import read_groups
from tffjax.pipeline.images import images_of
from tffjax.pipeline.reporter import Lines
from tffjax.pipeline.request import Reading, Request


def listen(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))  # the name of a socket may have 107 bytes


SPECIAL = {
    "a FIFO": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": listen,
    "a link to nothing": lambda path: path.symlink_to("gone.png"),
    "Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
}
"""What is said -> what makes it."""


@pytest.mark.parametrize("said", SPECIAL)
def test_what_is_no_file_is_left_out_and_named(tmp_path, monkeypatch, said):
    monkeypatch.chdir(tmp_path)
    good = save_image(tmp_path / "data/good.png", 0, 8)
    SPECIAL[said](tmp_path / "data/x.png")
    found = find([tmp_path / "data"])
    assert found.files == (ImageFile(good),)
    assert found.warnings == (f"left out {tmp_path}/data/x.png: {said}",)
    good.unlink()
    with pytest.raises(InputError, match=f"no images in it or below.*x.png: {said}"):
        find_images([tmp_path / "data"])


@pytest.mark.parametrize("said", SPECIAL)
@pytest.mark.parametrize("name", ["x.png", "x.csv"])
def test_what_is_no_file_is_refused_if_it_is_given_itself(tmp_path, monkeypatch, said, name):
    monkeypatch.chdir(tmp_path)
    SPECIAL[said](tmp_path / name)
    with pytest.raises(InputError, match="no such file" if said == "a link to nothing" else said):
        find_images([tmp_path / name])


def test_a_file_that_became_something_else_since_it_was_found_is_unreadable(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    for path in (tmp_path / "x.png", "/dev/zero"):
        with pytest.raises(UnreadableImage, match="no regular file"):
            decode(path)


def test_a_folder_with_the_name_of_an_image_is_a_folder(tmp_path):
    image = save_image(tmp_path / "x.png/y.png", 0, 8)
    assert find([tmp_path]).files == (ImageFile(image),)


def test_many_that_are_left_out_are_counted(tmp_path):
    save_image(tmp_path / "good.png", 0, 8)
    for number in range(9):
        (tmp_path / f"{number}.png").symlink_to("gone")
    warnings = find([tmp_path]).warnings
    assert len(warnings) == 6
    assert warnings[-1] == "left out 4 more like these"


def png_header(path, height, width):
    """A PNG file that ends where its pixels would begin."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + end)
    return path


def test_a_batch_that_memory_cannot_hold_is_refused_with_the_one_that_fits(tmp_path):
    image = png_header(tmp_path / "x.png", 9990, 9990)
    assert image_size(image) == (9990, 9990)
    request = Request((image,), tmp_path / "out", Reading(batch_size=16))
    with pytest.raises(
        InputError, match=r"16 images of 9990x9990 pixels at once take 17\.8 GiB.*give --batch-size 3, or"
    ):
        images_of(request, Lines())
    several = [image, *(png_header(tmp_path / f"{number}.png", 9990, 9990) for number in range(3))]
    with pytest.raises(InputError, match=r"4 images of 9990x9990.*give --limit 3, or"):
        read_groups(Lines(), several, 9, Transform())


def test_the_pixels_of_a_batch_are_bounded():
    """4 GiB are 4,294,967,296 bytes, and an image of 1000 x 1000 pixels takes 12,000,000 in float32."""
    check_batch([], 16)
    check_batch([(8, 8), (1000, 1000)], 357)
    with pytest.raises(InputError, match="give --batch-size 357, or smaller images"):
        check_batch([(1000, 1000), (8, 8)], 358)
    with pytest.raises(InputError, match="give smaller images"):
        check_batch([(20_000, 18_000)], 1)


def test_run_directories_among_the_data_are_left_out(tmp_path):
    good = save_image(tmp_path / "good.png", 0, 8)
    plot = save_image(tmp_path / "run/ranking.png", 1, 8)
    assert find([tmp_path]).files == (ImageFile(good), ImageFile(plot))
    (tmp_path / "run" / MARKER).touch()  # generated images have the marker, but no record: they are data
    assert len(find([tmp_path]).files) == 2
    (tmp_path / "run" / RECORD).touch()
    found = find([tmp_path])
    assert found.files == (ImageFile(good),)
    assert found.warnings == (
        f"left out {tmp_path}/run: a run directory of tffjax; to read it all the same, give it itself",
    )
    assert find_images([tmp_path / "run"]) == (ImageFile(plot),)
