"""Folders of results: what others put in their place meanwhile stays."""

import threading
from pathlib import Path

import pytest

from tffjax.errors import InputError
from tffjax.files import MARKER
from tffjax.pipeline import directory
from tffjax.pipeline.output import output_folder
from tffjax.studies.lrpmax.tables import patch_file

RECORD = {"command": "rank", "identity": {}, "paths": {}}


def folder_of_others(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("mine")


def file_of_others(path: Path) -> None:
    path.write_text("mine")


@pytest.mark.parametrize("appears", [folder_of_others, file_of_others])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_appears_at_the_output_stays_and_the_results_too(tmp_path, appears, overwrite):
    out = tmp_path / "out"
    (tmp_path / "out-2").mkdir()

    def write():
        with output_folder(out, overwrite) as folder:
            (folder / "result").write_text("ours")
            appears(out)

    with pytest.raises(InputError, match=f"the results are in {out}-3$"):
        write()
    assert (out if out.is_file() else out / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "out-3/result").read_text() == "ours"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-2", "out-3"]


def test_an_empty_folder_may_appear_and_results_of_before_may_be_replaced(tmp_path):
    out = tmp_path / "out"
    with output_folder(out, False) as folder:
        (folder / "result").write_text("1")
        out.mkdir()
    with output_folder(out, True) as folder:
        (folder / "result").write_text("2")
    assert sorted(path.name for path in out.iterdir()) == [MARKER, "result"]
    assert (out / "result").read_text() == "2"


def test_of_two_that_start_a_run_at_once_one_is_refused(tmp_path):
    """50 races: each time one run is whole, and the other one says why it is none."""
    for race in range(50):
        path, ended, begin = tmp_path / f"{race}", [], threading.Barrier(2)

        def work(path=path, ended=ended, begin=begin):
            begin.wait()
            try:
                with directory.start(path, RECORD) as run:
                    (run.path / "result").write_text(threading.current_thread().name)
                ended.append(threading.current_thread().name)
            except InputError as error:
                ended.append(error)

        threads = [threading.Thread(target=work, name=f"writer {number}") for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [one for one in ended if isinstance(one, str)]
        assert len(ended) == 2
        assert (path / "result").read_text() == winner


@pytest.mark.parametrize("generator", ["../../x", "/etc/x", "a/b", "%2F"])
def test_a_patch_lies_in_the_folder_of_its_channel(generator):
    path = Path(patch_file(1, "layer1.0.conv1.#63(T=64)", generator, 2))
    assert (len(path.parts), path.parts[0]) == (2, "001_layer1.0.conv1._63_T_64")


def test_patches_of_two_generators_are_two_files():
    names = ["a/b", "a%2Fb", "a%252Fb", "a", "b"]
    assert len({patch_file(1, "conv1.#1(T=2)", name, 2) for name in names}) == len(names)
