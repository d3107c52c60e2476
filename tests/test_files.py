"""A file is written whole or not at all."""

import pytest

from tffjax.files import file_names, replace_file


def test_a_file_is_replaced_when_the_block_ends_well(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replace_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_stays_when_the_block_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted():
        with replace_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_different_names_have_different_files():
    names = ["my gan", "my-gan", "My_gan", "my/gan", "MY-GAN-2", "other"]
    found = file_names(names)
    assert list(found.values()) == ["my-gan", "my-gan-2", "My_gan", "my-gan-3", "MY-GAN-2-2", "other"]
    assert len({name.casefold() for name in found.values()}) == len(names)
