"""Folders that hold more than images: nothing hangs, nothing is scored that is no image, and all of it is named."""

import os
import socket

import pytest
from command import save_image

from tffjax.data import ImageFile, find, find_images
from tffjax.data.preprocessing import UnreadableImage, decode
from tffjax.errors import InputError
from tffjax.files import MARKER, RECORD


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
