"""Checkpoints on disk: bit-exact, whole or absent, and refused with one clear line where they are neither."""

import dataclasses
import json
import shutil
from pathlib import Path

import cases
import jax
import numpy as np
import pytest
import torch

from tffjax.errors import InputError
from tffjax.nn import Model, checkpoint
from tffjax.nn.card import NORMALIZATIONS, VERSION, Card
from tffjax.nn.graph_options import GraphOptions


@pytest.fixture(scope="module")
def original() -> Model:
    return cases.B0_SAME.random_model(num_outputs=2)


@pytest.fixture(scope="module")
def written(original, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "detector"
    checkpoint.save(original, path)
    return path


@pytest.fixture
def copy(written, tmp_path) -> Path:
    """A checkpoint to spoil."""
    return shutil.copytree(written, tmp_path / "detector")


def refusal(path: Path) -> str:
    """The message with which `path` is refused: one line that names it."""
    with pytest.raises(InputError) as error:
        checkpoint.load(path)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 600  # a line that somebody reads, not a dump
    assert str(path) in message
    return message


def edit_card(path: Path, **changes) -> None:
    card = json.loads((path / "card.json").read_text())
    (path / "card.json").write_text(json.dumps(card | changes))


# Round trip


@pytest.mark.extended
@pytest.mark.parametrize("network", [cases.RESNET50, cases.B0_SYMMETRIC], ids=lambda network: network.name)
def test_round_trip_is_bit_exact(network, tmp_path):
    original = network.random_model(num_outputs=3)
    card = checkpoint.save(original, tmp_path / "deep" / "folder" / "weights")
    loaded = checkpoint.load(tmp_path / "deep" / "folder" / "weights")
    assert loaded.card == card == dataclasses.replace(original.card, weights_sha256=card.weights_sha256)
    assert loaded.module == original.module
    assert jax.tree.structure(loaded.variables) == jax.tree.structure(original.variables)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), loaded.variables, original.variables)


def test_weights_may_be_numpy_arrays(original, written, tmp_path):
    numpy = dataclasses.replace(original, variables=jax.tree.map(np.asarray, original.variables))
    assert checkpoint.save(numpy, tmp_path / "numpy") == checkpoint.read_card(written)


@pytest.mark.extended
def test_a_checkpoint_moves_and_may_be_named_relatively(copy, monkeypatch):
    moved = copy.rename(copy.with_name("elsewhere"))
    monkeypatch.chdir(moved.parent)
    assert checkpoint.load("elsewhere").card == checkpoint.load(moved).card


def test_loading_works_in_double_precision_mode(written, original, x64):
    loaded = checkpoint.load(written)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), loaded.variables, original.variables)


def test_the_card_survives_json():
    card = Card("resnet50", 1000, GraphOptions(), NORMALIZATIONS["caffe"], "real", "a.pth", "1" * 64, "2" * 64)
    assert Card.from_json(card.to_json()) == card


def test_the_digest_sees_values_names_shapes_and_types(original):
    array = np.arange(6, dtype=np.float32)
    trees = [
        {"a": array},
        {"b": array},
        {"a": array.reshape(2, 3)},
        {"a": array.astype(np.float64)},
        {"a": np.where(array == 3, np.float32(3.0000002), array)},
    ]
    assert len({checkpoint.digest(tree) for tree in trees}) == len(trees)
    order = {"b": array, "a": array + 1}
    assert checkpoint.digest(order) == checkpoint.digest(dict(reversed(order.items())))


# Writing


def test_an_existing_checkpoint_is_kept(original, copy):
    before = checkpoint.read_card(copy)
    with pytest.raises(InputError, match="exists already"):
        checkpoint.save(cases.B0_SAME.random_model(seed=1), copy)
    assert checkpoint.load(copy).card == before


def test_overwrite_replaces_a_checkpoint(copy):
    other = cases.B0_SAME.random_model(seed=1)
    card = checkpoint.save(other, copy, overwrite=True)
    assert checkpoint.load(copy).card == card
    assert [path.name for path in copy.parent.iterdir()] == ["detector"]


