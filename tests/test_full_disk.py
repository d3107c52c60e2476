"""No room, anywhere: one line, exit code 2, nothing half-written, and runs go on. A limit on the size of files stands
for the disk: writing fails in the same places, in every library."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import cases
import numpy as np
import pyarrow as pa
import pytest
import studies
import torch
from command import done, refused
from matplotlib.figure import Figure
from studies import make_images, make_ranking, networks_by_name

from tffjax.errors import InputError
from tffjax.files import no_room, write_text
from tffjax.nn import checkpoint
from tffjax.places import look, look_for_file, new_file, new_folder
from tffjax.results.figures import save_figure
from tffjax.results.tables import write_table

NOISE = np.random.default_rng(0).random(1 << 16)  # 512 kB, and no way to compress it


@contextlib.contextmanager
def room_for(num_bytes: int) -> Iterator[None]:
    """No file may become larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def weights(path: Path) -> None:
    checkpoint.write(path, {"params": {"kernel": NOISE}}, "{}", overwrite=False)


def state_dict(path: Path) -> None:
    with new_file(look_for_file(path, False)) as temporary, temporary.open("wb") as file:
        torch.save({"kernel": torch.from_numpy(NOISE)}, file)


def plot(path: Path) -> None:
    figure = Figure()
    figure.subplots().imshow(NOISE.reshape(256, 256), interpolation="nearest")
    save_figure(figure, path, dpi=300.0)


def plots(path: Path) -> None:
    with new_folder(look(path)) as folder:
        plot(folder / "plot")


def arrays(path: Path) -> None:
    with new_folder(look(path)) as folder:
        np.savez(folder / "arrays", NOISE)


WRITERS = {
    "weights": weights,
    "state dict": state_dict,
    "plot": plot,
    "plots": plots,
    "arrays": arrays,
    "table": lambda path: write_table(pa.table({"x": NOISE}), path),
    "text": lambda path: write_text(path, str(NOISE.tolist())),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=list(WRITERS))
def test_what_does_not_fit_leaves_nothing(tmp_path, write):
    with room_for(1 << 15), pytest.raises((InputError, OSError)) as raised:
        write(tmp_path / "out")
    assert no_room(raised.value) == "File too large"
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "out")
    assert list(tmp_path.iterdir()) != []


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def ranking(tmp_path_factory) -> Path:
    return make_ranking(tmp_path_factory.mktemp("ranking") / "ranking.csv")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["dropout", "color", "lrpmax"])
def test_a_study_goes_on_when_there_is_room(images, ranking, tmp_path, command):
    """Its plots do not fit."""
    options = {"dropout": ("--k", 2, "--random", 1), "color": ("--k", 2), "lrpmax": ("--k", 2, "--top", 1)}[command]
    given = ("detector", images, "--ranking", ranking, *options, "--batch-size", 4)
    with networks_by_name():
        done(command, *given, "--out", tmp_path / "whole")
        with room_for(10_000):
            line = refused(command, *given, "--out", tmp_path / "run")
        assert f"File too large; when that is mended, go on with: tffjax {command} --resume" in line
        done(command, "--resume", tmp_path / "run")
    studies.assert_same_files(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_convert_there_and_back_and_train(images, tmp_path):
    """Twenty megabytes of weights, and where they are not, none."""
    model = cases.B0_SAME.random_model()
    checkpoint.save(model, tmp_path / "detector")
    done("convert", "--to", "torch", tmp_path / "detector", tmp_path / "detector.pth")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with room_for(1 << 20):
        line = refused("convert", "--to", "torch", tmp_path / "detector", tmp_path / "out.pth")
        assert line.endswith("out.pth: File too large; make room, then give the command again")
        line = refused("convert", tmp_path / "detector.pth", tmp_path / "out")
        assert line.endswith("out: File too large; make room, then give the command again")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    options = ("--crop", 64, "--load-size", 0, "--batch-size", 4, "--epochs", 1, "--validation-share", 0.5)
    given = ("train", images, "--init", tmp_path / "detector", *options)
    done(*given, "--out", tmp_path / "whole")  # first, so that its programs are in the cache, whole
    with room_for(1 << 20):
        line = refused(*given, "--out", tmp_path / "run")
        assert "File too large; when that is mended, go on with: tffjax train --resume" in line
    assert not [path for path in (tmp_path / "run").rglob("*") if ".tmp" in path.name]
    done("train", "--resume", tmp_path / "run")
    assert (tmp_path / "run/train.parquet").read_bytes() == (tmp_path / "whole/train.parquet").read_bytes()
