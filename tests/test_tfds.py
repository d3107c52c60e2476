"""TensorFlow Datasets, prepared with TensorFlow and read without; skipped where they are not installed.

In an environment of their own: pip install -e '.[dev,tfds]' tensorflow-cpu; python -m pytest tests/test_tfds.py
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import studies
from command import done, save_image
from test_packing import STUDIES, same_as
from test_sources import described, tables

from tffjax.data import find_images, fingerprint, of_generator, relative_names
from tffjax.data.tfds_source import Address, parse_address
from tffjax.errors import InputError

ADDRESSES = {
    "tfds:forensynths/progan": Address("forensynths", "progan", {}),
    "tfds:mnist:3.0.1/train[:5%]": Address("mnist:3.0.1", "train[:5%]", {}),
    "tfds:a/b:1.0.0/test?image=picture&label=kind": Address("a/b:1.0.0", "test", {"image": "picture", "label": "kind"}),
    "tfds:a/test?only=my%20gan": Address("a", "test", {"only": "my gan"}),
    "tfds:a/test?data_dir=/data/tfds": Address("a", "test", {"data_dir": "/data/tfds"}),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses(text):
    assert parse_address(text) == ADDRESSES[text]
    assert parse_address(str(Path(text))) == ADDRESSES[text]


@pytest.mark.parametrize("text", ["tfds:", "tfds:a", "tfds:a/", "tfds:/b", "tfds:a/b?color=c", "tfds:a/b?image"])
def test_addresses_that_are_refused(text):
    with pytest.raises(InputError, match="write tfds:NAME/SPLIT"):
        parse_address(text)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match=r"pip install 'tffjax\[tfds\]'"):
        find_images(["tfds:forensynths/progan"])


@pytest.fixture(scope="module")
def manual(tmp_path_factory) -> Path:
    """ForenSynths as its archives unpack, small; one image is JPEG."""
    folder = tmp_path_factory.mktemp("manual")
    for seed, name in enumerate(
        f"{split}/{label}/{i}.png"
        for split in ("train/progan/cat", "val/progan/cat", "test/biggan", "test/progan/cat", "test/progan/dog")
        for label in ("0_real", "1_fake")
        for i in range(2)
    ):
        save_image(folder / name, seed, 8)
    save_image(folder / "test/biggan/0_real/2.jpg", 99, 16)
    return folder


@pytest.fixture(scope="module")
def prepared(manual, tmp_path_factory) -> Path:
    """Prepared in a process of its own, which needs TensorFlow."""
    pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("tensorflow")
    out = tmp_path_factory.mktemp("prepared")
    prepare(manual, out, "array_record")
    return out


def prepare(manual: Path, out: Path, form: str) -> None:
    code = (
        "import sys, tffjax\n"
        f"tffjax.__path__.append({str(Path(__file__).resolve().parents[1])!r})\n"
        "import tensorflow_datasets as tfds, tffjax.tfds.forensynths\n"
        f"builder = tfds.builder('forensynths', data_dir={str(out)!r}, file_format={form!r})\n"
        f"config = tfds.download.DownloadConfig(manual_dir={str(manual)!r})\n"
        "builder.download_and_prepare(download_config=config)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]


def address(prepared: Path, split: str, **options) -> str:
    query = "&".join(f"{name}={value}" for name, value in {"data_dir": prepared, **options}.items())
    return f"tfds:forensynths/{split}?{query}"


@pytest.mark.parametrize(
    ("split", "folders"),
    [
        ("biggan", ["test/biggan"]),
        ("biggan+progan", ["test"]),
        ("train", ["train"]),
        ("val", ["val"]),
    ],
)
def test_a_split_is_its_folder(manual, prepared, split, folders):
    files, examples = find_images([manual / name for name in folders]), find_images([address(prepared, split)])
    assert described(examples) == described(files)
    assert [file.stored.read() for file in examples] == [file.path.read_bytes() for file in files]
    assert fingerprint(examples, relative_names(examples)) == fingerprint(files, relative_names(files))


def test_the_examples_of_a_generator(manual, prepared):
    data = Path(address(prepared, "biggan+progan"))
    found = of_generator(data, "progan")
    assert str(found) == f"{data}&only=progan"
    whole, some = ([(file.path.name, file.label, file.category) for file in find_images([path])
                    if file.generator == "progan"] for path in (data, found))  # fmt: skip
    assert whole == some
    assert len(some) == len(find_images([found])) == 8
    assert of_generator(data, "stargan") is None


def test_predict_gives_the_same_tables(manual, prepared, tmp_path):
    whole = tables("predict", "decisive", manual / "test", "--crop", 8, "--out", tmp_path / "files")
    split = address(prepared, "biggan+progan")
    assert tables("predict", "decisive", split, "--crop", 8, "--out", tmp_path / "tfds") == whole


@pytest.mark.slow
@pytest.mark.parametrize("command", STUDIES)
def test_every_study_gives_the_same_bytes(command, manual, prepared, tmp_path):
    ranking = () if command == "rank" else ("--ranking", studies.make_ranking(tmp_path / "ranking.csv"))
    for out, place in (("files", manual / "test"), ("tfds", address(prepared, "biggan+progan"))):
        with studies.networks_by_name():
            done(command, "decisive", place, *ranking, *STUDIES[command], "--out", tmp_path / out, "--quiet")
    same_as(tmp_path / "tfds", tmp_path / "files")


@pytest.fixture(scope="module")
def mini(shared, tmp_path_factory) -> tuple[Path, str]:
    """Real images of ten generators as files, and prepared."""
    folder, out = tmp_path_factory.mktemp("mini"), tmp_path_factory.mktemp("prepared-mini")
    pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("tensorflow")
    (folder / "test").symlink_to(shared / "data" / "forensynths-mini")
    for split in ("train", "val"):
        save_image(folder / split / "progan/cat/0_real/0.png", 0, 8)
    prepare(folder, out, "array_record")
    names = sorted(path.name for path in (folder / "test").iterdir() if path.is_dir())
    return shared / "data" / "forensynths-mini", address(out, "+".join(names))


@pytest.mark.slow
@pytest.mark.parametrize("command", STUDIES)
def test_every_study_of_real_images_gives_the_same_bytes(command, mini, tmp_path):
    """As from files, with which lists and records are compared in `test_packing`."""
    ranking = () if command == "rank" else ("--ranking", studies.make_ranking(tmp_path / "ranking.csv"))
    for out, place in zip(("files", "tfds"), mini, strict=True):
        with studies.networks_by_name():
            done(command, "decisive", place, *ranking, *STUDIES[command], "--out", tmp_path / out, "--quiet")
    same_as(tmp_path / "tfds", tmp_path / "files")


READ = """
import sys
from tffjax.data import find_images
from tffjax.data.reading import read
from tffjax.data.preprocessing import Transform
files = find_images([sys.argv[1]])
assert len(files) == 13 and read(files[0], Transform()).shape == (8, 8, 3)
assert "tensorflow" not in sys.modules
"""


def test_tensorflow_is_not_imported(prepared):
    subprocess.run([sys.executable, "-c", READ, address(prepared, "biggan+progan")], check=True)


def test_what_is_not_there(prepared, manual, tmp_path):
    for text, line in {
        address(prepared, "stargan"): "there is no such split; there are .*biggan",
        address(prepared, "biggan", image="picture"): "no feature picture among",
        address(prepared, "biggan", label="kind"): "no feature kind among",
        address(prepared, "biggan", label="name"): "an example has the label biggan/.*--labels",
        address(tmp_path, "biggan"): "not prepared in",
    }.items():
        with pytest.raises(InputError, match=line):
            find_images([text])
    prepare(manual, tmp_path / "tfrecord", "tfrecord")
    with pytest.raises(InputError, match=r"prepared as tfrecord.* tfds convert_format .*array_record"):
        find_images([address(tmp_path / "tfrecord", "biggan")])


def test_features_of_other_names(prepared):
    files = find_images([address(prepared, "biggan", generator="category", category="generator")])
    assert {(file.generator, file.category) for file in files} == {("", "biggan")}
    assert np.bincount([file.label for file in files]).tolist() == [3, 2]


def test_the_builder_as_tfds_tests_it(manual, tmp_path):
    """TFDS's own test case: registered, documented, splits without a common example, serialized and back."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("tensorflow")
    import tffjax.tfds.forensynths as module

    class TestForensynths(tfds.testing.DatasetBuilderTestCase):
        DATASET_CLASS = module.Forensynths
        EXAMPLE_DIR = str(manual)
        SPLITS = {"train": 4, "val": 4, "biggan": 5, "progan": 8}  # noqa: RUF012  TFDS's form

    import unittest

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(TestForensynths).run(result)
    assert result.testsRun > 3
    for _, text in (*result.errors, *result.failures):
        pytest.fail(text)