def test_overwrite_does_not_replace_what_is_no_checkpoint(original, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(InputError, match="is not a checkpoint, so it is not overwritten"):
        checkpoint.save(original, tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_a_model_without_card_is_refused(original, tmp_path):
    with pytest.raises(InputError, match="without a card"):
        checkpoint.save(dataclasses.replace(original, card=None), tmp_path / "weights")
    assert not any(tmp_path.iterdir())


def test_the_first_leaf_that_differs_from_the_record_is_named(original, tmp_path):
    params = dict(original.variables["params"])
    head = {**params["_fc"], "bias": np.zeros(7, np.float32)}
    for changed, message in (
        ({**params, "_fc": head}, r"params/_fc/bias is float32 \(7,\), not float32 \(2,\)"),
        ({**params, "more": head}, r"params/more/\w+ is float32 \(.*\), not nothing"),
        ({name: params[name] for name in params if name != "_fc"}, r"params/_fc/\w+ is nothing, not float32"),
    ):
        with pytest.raises(InputError, match=f"as trained, batch norms not folded, can be saved: {message}"):
            checkpoint.save(
                dataclasses.replace(original, variables={**original.variables, "params": changed}), tmp_path / "a"
            )


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(original, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(Card, "to_json", fail)  # the weights are on disk by then
    with pytest.raises(type(error)):
        checkpoint.save(original, tmp_path / "weights")
    assert not any(tmp_path.iterdir())


def test_an_interrupted_overwrite_keeps_the_old_checkpoint(original, copy, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Card, "to_json", fail)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(cases.B0_SAME.random_model(seed=1), copy, overwrite=True)
    monkeypatch.undo()
    assert checkpoint.load(copy).card.weights_sha256 == checkpoint.digest(original.variables)
    assert [path.name for path in copy.parent.iterdir()] == ["detector"]


# Refusals


def test_nothing_there(tmp_path):
    assert "no such checkpoint" in refusal(tmp_path / "none")


def test_a_pytorch_file(tmp_path):
    path = tmp_path / "detector.pth"
    torch.save({"model": {}}, path)
    assert f"convert it first: tffjax convert {path}" in refusal(path)


def test_a_folder_of_something_else(tmp_path):
    assert "has no card.json" in refusal(tmp_path)


def test_a_missing_card(copy):
    (copy / "card.json").unlink()
    assert "has no card.json" in refusal(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": "2.0"}', '{"architecture": "resnet50"}'])
def test_a_damaged_card(copy, text):
    (copy / "card.json").write_text(text)
    assert "the card is damaged" in refusal(copy)


def test_a_card_that_is_no_text(copy):
    (copy / "card.json").write_bytes(b"\xff\xfe\x00")
    assert "the card is damaged" in refusal(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "vgg16"},
        {"graph": {"padding": "reflect"}},
        {"graph": dataclasses.asdict(GraphOptions()) | {"stem_stride": 3}},
        {"graph": None},
        {"graph_source": "guessed"},
        {"fake_output": 2},
        {"num_outputs": "two"},
        {"epsilon": None},
        {"high_means": "maybe"},
        {"normalization": {"mean": [0, 0], "std": [1, 1, 1], "order": "rgb"}},
        {"comment": "an unknown field"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_card_with_an_impossible_field(copy, change):
    edit_card(copy, **change)
    assert "the card is damaged" in refusal(copy)


def test_a_card_of_another_major_version(copy):
    edit_card(copy, version="1.0")
    message = refusal(copy)
    assert "version 1.0" in message
    assert VERSION in message


def test_a_card_of_another_minor_version_is_read(copy):
    edit_card(copy, version=f"{VERSION.split('.')[0]}.9")
    checkpoint.load(copy)


@pytest.mark.parametrize(
    "change",
    [{"architecture": "resnet50", "graph": dataclasses.asdict(GraphOptions())}, {"num_outputs": 1000}],
    ids=["architecture", "num_outputs"],
)
def test_weights_of_another_network_than_the_card_says(copy, change):
    edit_card(copy, **change)
    assert "not a" in refusal(copy)


def test_a_flipped_byte_among_the_weights(copy):
    largest = max((path for path in (copy / "weights").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    assert "weights" in refusal(copy)


@pytest.mark.extended
def test_any_missing_file_of_the_weights(written, tmp_path):
    names = sorted(path.relative_to(written) for path in (written / "weights").rglob("*") if path.is_file())
    assert names
    for number, name in enumerate(names):
        spoiled = shutil.copytree(written, tmp_path / f"{number}")
        (spoiled / name).unlink()
        assert "damaged" in refusal(spoiled)
        shutil.rmtree(spoiled)


def test_a_truncated_file_of_the_weights(copy):
    largest = max((path for path in (copy / "weights").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    assert "damaged" in refusal(copy)


def test_missing_weights(copy):
    shutil.rmtree(copy / "weights")
    assert "damaged, half-written" in refusal(copy)


@pytest.mark.extended
def test_weights_that_were_exchanged_under_the_card(copy, tmp_path):
    # a valid checkpoint, but not the one that the card was written for
    other = checkpoint.save(cases.B0_SAME.random_model(num_outputs=2, seed=1), tmp_path / "other")
    shutil.rmtree(copy / "weights")
    shutil.copytree(tmp_path / "other" / "weights", copy / "weights")
    assert other.weights_sha256 != checkpoint.read_card(copy).weights_sha256
    assert "exchanged" in refusal(copy)
    shutil.copy(tmp_path / "other" / "files.json", copy / "files.json")
    assert "do not have the hash" in refusal(copy)


def test_what_appears_where_a_checkpoint_is_written_stays(written, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("mine")
    variables = checkpoint.load(written).variables
    with pytest.raises(InputError, match="thesis is not a checkpoint, so it is not overwritten"):
        checkpoint.write(tmp_path / "thesis", variables, "{}", overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "text"]
