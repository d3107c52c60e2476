"""Images from a folder, a list, packed records: the same data set, the same tables."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import studies
from command import done, refused, save_image

from tffjax.data import find, find_images, fingerprint, label_warning, relative_names
from tffjax.data.folders import parse_labels
from tffjax.errors import InputError
from tffjax.pipeline.directory import read_record
from tffjax.pipeline.request import Reading
from tffjax.whole.steps import Whole, steps

NAMES = [f"{g}/{label}/{i}.png" for g in ("biggan", "progan/cat") for label in ("0_real", "1_fake") for i in range(2)]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources") / "data"
    for seed, name in enumerate(NAMES):
        save_image(folder / name, seed, 8)
    return folder


def described(files):
    return [(n, f.label, f.generator, f.category) for n, f in zip(relative_names(files), files, strict=True)]


def listed(folder: Path, path: Path, base: Path, shuffle: int | None = 0) -> Path:
    """A list of a folder's images."""
    files = find_images([folder])
    order = range(len(files)) if shuffle is None else np.random.default_rng(shuffle).permutation(len(files))
    rows = [
        {
            "path": str(files[i].path.relative_to(base) if base in files[i].path.parents else files[i].path),
            "label": (None, "real", "fake")[-1 if files[i].label is None else files[i].label + 1],
            "generator": files[i].generator,
            "category": files[i].category,
        }
        for i in order
    ]
    table = pa.Table.from_pylist(rows)
    (pyarrow.parquet.write_table if path.suffix == ".parquet" else pyarrow.csv.write_csv)(table, path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("relative", [True, False])
def test_a_list_is_the_folder_that_it_lists(data, tmp_path, suffix, relative):
    place = data.parent if relative else tmp_path
    files, from_list = find_images([data]), find_images([listed(data, place / f"list{suffix}", place)])
    assert described(from_list) == described(files)
    names = relative_names(files)
    assert fingerprint(from_list, names) == fingerprint(files, names)
    assert find([data, place / f"list{suffix}"]).files == files  # each image once


def test_a_list_may_have_paths_only_and_other_columns(data):
    rows = {"path": [NAMES[0]], "sharpness": [1.5]}
    pyarrow.csv.write_csv(pa.table(rows), data / "list.csv")
    (file,) = find_images([data / "list.csv"])
    assert (file.path, file.label, file.generator, file.category) == (data / NAMES[0], None, "", "")
    pyarrow.parquet.write_table(pa.table(rows | {"label": [1]}), data / "list.parquet")
    assert find_images([data / "list.parquet"])[0].label == 1


LISTS = {
    "file,label\na.png,real\n": "no column path among file, label",
    "path,label\nbiggan/0_real/0.png,nature\n": "row 1 has the label nature",
    "path\nbiggan/0_real/0.png\nmissing.png\n": "row 2 names missing.png, which is no file",
    "path,label\nbiggan/0_real/0.png,real\nbiggan/0_real/../0_real/0.png,fake\n": "row 2 names .* again",
    "path,label\n,real\n": "row 1 has no path",
    "path,label\n": "has no rows",
    "path,label\na,b,c\n": "cannot be read as a list",
    "": "cannot be read as a list",
}


@pytest.mark.parametrize("text", LISTS)
def test_lists_that_are_refused(data, text):
    (data / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=LISTS[text]):
        find_images([data / "bad.csv"])


def test_a_list_that_is_not_there(data):
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(InputError, match="no such file"):
            find_images([data / name])


def test_labels_of_genimage(tmp_path):
    """<generator>/<folder>/{train,val}/{nature,ai}: what is between generator and label is no class."""
    for seed, name in enumerate(("BigGAN/train/ai/a", "BigGAN/val/nature/b", "glide/train/nature/c")):
        save_image(tmp_path / f"{name}.png", seed, 4)
    found = find([tmp_path])
    assert {file.label for file in found.files} == {None}
    assert "give --labels real=nature,fake=ai" in "".join(found.warnings)
    found = find([tmp_path], "real=nature,fake=ai")
    assert [(file.label, file.generator, file.category) for file in found.files] == [
        (1, "BigGAN", ""),
        (0, "BigGAN", ""),
        (0, "glide", ""),
    ]
    assert not found.warnings
    for given in ("BigGAN", "BigGAN/train", "BigGAN/train/ai"):
        assert {file.generator for file in find_images([tmp_path / given], "real=nature,fake=ai")} == {"BigGAN"}


def test_labels_called_real_and_fake(tmp_path):
    for seed, name in enumerate(("sd/real/a", "sd/fake/b")):
        save_image(tmp_path / f"{name}.png", seed, 4)
    assert "--labels real=real,fake=fake" in "".join(find([tmp_path]).warnings)
    files = find_images([tmp_path], "real=real,fake=fake")
    assert [(file.label, file.generator) for file in files] == [(1, "sd"), (0, "sd")]
    assert label_warning(files) is None
    assert len(find_images([tmp_path], "real=real,real=0_real,fake=fake")) == 2


@pytest.mark.parametrize("text", ["", "real=a", "real=a,fake=a", "a=real,b=fake", "real=a,fake=", "real=a;fake=b"])
def test_labels_that_are_refused(text):
    with pytest.raises(InputError, match=r"--labels .*real=nature,fake=ai"):
        parse_labels(text)


def test_a_generator_of_two_folders_is_not_merged_silently(data, tmp_path):
    other = shutil.copytree(data, tmp_path / "other")
    (warning,) = (line for line in find([data, other]).warnings if "biggan" in line)
    assert str(data) in warning
    assert str(other) in warning
    for same in (
        [data, data / "biggan"],
        [data / "biggan" / "0_real", data / "biggan" / "1_fake"],
        [data / "biggan", data / "biggan" / ".." / "biggan" / "1_fake"],
    ):
        assert not [line for line in find(same).warnings if "generator" in line]


def tables(*arguments) -> dict[str, bytes]:
    """What a command with a small network writes, but for run.json and log.jsonl."""
    out = Path(arguments[-1])
    with studies.networks_by_name():
        done(*arguments, "--quiet")
    paths = (path for path in out.rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in paths if path.name not in ("run.json", "log.jsonl")}


def test_predict_gives_the_same_tables(data, tmp_path):
    whole = tables("predict", "decisive", data, "--out", tmp_path / "folder")
    assert read_record(tmp_path / "folder")["paths"]["sources"] == ["files"]
    assert whole["predictions.csv"].splitlines()[1].startswith(b'"biggan/0_real/0.png","biggan",')
    path = listed(data, tmp_path / "list.parquet", tmp_path)
    assert tables("predict", "decisive", path, "--out", tmp_path / "list") == whole
    assert read_record(tmp_path / "list")["paths"]["sources"] == ["list"]


def test_predict_with_labels_resumes_with_them(tmp_path):
    for seed, name in enumerate(("sd/real/a", "sd/fake/b")):
        save_image(tmp_path / "data" / f"{name}.png", seed, 8)
    labels = ("--labels", "real=real,fake=fake")
    whole = tables("predict", "decisive", tmp_path / "data", *labels, "--out", tmp_path / "run")
    assert b'"real"' in whole["predictions.csv"]
    with studies.networks_by_name():
        assert "is done already" in done("predict", "--resume", tmp_path / "run").out
        assert "labels" in refused("predict", "--resume", tmp_path / "run", "--labels", "real=a,fake=b")


def test_the_whole_study_passes_labels_and_sizes_on():
    options = {"size": ((256, 200), 192), "labels": "real=nature,fake=ai", "color_channels": 3}
    made = steps(Whole(Path("detector"), (Path("images"),), (Path("images"),), **options), Path("out"), 5)
    for step in made[:-3]:
        assert "--resize 256x200 --crop 192 --labels real=nature,fake=ai" in step.line
        assert step.reading == Reading(resize=(256, 200), crop=192, labels="real=nature,fake=ai")
    assert "--labels" not in made[-3].line  # heatmaps have none
