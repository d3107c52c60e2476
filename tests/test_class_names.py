"""Names of outputs: read from files, kept in the card, and matched with what data say of their images."""

import dataclasses
from pathlib import Path

import cases
import numpy as np
import pytest

from tffjax.data import ImageFile
from tffjax.errors import InputError
from tffjax.nn.card import Card
from tffjax.nn.class_names import output_of, output_text, read_class_names
from tffjax.studies.classes import classes_of
from tffjax.studies.predictions import prediction_table

NAMES = ("tench, Tinca tinca", "crane", "crane, bird")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "tench, Tinca tinca\n crane\ncrane, bird"),
        ("a.json", '["tench, Tinca tinca", "crane", "crane, bird"]'),
        ("a.json", '{"1": "crane", "2": ["crane", "bird"], "0": ["tench", "Tinca tinca"]}'),
        ("a.json", '{"crane": 1, "crane, bird": 2, "tench, Tinca tinca": 0}'),
    ],
)
def test_names_in_every_form(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert read_class_names(tmp_path / name, 3) == NAMES


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a\nb", "has 2 names, and the network has 3 outputs"),
        ("a.txt", "a\n\nb", "the name of output 1 is empty"),
        ("a.json", '{"0": "a", "2": "b", "3": "c"}', "not names of classes"),
        ("a.json", "[1, 2, 3]", "not names of classes"),
        ("a.json", "3", "not names of classes"),
        ("a.json", "tench\n", "not names of classes"),
        ("b.txt", "\udcff", "not names of classes"),
    ],
)
def test_files_that_hold_no_names(name, text, message, tmp_path):
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=message):
        read_class_names(tmp_path / name, 3)


def test_a_file_of_names_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_class_names(tmp_path / "none.txt", 3)


@pytest.mark.parametrize(
    ("text", "output"), [("0", 0), ("3", None), ("tench", 0), ("Tinca tinca", 0), ("crane", None), ("crane, bird", 2)]
)
def test_an_output_by_index_name_or_synonym(text, output):
    assert output_of(text, NAMES, 3) == output


def test_a_number_that_is_another_outputs_name_means_neither():
    assert output_of("1", ("1", "2", "3"), 3) is None
    assert output_of("1", ("0", "1", "2"), 3) == 1


def named(names=NAMES) -> Card:
    return dataclasses.replace(cases.RESNET50.card(3), class_names=names)


def test_names_survive_in_the_card():
    assert Card.from_json(named().to_json()) == named()
    assert named().output_text(1) == "output 1 (crane)"
    assert output_text(1, None) == cases.RESNET50.card(3).output_text(1) == "output 1"
    with pytest.raises(InputError, match="names of classes"):
        Card.from_json(named(NAMES[:2]).to_json())


def test_classes_by_category_or_else_by_folder():
    files = [
        ImageFile(Path("x/2/a.png")),
        ImageFile(Path("x/tench/a.png")),
        ImageFile(Path("gan/crane, bird/0_real/a.png"), 0, "gan", "crane, bird"),
    ]
    assert classes_of(files, named()).tolist() == [2, 0, 2]
    for files, card, message in (
        ([ImageFile(Path("x/crane/a.png"))], named(), r"x/crane/a.png: 'crane' is not one class"),
        ([ImageFile(Path("tench/a.png"))], named(None), "names need tffjax convert --class-names"),
        ([ImageFile(Path("3/a.png"))], named(), "whose 3 outputs count from 0"),
        ([ImageFile(Path("a.png"))], named(), "'no folder' is not one class"),
    ):
        with pytest.raises(InputError, match=message):
            classes_of(files, card)


def test_predictions_have_names():
    table = prediction_table(named(), [ImageFile(Path("a")), ImageFile(Path("b"))], np.eye(3, dtype=np.float32)[[0, 2]])
    assert table["class"].to_pylist() == ["tench, Tinca tinca", "crane, bird"]
    assert table.column_names[4:] == ["output", "class", "logit", "probability"]
